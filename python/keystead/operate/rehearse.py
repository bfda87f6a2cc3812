"""Proves that a snapshot can be read with the keys at hand: one object of every seed is opened, nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from keystead import errors
from keystead._core import Record, stored_value
from keystead.operate.keys_at_hand import KeyRefused, KeysAtHand
from keystead.operate.store import Progress, Store
from keystead.operate.survey import Counted, RecordUse, records, survey

MAX_FAILURES = 20
"""Objects that do not open which are named; all of them are counted."""


@dataclass(slots=True)
class Outcome:
    """What became of one record."""

    use: RecordUse
    by: str | None = None
    """What unwrapped it."""
    refusal: str = ""
    """Why nothing did."""
    opened: int = 0
    """Seeds of which an object opened."""
    failed: int = 0
    """Seeds of which an object did not."""


@dataclass(slots=True)
class Rehearsal:
    """The result."""

    rows: list[Counted]
    outcomes: list[Outcome]
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Keys in etcd whose objects do not open, and why."""

    @property
    def complete(self) -> bool:
        """Whether every object that Keystead encrypted can be read."""
        return not self.failures and all(outcome.opened == outcome.use.seeds for outcome in self.outcomes)


def prepare(store: Store, prefix: str, progress: Progress) -> Rehearsal:
    """Find the records. Raises `Unreadable`."""
    rows = survey(store, prefix, progress).rows
    return Rehearsal(rows, [Outcome(use) for use in records(rows)])


def unwrap_all(rehearsal: Rehearsal, keys: KeysAtHand, progress: Progress) -> None:
    """Unwrap each record once."""
    for number, outcome in enumerate(rehearsal.outcomes):
        progress("unwrapped", number / len(rehearsal.outcomes))
        try:
            outcome.by = keys.unwrap(outcome.use.record)
        except KeyRefused as exc:
            outcome.refusal = str(exc)


def open_one_per_seed(rehearsal: Rehearsal, store: Store, prefix: str, keys: KeysAtHand, progress: Progress) -> None:
    """Open an object of each seed whose record was unwrapped. Raises `Unreadable`."""
    outcomes: dict[Record, Outcome] = {outcome.use.record: outcome for outcome in rehearsal.outcomes if outcome.by}
    tried: set[tuple[Record, bytes]] = set()
    for entry in store.entries(progress):
        if not entry.key.startswith(prefix.encode()):
            continue
        holder, seed = stored_value(entry.value)
        if holder.record is None or holder.record not in outcomes or (holder.record, seed) in tried:
            continue
        tried.add((holder.record, seed))
        outcome = outcomes[holder.record]
        try:
            keys.recovery.open(entry.key, entry.value)
            outcome.opened += 1
        except errors.KeysteadError as exc:
            outcome.failed += 1
            if len(rehearsal.failures) < MAX_FAILURES:
                rehearsal.failures.append((entry.key.decode(errors="backslashreplace"), str(exc)))
