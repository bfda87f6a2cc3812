"""Whether the nodes of a cluster agree, and if not, on what, and what to do.

This is the barrier of a rollout: no node may have a key as `active` before every node has proven that it can use it,
and nothing may be rewritten or retired before all show the same `key_id` (docs/spec/rollout.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keystead.operate.nodes import Endpoint, Key, Node

MAX_AGE = 900.0
"""Seconds after which what a node said is no longer taken for what is."""

Placed = Mapping[str, Endpoint]
"""One endpoint, by the node that it is on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which nodes differ, or that is not as it should be."""

    where: str
    """A node, an endpoint, or `endpoint/key`."""
    what: str
    todo: str
    danger: bool = False
    """Whether a node may be unable to read what another one writes."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.todo}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a comparison."""

    nodes: Sequence[Node]
    unknown: Sequence[str]
    """What could not be found out."""
    differences: Sequence[Difference]
    notes: Sequence[str]

    @property
    def agree(self) -> bool:
        """Whether everything was found out and nothing differs."""
        return not self.unknown and not self.differences


def judge(
    nodes: Sequence[Node], unknown: Sequence[str] = (), *, rotated: bool = False, epoch: int | None = None
) -> Verdict:
    """Compare nodes; `unknown` are those that could not be read.

    With `rotated` each node must also encrypt under the epoch that its configuration says, which must be `epoch` if
    that is given.
    """
    old = [f"{node.name}: said this {node.age / 60:.0f} min ago: fetch it anew" for node in nodes if node.age > MAX_AGE]
    twice = [name for name, count in Counter(node.name for node in nodes).items() if count > 1]
    again = [f"{name}: is given twice: give one status of each node" for name in twice]
    found = [*_of_nodes(nodes)]
    for name in dict.fromkeys(name for node in nodes for name in node.endpoints):
        found += _of_endpoint(name, nodes)
        if rotated:
            found += _of_rotation(name, nodes, epoch)
    found.sort(key=lambda difference: not difference.danger)
    return Verdict(nodes, [*unknown, *old, *again], found, [*_notes(nodes)])


def _of_nodes(nodes: Sequence[Node]) -> Iterator[Difference]:
    clusters = _by_value({node.name: node.cluster for node in nodes})
    if len(clusters) > 1:
        yield Difference("cluster", _told(clusters), "give all nodes the same label; see docs/spec/rollout.md")
    for node in nodes:
        for problem in node.problems:
            yield Difference(node.name, f"its configuration file is not in use: {problem}", "mend the file")


def _of_endpoint(name: str, nodes: Sequence[Node]) -> Iterator[Difference]:
    placed = {node.name: node.endpoints[name] for node in nodes if name in node.endpoints}
    missing = [node.name for node in nodes if name not in node.endpoints]
    if missing:
        yield Difference(name, f"{_list(missing)} has no such endpoint", "give all nodes the same configuration")
    for key in dict.fromkeys(key for endpoint in placed.values() for key in endpoint.keys):
        yield from _of_key(f"{name}/{key}", {node: endpoint.keys.get(key) for node, endpoint in placed.items()})
    epochs = _by_value({node: str(endpoint.configured_epoch) for node, endpoint in placed.items()})
    if len(epochs) > 1:
        behind = epochs[min(epochs, key=int)]
        todo = f"finish the rollout of the configuration on {_list(behind)}"
        yield Difference(name, f"different epochs are configured: {_told(epochs)}", todo)
    yield from _of_key_id(name, placed, rolling=len(epochs) > 1)
    for node, endpoint in placed.items():
        if endpoint.refused is not None:
            yield Difference(name, f"{node} refuses its configuration: {endpoint.refused}", "do what it says there")
        if endpoint.overdue is not None:
            yield Difference(name, f"{node} has an old local KEK: {endpoint.overdue}", "mend the key that it names")
        if not endpoint.healthy:
            yield Difference(name, f"{node} is not healthy: {endpoint.healthz}", "mend that first")


def _of_rotation(name: str, nodes: Sequence[Node], epoch: int | None) -> Iterator[Difference]:
    for node in nodes:
        endpoint = node.endpoints.get(name)
        if endpoint is None:
            continue
        if epoch is not None and endpoint.configured_epoch != epoch:
            what = f"{node.name} is configured for epoch {endpoint.configured_epoch} and not {epoch}"
            yield Difference(name, what, "finish the rollout of the configuration")
        if endpoint.epoch_in_use != endpoint.configured_epoch:
            what = f"{node.name} encrypts under epoch {endpoint.epoch_in_use or 'none'} still"
            yield Difference(name, what, "wait; its status says what it waits for")


def _of_key(where: str, keys: Mapping[str, Key | None]) -> Iterator[Difference]:
    present = {node: key for node, key in keys.items() if key is not None}
    writing = [node for node, key in present.items() if key.stage == "active"]
    missing = [node for node, key in keys.items() if key is None]
    if missing and writing:
        what = f"{_list(missing)} cannot read what {_list(writing)} writes: it has no such key"
        yield Difference(where, what, f"add it there with stage decrypt, now: {_list(missing)}", danger=True)
    elif missing:
        yield Difference(
            where, f"{_list(missing)} has no such key", "add it there with stage decrypt, or take it away on all"
        )
    for field in ("stage", "role", "provider", "ref"):
        values = _by_value({node: getattr(key, field) for node, key in present.items()})
        if len(values) > 1:
            todo = "finish the rollout" if field == "stage" else "a name must mean the same key on all nodes"
            yield Difference(where, f"different {field}: {_told(values)}", todo)
    for node, key in present.items():
        if key.role == "online" and not key.proven:
            why = key.error or "it has not wrapped and unwrapped a value with it yet"
            todo = "mend it" if key.error is not None else "wait a minute and look again; or it may not wrap"
            todo += "; let no node have it active before" if key.stage == "decrypt" else ""
            danger = bool(writing) and key.stage != "active"
            yield Difference(where, f"not proven on {node}: {why}", todo, danger=danger)


def _of_key_id(name: str, placed: Placed, *, rolling: bool) -> Iterator[Difference]:
    """Different ones under one epoch come from a refusal, from different versions, or from other configurations."""
    names = {endpoint.key_id_hash: endpoint.key_id for endpoint in placed.values() if endpoint.key_id}
    shown = _by_value({node: names.get(one.key_id_hash, one.key_id_hash) for node, one in placed.items()})
    if len(shown) < 2 or rolling:
        return
    todo = "compare their configurations"
    versions = [*_versions(placed)]
    if any(endpoint.refused is not None for endpoint in placed.values()):
        todo = "it comes from the refusal"
    elif versions:
        todo = "wait, for each node finds a new version by itself"
    yield Difference(name, "; ".join([f"different key_ids: {_told(shown)}", *versions]), todo)


def _versions(placed: Placed) -> Iterator[str]:
    for key in dict.fromkeys(key for endpoint in placed.values() for key in endpoint.keys):
        known = {node: one.keys[key].version for node, one in placed.items() if key in one.keys}
        values = _by_value(known)
        if len(values) > 1:
            yield f"{key} is in version {_told(values)}"


def _notes(nodes: Sequence[Node]) -> Iterator[str]:
    versions = _by_value({node.name: node.version for node in nodes})
    if len(versions) > 1:
        yield f"different releases of keystead: {_told(versions)}"
    first = nodes[0] if nodes else None
    for name in first.endpoints if first is not None else ():
        placed = [node.endpoints.get(name) for node in nodes]
        for key in first.endpoints[name].keys if first is not None else ():
            found = [endpoint.keys.get(key) for endpoint in placed if endpoint is not None]
            yield from _readiness(f"{name}/{key}", [one for one in found if one is not None], len(nodes))


def _readiness(where: str, found: Sequence[Key], nodes: int) -> Iterator[str]:
    """Whether a key that decrypts everywhere may become active, if it is a new one."""
    staged = [key for key in found if key.stage == "decrypt" and key.role == "online"]
    if len(staged) < nodes or not all(key.proven for key in staged):
        return
    left = max(key.soak_left for key in staged)
    when = (
        "is proven on every node and may become active"
        if left <= 0
        else (f"is proven on every node and may become active in {left / 60:.0f} min")
    )
    yield f"{where} {when}"


def _by_value(values: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Node names by what they say; those that do not say it are left out."""
    found: dict[str, list[str]] = {}
    for node, value in values.items():
        if value is not None:
            found.setdefault(value, []).append(node)
    return found


def _told(values: Mapping[str, Iterable[str]]) -> str:
    return ", ".join(f"{value or 'none'} on {_list(nodes)}" for value, nodes in values.items())


def _list(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
