"""What is known of one key of an endpoint: a value that each probe replaces. Pure: clocks are passed in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from keystead import errors
from keystead._core import Record
from keystead.host.health import KeyHealth
from keystead.host.probe import Asked, Canary, Outcome
from keystead.host.versions import Sightings

REFUSALS_TO_ALARM = 2
_LOST = 4
"""Versions of one key that are tried again and again: who restores a key restores its versions one by one."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one key. Times are monotonic seconds."""

    ref: str | None = None
    """What the key is called; under another ref it is another key, and nothing of this holds."""
    health: KeyHealth = field(default_factory=KeyHealth)
    closed: errors.ProviderError | None = None
    """Why it could not be opened."""
    unproven: errors.KeysteadError | None = None
    """Why a key that only decrypts could not be proven, though it was reached."""
    seen: Sightings = field(default_factory=Sightings)
    proven_at: float | None = None
    """When a value was last wrapped and unwrapped here."""
    staged_since: float | None = None
    """Since when this process has it to decrypt with."""
    soaked: bool = False
    """Whether it has been so for a whole soak, in this process or in one before."""
    canary: Canary | None = None
    canary_of: bytes | None = None
    """The kek_id of the record that the canary was made for."""
    refusals: int = 0
    """How often in a row the version of the record was refused while the rest worked."""
    lost: tuple[Canary, ...] = ()
    """What it refused to unwrap for good, one for each version. Older records may still need these."""
    reason: errors.ProviderError | None = None
    """Why it refused the last of them."""
    unwrapped: int = 0
    """What the key's own count of records was when it was looked at last."""
    due: float = -float("inf")
    """When to probe it next."""

    def refuses(self, record: Record) -> bool:
        """Whether it refuses what this record needs, for certain."""
        return self.refusals >= REFUSALS_TO_ALARM and self.canary_of == record.kek_id

    @property
    def alarm(self) -> str | None:
        """What to restore, for records that are still about need it."""
        if not self.lost:
            return None
        names = ", ".join(
            f"version {canary.version}" if canary.version else "the key as it was" for canary in self.lost
        )
        return (
            f"restore {names}: what was wrapped under it, in etcd and in backups, cannot be unwrapped ({self.reason})"
        )

    def error(self, name: str) -> str | None:
        """The error to report, the gravest first."""
        if self.closed is not None:
            return str(self.closed)
        if self.alarm is not None:
            return f"key {name}: {self.alarm}"
        found = self.health.error or self.unproven
        return str(found) if found is not None else None

    def asked(self, cluster: str, record: Record | None) -> Asked:
        """What the next probe is to try."""
        fits = record is not None and record.kek_id == self.canary_of
        return Asked(cluster, record, self.canary if fits else None, self.lost)

    def after(self, outcome: Outcome, now: float, *, active: bool, record: Record | None) -> Facts:
        """Take the outcome of a probe that was asked for this record."""
        found = self._with_health(outcome, now, active=active)
        if outcome.asked:
            found = replace(found, seen=self.seen.after(outcome.version, now))
        found = replace(found, lost=tuple(canary for canary in self.lost if canary not in outcome.heard))
        return found if record is None else found.with_canary(outcome, record)

    def _with_health(self, outcome: Outcome, now: float, *, active: bool) -> Facts:
        if active or outcome.may_wrap:
            proven_at = now if outcome.error is None else self.proven_at
            return replace(self, health=self.health.after(outcome.error, now), unproven=None, proven_at=proven_at)
        # It was reached, and need not wrap as long as it only decrypts.
        health = replace(self.health.after(None, now), last_success=self.health.last_success)
        return replace(self, health=health, unproven=outcome.error)

    def with_canary(self, outcome: Outcome, record: Record) -> Facts:
        """Take what the probe found about this record."""
        before = self.refusals if self.canary_of == record.kek_id else 0
        found = replace(self, canary=outcome.canary, canary_of=record.kek_id, refusals=before)
        if outcome.error is not None:
            return found
        if outcome.refused is None:
            return replace(found, refusals=0)
        refusals, lost = before + 1, self.lost
        if refusals >= REFUSALS_TO_ALARM and outcome.refused.version not in [canary.version for canary in lost]:
            lost = (*lost, outcome.refused)[-_LOST:]
        return replace(found, refusals=refusals, lost=lost, reason=outcome.reason)
