"""One key that gets new versions, seen through replicas of its KMS that lag.

Three things may go wrong. The key_id names another version than the one that wrapped; a node shows a key_id that it
had left; and a node writes under a version that another node's replica does not know yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from .search import Outcome, search


@dataclass(frozen=True)
class Rules:
    """How a node follows the versions of a key."""

    named: bool = True
    """A wrap asks for the version that the poll found; or else the replica that wraps takes what it has for primary."""
    ratchet: bool = True
    """Only a higher version is followed."""
    delay: int = 3
    """Ticks for which a version must have been seen before it is used."""
    lag: int = 2
    """Ticks within which every replica knows a new version."""
    lost: bool = False
    """Whether a node may lose its state directory."""
    nodes: int = 2


class Node(NamedTuple):
    """A plugin, and the replica of the KMS that it talks to."""

    knows: int = 1
    """The highest version that the replica has."""
    seen: int = 0
    """Ticks since it has it."""
    shows: int = 1
    """The version in the key_id."""
    wrapped: int = 1
    """The version that wrapped the local KEK in use; 0 while there is none."""
    left: int = 0
    """The highest version that it showed before this one."""


class State(NamedTuple):
    """The cluster and its key."""

    nodes: tuple[Node, ...]
    primaries: frozenset[int]
    """The versions that were primary at some time: a replica may answer with any of them that it knows."""
    primary: int
    age: int
    """Ticks since version 2 was made."""
    etcd: frozenset[int]


def explore(rules: Rules) -> Outcome:
    """Look at everything that can happen under these rules."""
    initial = State((Node(),) * rules.nodes, frozenset({1}), 1, 0, frozenset({1}))
    return search(initial, lambda state: _events(rules, state), _breach, _over, _same)


def _same(state: State) -> State:
    return state._replace(nodes=tuple(sorted(state.nodes)))


def _over(state: State) -> bool:
    return state.etcd == {2} and all(node.shows == node.wrapped == 2 for node in state.nodes)


def _breach(state: State) -> str | None:
    for number, node in enumerate(state.nodes, 1):
        if node.wrapped and node.shows != node.wrapped:
            return f"node {number} shows version {node.shows} and wraps under {node.wrapped}"
        if node.shows < node.left:
            return f"node {number} shows version {node.shows} again, after {node.left}"
        if max(state.etcd) > node.knows:
            return f"the replica of node {number} cannot open version {max(state.etcd)}"
    return None


def _events(rules: Rules, state: State) -> Iterator[tuple[str, State]]:
    if 2 not in state.primaries:
        yield "the key is rotated to version 2", state._replace(primaries=frozenset({1, 2}), primary=2)
    else:
        back = 3 - state.primary
        yield f"version {back} is made primary", state._replace(primary=back)
        if state.age < rules.lag or all(node.knows == 2 for node in state.nodes):
            yield "time passes", _later(rules, state)
    for number, node in enumerate(state.nodes, 1):
        for event, after in _of_node(rules, state, node):
            nodes = (*state.nodes[: number - 1], after, *state.nodes[number:])
            yield f"node {number} {event}", state._replace(nodes=nodes)
        if node.wrapped:
            written = state.etcd | {node.wrapped}
            yield f"API server {number} writes under version {node.wrapped}", state._replace(etcd=written)
            rewritten = frozenset({node.wrapped})
            yield f"everything is rewritten through API server {number}", state._replace(etcd=rewritten)


def _later(rules: Rules, state: State) -> State:
    nodes = tuple(
        node._replace(seen=min(node.seen + 1, rules.delay)) if node.knows == 2 else node for node in state.nodes
    )
    return state._replace(nodes=nodes, age=min(state.age + 1, rules.lag))


def _of_node(rules: Rules, state: State, node: Node) -> Iterator[tuple[str, Node]]:
    if node.knows == 1 and 2 in state.primaries:
        yield "has a replica that follows", node._replace(knows=2)
    answers = sorted(version for version in state.primaries if version <= node.knows)
    for found in answers:
        newer = found > node.wrapped if rules.ratchet or not node.wrapped else found != node.wrapped
        if newer and (found == 1 or node.seen >= rules.delay):
            for wrapped in (found,) if rules.named else answers:
                after = node._replace(shows=found, wrapped=wrapped, left=max(node.left, node.shows))
                yield f"reads version {found} and wraps under {wrapped}", after
    if rules.lost and node.wrapped:
        yield "loses its state directory", node._replace(wrapped=0)


def variants() -> dict[str, Rules]:
    """How versions may be followed, by name: ways that leave a part out, then this project's."""
    ours = Rules()
    return {
        "the wrap does not name its version": replace(ours, named=False),
        "a lower version is followed too": replace(ours, ratchet=False),
        "a new version is used at once": replace(ours, delay=0),
        "used after 2, replicas lag by as much": replace(ours, delay=2),
        "a state directory lost": replace(ours, lost=True),
        "named, only upwards, used after 3, replicas lag by 2": ours,
    }
