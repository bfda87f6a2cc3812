"""Every remote key that a store or a node names, and how much depends on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keystead._core import ROLE_RECOVERY
from keystead.operate.remote_keys import NodeKeys, RemoteKey, online_wraps
from keystead.operate.survey import Counted

Label = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of a remote key in one role."""

    names: tuple[str, ...]
    """What nodes call it."""
    scheme: str
    ref: str
    version: str
    """Empty if it has none, or if nothing is under it."""
    role: str
    """`online` or `recovery`."""
    objects: int
    alone: int
    """Objects that no other online wrap can open."""
    seeds: int
    nodes: int
    """Nodes that encrypt under it."""


def listed(rows: Iterable[Counted], nodes: Sequence[NodeKeys]) -> list[Listed]:
    """Return the keys of a store, and those that nodes have besides."""
    objects: dict[Label, int] = defaultdict(int)
    alone: dict[Label, int] = defaultdict(int)
    seeds: dict[Label, set[int]] = defaultdict(set)
    for row in rows:
        record = row.holder.record
        if record is None:
            continue
        single = len(list(online_wraps(record))) == 1
        for wrap in record.wraps:
            role = "recovery" if wrap.role == ROLE_RECOVERY else "online"
            label = (wrap.scheme, wrap.ref, wrap.version, role)
            objects[label] += row.objects
            seeds[label].add(row.seed)
            if single and role == "online":
                alone[label] += row.objects
    names: dict[RemoteKey, set[str]] = defaultdict(set)
    in_use: dict[Label, set[str]] = defaultdict(set)
    for node in nodes:
        for endpoint in node.endpoints:
            for key, member in endpoint.members.items():
                names[key].add(member.name)
                role = "online" if member.online else "recovery"
                if not any(label[:2] == (key.scheme, key.ref) for label in (*objects, *in_use)):
                    in_use[key.scheme, key.ref, "", role] = set()
            for key, version in endpoint.in_use:
                in_use[key.scheme, key.ref, version, "online"].add(node.name)
    wrapped = {label[:2] for label in (*objects, *in_use) if label[2]}
    return [
        Listed(
            tuple(sorted(names[RemoteKey(label[0], label[1])])),
            *label,
            objects[label],
            alone[label],
            len(seeds[label]),
            len(in_use[label]) if label in in_use else 0,
        )
        for label in sorted({*objects, *in_use})
        if label[2] or label in objects or in_use[label] or label[:2] not in wrapped
    ]
