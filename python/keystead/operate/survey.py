"""The counts of a store with names in the place of indices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keystead._core import Holder, Record
from keystead.operate.store import Progress, Store, Unreadable


@dataclass(frozen=True, slots=True)
class Counted:
    """Objects of one resource in one namespace that one seed, or none, holds."""

    resource: str
    """The folder in etcd: `secrets`, `services/specs`, `awesome.bears.example/pandas`."""
    namespace: str
    holder: Holder
    seed: int
    """Number of the seed or DEK; 0 without one."""
    objects: int
    oldest: int
    """The lowest revision that wrote one of them."""
    newest: int


@dataclass(frozen=True, slots=True)
class RecordUse:
    """One local KEK as its record describes it, and what is under it."""

    record: Record
    key_ids: tuple[str, ...]
    objects: int
    seeds: int

    @property
    def label(self) -> str:
        """A short name, for file names and tables; `inspect` shows the whole one."""
        return self.record.kek_id.hex()[:16]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in one store."""

    rows: list[Counted]
    """The counts in no particular order."""
    outside: int
    """Keys that are not below the prefix."""

    @property
    def objects(self) -> int:
        """How many objects there are below the prefix."""
        return sum(row.objects for row in self.rows)


def survey(store: Store, prefix: str, progress: Progress) -> Survey:
    """Count what is below a prefix. Raises `Unreadable`, also if there is nothing: no cluster leaves an etcd so."""
    tally = store.tally(prefix, progress)
    resources, namespaces, holders = tally.resources, tally.namespaces, tally.holders
    rows = [
        Counted(resources[resource], namespaces[namespace], holders[holder], seed, objects, oldest, newest)
        for resource, namespace, holder, seed, objects, oldest, newest in tally.rows
    ]
    if not rows:
        raise Unreadable(f"{store.name} has no object below {prefix}: is --prefix that of kube-apiserver?")
    return Survey(rows, tally.outside)


def records(rows: Iterable[Counted]) -> list[RecordUse]:
    """Return the records that rows are under, from the oldest to the newest."""
    found: dict[Record, list[Counted]] = {}
    for row in rows:
        if row.holder.record is not None:
            found.setdefault(row.holder.record, []).append(row)
    uses = [
        RecordUse(
            record,
            tuple(sorted({row.holder.key_id for row in under})),
            sum(row.objects for row in under),
            len({row.seed for row in under}),
        )
        for record, under in found.items()
    ]
    return sorted(uses, key=lambda use: (use.record.created, use.record.encoded))
