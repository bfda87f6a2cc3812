"""What is in etcd under which key, and what of it should not be as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from keystead._core import ROLE_RECOVERY, Holder
from keystead.operate.encryption_config import EncryptionConfig
from keystead.operate.places import NEVER_ENCRYPTED, resource_of
from keystead.operate.survey import Counted

Dimension = Literal["resource", "namespace", "provider", "key", "record"]
Label = tuple[str, ...]

HEADS: dict[Dimension, Label] = {
    "resource": ("RESOURCE", "PROVIDER", "KEY_ID"),
    "namespace": ("NAMESPACE", "PROVIDER", "KEY_ID"),
    "provider": ("PROVIDER",),
    "key": ("SCHEME", "REF", "VERSION", "ROLE"),
    "record": ("LOCAL KEK", "MADE", "CLUSTER", "KEY_ID"),
}
"""What a row of each inventory is named by."""


@dataclass(frozen=True, slots=True)
class Line:
    """Objects that share a label."""

    label: Label
    objects: int
    seeds: int
    oldest: int
    """The lowest revision that wrote one of them."""
    newest: int


Kind = Literal["damaged", "plaintext", "unreadable", "stale", "older", "mixed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Objects of one resource that are not as they should be."""

    kind: Kind
    resource: str
    objects: int
    reason: str

    @property
    def fails(self) -> bool:
        """Whether it is a fault, and not merely a migration that is not over."""
        return self.kind in ("damaged", "plaintext", "unreadable")

    @property
    def is_helped_by_migration(self) -> bool:
        """Whether writing the objects again mends it."""
        return self.kind not in ("damaged", "unreadable")

    def __str__(self) -> str:
        return f"{self.objects} {self.resource} {self.reason}"


def lines(rows: Iterable[Counted], by: Dimension, made: Callable[[int], str]) -> list[Line]:
    """Sum up by one dimension. `made` writes a time."""
    groups: dict[Label, list[Counted]] = defaultdict(list)
    for row in rows:
        for label in _labels(row, by, made):
            groups[label].append(row)
    return [
        Line(
            label,
            sum(row.objects for row in group),
            len({row.seed for row in group if row.seed}),
            min(row.oldest for row in group),
            max(row.newest for row in group),
        )
        for label, group in sorted(groups.items())
    ]


def provider_text(holder: Holder) -> str:
    """Name a provider as in the value's own prefix."""
    if holder.kind == "plaintext":
        return "PLAINTEXT"
    return f"{holder.kind}:{holder.name}" if holder.name else holder.kind


def findings(rows: list[Counted], config: EncryptionConfig | None) -> list[Finding]:
    """Say what is wrong, by the EncryptionConfiguration if there is one."""
    found = [*_damaged(rows), *_older(rows), *(_mixed(rows) if config is None else _against(rows, config))]
    return sorted(found, key=lambda one: (not one.fails, one.kind, one.resource, one.reason))


def never_encrypted(rows: Iterable[Counted]) -> int:
    """Count objects that kube-apiserver never encrypts."""
    return sum(row.objects for row in rows if row.resource in NEVER_ENCRYPTED)


def _labels(row: Counted, by: Dimension, made: Callable[[int], str]) -> Iterator[Label]:
    holder = row.holder
    provider, key_id = provider_text(holder), holder.key_id or "-"
    match by:
        case "resource":
            yield resource_of(row.resource), provider, key_id
        case "namespace":
            yield row.namespace or "-", provider, key_id
        case "provider":
            yield (provider,)
        case "record" if holder.record is not None:
            yield holder.record.kek_id.hex()[:16], made(holder.record.created), holder.record.cluster or "-", key_id
        case "key" if holder.record is not None:
            for wrap in holder.record.wraps:
                role = "recovery" if wrap.role == ROLE_RECOVERY else "online"
                yield wrap.scheme, wrap.ref, wrap.version or "-", role
        case "record":
            yield provider, "-", "-", key_id
        case "key":
            yield provider, "-", "-", "-"


def _damaged(rows: list[Counted]) -> Iterator[Finding]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        if row.holder.problem:
            counts[resource_of(row.resource), row.holder.problem] += row.objects
    for (resource, problem), objects in counts.items():
        yield Finding("damaged", resource, objects, f"are damaged: {problem}")


def _older(rows: list[Counted]) -> Iterator[Finding]:
    """Of several `key_id`s of one provider, the one of the latest write is the one in use."""
    groups: dict[tuple[str, str], dict[str, list[Counted]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.holder.record is not None:
            groups[resource_of(row.resource), provider_text(row.holder)][row.holder.key_id].append(row)
    for (resource, _), by_key_id in groups.items():
        current = max(by_key_id, key=lambda key_id: max(row.newest for row in by_key_id[key_id]))
        older = sum(row.objects for key_id, several in by_key_id.items() if key_id != current for row in several)
        if older:
            yield Finding("older", resource, older, f"are under another key_id than the latest, {current}")


def _mixed(rows: list[Counted]) -> Iterator[Finding]:
    """Without a configuration nobody knows what should be encrypted, but one resource is so wholly or not at all."""
    plain: dict[str, int] = defaultdict(int)
    encrypted: dict[str, int] = defaultdict(int)
    for row in rows:
        (plain if row.holder.kind == "plaintext" else encrypted)[resource_of(row.resource)] += row.objects
    for resource in plain.keys() & encrypted.keys():
        reason = f"are plaintext beside {encrypted[resource]} that are encrypted"
        yield Finding("mixed", resource, plain[resource], reason)


def _against(rows: list[Counted], config: EncryptionConfig) -> Iterator[Finding]:
    counts: dict[tuple[Kind, str, str], int] = defaultdict(int)
    for row in rows:
        holder, resource = row.holder, resource_of(row.resource)
        if row.resource in NEVER_ENCRYPTED or holder.problem:
            continue
        names = [(provider.kind, provider.name) for provider in config.providers(resource)]
        name = (holder.kind, holder.name)
        if name == names[0]:
            continue
        kind: Kind = "plaintext" if holder.kind == "plaintext" else "stale" if name in names else "unreadable"
        counts[kind, resource, provider_text(holder)] += row.objects
    for (kind, resource, provider), objects in counts.items():
        yield Finding(kind, resource, objects, _AGAINST[kind].format(provider=provider))


_AGAINST: dict[Kind, str] = {
    "plaintext": "are plaintext, and the configuration has them encrypted",
    "stale": "are under {provider}, which is not the first provider: they are not rewritten yet",
    "unreadable": "are under {provider}, which the configuration does not have: kube-apiserver cannot read them",
}
