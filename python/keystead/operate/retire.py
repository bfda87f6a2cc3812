"""Whether a remote key can be taken away without a loss. Any doubt counts as no."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from keystead.operate.remote_keys import EndpointKeys, NodeKeys, RemoteKey, Wanted, online_wraps
from keystead.operate.survey import Survey

FRESH_SECONDS = 900
"""What a node said longer ago proves nothing about it."""

Verdict = Literal["needed", "unknown", "free"]


@dataclass(frozen=True, slots=True)
class Use:
    """What one store needs of a key."""

    store: str
    is_live: bool
    """Whether it is a running etcd; else a backup."""
    needed: int
    """Objects that no key that stays can open."""
    redundant: int
    """Objects that lose one of several keys."""
    objects: int
    """All objects that Keystead encrypted."""
    foreign: int
    """Objects under other KMS plugins, which may use the same remote key: nobody here can tell."""
    damaged: int


@dataclass(frozen=True, slots=True)
class Check:
    """The answer."""

    wanted: Wanted
    uses: tuple[Use, ...]
    nodes: tuple[tuple[str, str], ...]
    """Of each node how it uses the key; empty if it does not."""
    staying: tuple[RemoteKey, ...]
    """Keys that were counted on."""
    needs: tuple[str, ...]
    """Why it is needed."""
    doubts: tuple[str, ...]
    """What was not found out."""

    @property
    def verdict(self) -> Verdict:
        """`free` only if everything that can be asked was asked."""
        return "needed" if self.needs else "unknown" if self.doubts else "free"


def check(
    wanted: Wanted,
    stores: Sequence[tuple[str, bool, Survey]],
    nodes: Sequence[NodeKeys],
    kept: Collection[RemoteKey],
    unread: Sequence[str],
) -> Check:
    """Judge. `stores` are a name, whether it is live, and what is in it; `unread` says what could not be looked at."""
    staying = _staying(wanted, nodes) | (set(kept) - ({wanted.key} if wanted.version is None else set()))
    uses = tuple(_use(wanted, name, is_live, survey, staying) for name, is_live, survey in stores)
    used_by = tuple((node.name, _used(wanted, node)) for node in nodes)
    needs = [f"{use.store}: {use.needed} objects can only be opened with it" for use in uses if use.needed]
    needs += [f"node {name}: {how}" for name, how in used_by if how]
    doubts = [*unread, *_doubts(wanted, uses, nodes)]
    return Check(wanted, uses, used_by, tuple(sorted(staying)), tuple(needs), tuple(doubts))


def _staying(wanted: Wanted, nodes: Iterable[NodeKeys]) -> set[RemoteKey]:
    """The keys that every node has, and can use, wherever it has the wanted one: these will open what it opened."""
    endpoints = [endpoint for node in nodes for endpoint in node.endpoints]
    with_it = [endpoint for endpoint in endpoints if wanted.key in endpoint.members] or endpoints
    if not with_it:
        return set()
    common = set.intersection(*(_usable(endpoint) for endpoint in with_it))
    return common if wanted.version is not None else common - {wanted.key}


def _usable(endpoint: EndpointKeys) -> set[RemoteKey]:
    return {key for key, member in endpoint.members.items() if member.online and member.up}


def _use(wanted: Wanted, store: str, is_live: bool, survey: Survey, staying: set[RemoteKey]) -> Use:
    needed = redundant = objects = foreign = damaged = 0
    for row in survey.rows:
        record = row.holder.record
        if row.holder.problem:
            damaged += row.objects
        elif record is None:
            foreign += row.objects if row.holder.kind.startswith("kms:") else 0
        else:
            objects += row.objects
            if not any(wanted.covers(RemoteKey(wrap.scheme, wrap.ref), wrap.version) for wrap in record.wraps):
                continue
            # A recovery wrap is no way for a running plugin, so it does not count as another one.
            if any(key in staying and not wanted.covers(key, version) for key, version in online_wraps(record)):
                redundant += row.objects
            else:
                needed += row.objects
    return Use(store, is_live, needed, redundant, objects, foreign, damaged)


def _used(wanted: Wanted, node: NodeKeys) -> str:
    for endpoint in node.endpoints:
        if any(wanted.covers(key, version) for key, version in endpoint.in_use):
            return f"its endpoint {endpoint.name} encrypts under it"
        member = endpoint.members.get(wanted.key)
        if member is not None and member.active and member.online and wanted.version is None:
            return f"its endpoint {endpoint.name} has it active"
    return ""


def _doubts(wanted: Wanted, uses: Sequence[Use], nodes: Sequence[NodeKeys]) -> Iterable[str]:
    if not any(use.is_live for use in uses):
        yield "the running etcd was not checked: give --etcd"
    if not nodes:
        yield "nodes were not checked, and may encrypt under it: give --from for each"
    for node in nodes:
        if not -FRESH_SECONDS <= node.age <= FRESH_SECONDS:
            yield f"node {node.name}: its status is older than {FRESH_SECONDS // 60} minutes: take a new one"
        for endpoint in node.endpoints:
            if not endpoint.has_record:
                yield f"node {node.name}: endpoint {endpoint.name} has no local KEK yet"
            for name in endpoint.unknown:
                yield f"node {node.name}: key {name} could not be opened there, so it may be {wanted.key}"
        for plugin in sorted(_reads(wanted, node)):
            yield from (
                f"{use.store}: {use.foreign} objects are under other KMS plugins, and node {node.name} reads what "
                f"{plugin} wrote with this key: rewrite them, then take compat away from the key"
                for use in uses
                if use.foreign
            )
    for use in uses:
        if use.damaged:
            yield f"{use.store}: {use.damaged} objects are damaged, see keystead inventory"


def _reads(wanted: Wanted, node: NodeKeys) -> set[str]:
    """The other plugins whose ciphertexts a node reads with the wanted key: those may need it too."""
    members = (endpoint.members.get(wanted.key) for endpoint in node.endpoints)
    return {member.reads for member in members if member is not None and member.reads is not None}
