"""A cluster whose active keys change, node by node, while API servers write, migrate, back up and restore.

Nodes run configurations that differ for a while. The operator releases one configuration after the other; nodes take
up the one that was released last, whenever they do. Of a ciphertext only the keys matter that its local KEK is wrapped
under, its *record*: any one of them opens it.

The invariant: on every node, each record in etcd has a key that is configured and usable there.

What the model knows and a simpler one would not: a configured key that this node may not use; an API server that goes
on writing under its old seed after its plugin has moved on; nodes that are replaced, and join with an empty state
directory under the configuration released last; a state directory that is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from .search import Outcome, search

OLD, NEW = "a", "b"
Record = frozenset[str]


class Config(NamedTuple):
    """The members of the endpoint."""

    active: Record
    decrypt: frozenset[str] = frozenset()

    @property
    def keys(self) -> frozenset[str]:
        return self.active | self.decrypt

    def __str__(self) -> str:
        return "+".join(sorted(self.active)) + "".join(f", {key} decrypt" for key in sorted(self.decrypt))


def _config(active: str, decrypt: str = "") -> Config:
    return Config(frozenset(active), frozenset(decrypt))


REPLACE = (_config("a"), _config("a", "b"), _config("b", "a"), _config("b"))
"""One key replaced by another: the four configurations, in order."""
AT_ONCE = (_config("a"), _config("b", "a"))
"""The same without the second one."""
ALL = (_config("a"), _config("a", "b"), _config("ab"), _config("b", "a"), _config("b"))
"""Everything that can be configured with two keys."""

Barrier = Literal["none", "configured", "usable"]
Look = Literal["etcd", "backups", "nodes", "API servers"]
EVERYWHERE: frozenset[Look] = frozenset(("etcd", "backups", "nodes", "API servers"))


@dataclass(frozen=True)
class Rules:
    """How a change is made."""

    configs: tuple[Config, ...] = REPLACE
    nodes: int = 2
    in_order: bool = True
    """Only the next or the previous configuration may be released, or else any."""
    back: bool = True
    """The operator may go back."""
    barrier: Barrier = "usable"
    """What is asked of every node about the keys that a release makes active: nothing, that it has them configured, or
    that it can also use them, which `PROVEN` means."""
    looks: frozenset[Look] = EVERYWHERE
    """Where a release that takes a key away looks for what needs it: records in etcd and in backups, nodes that write
    or will write under it, API servers that have a seed under it."""
    permitted: bool = False
    """Every node may use the new key from the start; or else permission comes some time, node by node."""
    soak: int = 0
    """Ticks that a plugin waits after it first saw a key before it writes under it. An empty state directory does not
    wait."""
    spread: int = 0
    """With a soak: ticks within which the new key is configured on all nodes."""
    replaced: Literal["never", "current", "older"] = "current"
    """Whether nodes are replaced, and which configuration the new ones bring: that released last, or an older one."""
    lost: bool = True
    """Whether a node may lose its state directory."""


class Node(NamedTuple):
    """One control-plane node: a plugin and an API server."""

    config: Config
    usable: bool
    """Whether the KMS lets this node use the new key. The old one it may always use."""
    waited: int
    writes: Record
    """The record in use."""
    seed: Record
    """The record that the API server's seed is under, with which it writes."""

    @property
    def opens(self) -> frozenset[str]:
        return self.config.keys if self.usable else self.config.keys - {NEW}

    def can_make(self, active: Record) -> bool:
        """A local KEK is made only if every active key wraps and unwraps."""
        return self.usable or NEW not in active


class State(NamedTuple):
    """The cluster."""

    nodes: tuple[Node, ...]
    etcd: frozenset[Record]
    backups: frozenset[Record]
    released: Config
    age: int
    """Ticks since the new key was first released."""


def explore(rules: Rules) -> Outcome:
    """Look at everything that can happen under these rules."""
    first = rules.configs[0]
    node = Node(first, rules.permitted, 0, first.active, first.active)
    used = frozenset({first.active})
    initial = State((node,) * rules.nodes, used, used, first, 0)
    return search(initial, lambda state: _events(rules, state), _breach, lambda state: _over(rules, state), _same)


def _same(state: State) -> State:
    """Nodes differ by name only."""
    return state._replace(nodes=tuple(sorted(state.nodes, key=hash)))


def _breach(state: State) -> str | None:
    for number, node in enumerate(state.nodes, 1):
        for record in sorted(state.etcd, key=sorted):
            if not record & node.opens:
                why = "may not use" if record & node.config.keys else "has not"
                return f"node {number} {why} {'+'.join(sorted(record))}, which etcd needs"
    return None


def _over(rules: Rules, state: State) -> bool:
    last = rules.configs[-1]
    done = {last.active}
    return state.etcd == state.backups == done and all(node.config == last for node in state.nodes)


def _events(rules: Rules, state: State) -> Iterator[tuple[str, State]]:
    for config in _releasable(rules, state):
        yield f"release: {config}", state._replace(released=config)
    for number, node in enumerate(state.nodes, 1):
        for event, after in _of_node(rules, state, node):
            nodes = (*state.nodes[: number - 1], after, *state.nodes[number:])
            yield f"node {number} {event}", state._replace(nodes=nodes)
        under = "+".join(sorted(node.seed))
        yield f"API server {number} writes under {under}", state._replace(etcd=state.etcd | {node.seed})
        yield f"everything is rewritten through API server {number}", state._replace(etcd=frozenset({node.seed}))
    yield "backup", state._replace(backups=state.backups | state.etcd)
    yield "backup, and the older ones are deleted", state._replace(backups=state.etcd)
    yield "restore", state._replace(etcd=state.etcd | state.backups)
    if rules.soak and _time_may_pass(rules, state):
        nodes = tuple(
            node._replace(waited=min(node.waited + 1, rules.soak)) if NEW in node.config.keys else node
            for node in state.nodes
        )
        age = min(state.age + 1, rules.spread) if NEW in state.released.keys or state.age else 0
        yield "time passes", state._replace(nodes=nodes, age=age)


def _of_node(rules: Rules, state: State, node: Node) -> Iterator[tuple[str, Node]]:
    if node.config != state.released:
        waited = node.waited if NEW in state.released.keys else 0
        yield f"takes up: {state.released}", node._replace(config=state.released, waited=waited)
    if not node.usable:
        yield "gets permission", node._replace(usable=True)
    active = node.config.active
    if node.writes != active and node.can_make(active):
        if not rules.soak or NEW not in active or node.waited >= rules.soak:
            yield f"makes a KEK under {'+'.join(sorted(active))}", node._replace(writes=active)
        if rules.lost:
            yield "loses its state directory", node._replace(writes=active, waited=0)
    if node.seed != node.writes:
        yield "gives its API server a new seed", node._replace(seed=node.writes)
    for config in _of_new_nodes(rules, state):
        if node.can_make(config.active):
            yield f"is replaced by one with: {config}", Node(config, node.usable, 0, config.active, config.active)


def _of_new_nodes(rules: Rules, state: State) -> tuple[Config, ...]:
    match rules.replaced:
        case "never":
            return ()
        case "current":
            return (state.released,)
        case "older":
            return rules.configs[: rules.configs.index(state.released) + 1]


def _time_may_pass(rules: Rules, state: State) -> bool:
    return state.age < rules.spread or all(NEW in node.config.keys for node in state.nodes)


def _releasable(rules: Rules, state: State) -> Iterator[Config]:
    at = rules.configs.index(state.released)
    for number, config in enumerate(rules.configs):
        if number == at or (rules.in_order and abs(number - at) > 1) or (number < at and not rules.back):
            continue
        if _barrier_is_open(rules, state, config) and not _is_needed(rules, state, config):
            yield config


def _barrier_is_open(rules: Rules, state: State, config: Config) -> bool:
    match rules.barrier:
        case "none":
            return True
        case "configured":
            return all(config.active <= node.config.keys for node in state.nodes)
        case "usable":
            return all(config.active <= node.opens for node in state.nodes)


def _is_needed(rules: Rules, state: State, config: Config) -> bool:
    """Whether something, where the rules look, could not be opened with the keys of this configuration."""
    found: set[Record] = set()
    if "etcd" in rules.looks:
        found |= state.etcd
    if "backups" in rules.looks:
        found |= state.backups
    for node in state.nodes:
        if "nodes" in rules.looks:
            found |= {node.writes, node.config.active}
        if "API servers" in rules.looks:
            found.add(node.seed)
    return any(not record & config.keys for record in found)


def variants() -> dict[str, Rules]:
    """How a change may be made, by name: ways that leave a part out, then this project's."""
    ours = Rules()
    soak = Rules(
        REPLACE[:3], back=False, barrier="none", permitted=True, soak=4, spread=3, replaced="never", lost=False
    )
    return {
        "at once, without a decrypt step": replace(ours, configs=AT_ONCE, barrier="none"),
        "decrypt step, no barrier": replace(ours, barrier="none"),
        "barrier on what is configured, whether usable or not": replace(ours, barrier="configured"),
        "barrier; a key goes without a look at anything": replace(ours, looks=frozenset()),
        **{
            f"barrier; a key goes without a look at {look}": replace(ours, looks=EVERYWHERE - {look})
            for look in sorted(EVERYWHERE)
        },
        "barrier; new nodes bring an older configuration": replace(ours, replaced="older"),
        "no barrier, soak of 2, spread within 4": replace(soak, soak=2, spread=4),
        "no barrier, soak of 4, spread within 3, a node replaced": replace(soak, replaced="current"),
        "no barrier, soak of 4, spread within 3, a state directory lost": replace(soak, lost=True),
        "no barrier, soak of 4, spread within 3": soak,
        "barrier; a key goes after a look at all four": ours,
        ANY_ORDER: replace(ours, configs=ALL, in_order=False),
    }


ANY_ORDER = "the same, any configuration of two keys after any"
