"""Tries one key: whether it wraps and unwraps now, and whether it still unwraps what the record needs.

A fresh throw-away value, wrapped and unwrapped, proves both rights at once. It does not prove the version of the
record, which may be disabled while newer ones work; that would show at the next restart, when it is too late. So a
*canary* is unwrapped too: a throw-away value that was wrapped under exactly that version. A throw-away value rather
than the local KEK, for what an SDK unwraps stays in memory that cannot be wiped, and in TLS records: the KEK itself
goes through there as seldom as possible, and in the log of the KMS its unwraps stay rare enough to be looked at.

The record's own wrap is the canary once for each record in each process, since only that proves that nobody made the
key anew while the plugin was away; and as long as the key does not wrap under the record's version any more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from keystead import errors
from keystead._core import ROLE_ONLINE, Kek, Record, Wrap
from keystead.host.guard import Guard
from keystead.host.mint import prove, wrap, wrap_only
from keystead.host.verdict import bare
from keystead.provider import WrapContext

_REFUSALS = (errors.InvalidCiphertext, errors.KeyDisabled, errors.KeyNotFound, errors.PermissionDenied)


@dataclass(frozen=True, slots=True)
class Canary:
    """A wrapped value that its key should unwrap. It holds no plaintext."""

    wrap: Wrap
    kek_id: bytes
    cluster: str

    @property
    def version(self) -> str:
        """The version that it proves."""
        return self.wrap.version

    @classmethod
    def of(cls, record: Record, guard: Guard) -> Canary | None:
        """The record's own wrap under this key; `None` if there is none."""
        for one in record.wraps:
            if one.role == ROLE_ONLINE and (one.scheme, one.ref) == (guard.scheme, guard.ref):
                return cls(one, record.kek_id, record.cluster)
        return None

    def refusal(self, guard: Guard, deadline: float) -> errors.ProviderError | None:
        """Unwrap; return why the key refuses for good, `None` if it gave the value back.

        Raises the `ProviderError` of what may pass or is not about this value, `Misbehaved` for wrong bytes.
        """
        try:
            answer = guard.unwrap(self.wrap, WrapContext(self.kek_id, self.cluster), deadline)
        except _REFUSALS as exc:
            return exc
        if Kek.from_bytes(answer).kek_id != self.kek_id:
            raise errors.Misbehaved(f"key {guard.name}: unwrap returned another key than was wrapped")
        return None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a probe is to try besides a fresh value."""

    cluster: str
    record: Record | None = None
    """The record that must stay readable."""
    canary: Canary | None = None
    """The one that the probe before made for this record."""
    lost: Collection[Canary] = ()
    """Canaries of versions that were refused."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe found."""

    error: errors.KeysteadError | None = None
    """Why the fresh value did not come back, or the canary neither came back nor was refused for good."""
    asked: bool = False
    """Whether the remote told its current version."""
    version: str | None = None
    """That version; `None` if the credentials may not look."""
    may_wrap: bool = True
    """False if the key was reached and the credentials may not wrap, which one that only decrypts need not."""
    canary: Canary | None = None
    """The one for the next probe; `None` if that is the record's own wrap."""
    refused: Canary | None = None
    """What the key does not unwrap any more, though the record needs its version."""
    reason: errors.ProviderError | None = None
    """Why."""
    heard: Collection[Canary] = ()
    """Those of the lost ones that it unwraps again."""


def probe(guard: Guard, asked: Asked, deadline: float) -> Outcome:
    """Try a key. Raises nothing that a key can cause."""
    found = Outcome()
    try:
        guard.open(deadline)
        found = Outcome(asked=True, version=guard.current_version(deadline), canary=asked.canary)
        kek = Kek.generate()
        context = WrapContext(kek.kek_id, asked.cluster)
        try:
            made = wrap_only(guard, kek, context, found.version, deadline, ROLE_ONLINE)
        except errors.PermissionDenied as exc:
            return replace(found, error=bare(exc), may_wrap=False)
        prove(guard, kek, context, made, deadline)
        fresh = Canary(made, kek.kek_id, asked.cluster)
        found = _try_record(guard, asked, fresh, found, deadline)
    except (errors.ProviderError, errors.Unsafe) as exc:
        return replace(found, error=bare(exc))
    return replace(found, heard=[canary for canary in asked.lost if _is_heard(canary, guard, deadline)])


def _try_record(guard: Guard, asked: Asked, fresh: Canary, found: Outcome, deadline: float) -> Outcome:
    own = Canary.of(asked.record, guard) if asked.record is not None else None
    if own is None:
        return replace(found, canary=None)
    tried = asked.canary or own
    reason = tried.refusal(guard, deadline)
    if reason is not None:
        return replace(found, refused=tried, reason=bare(reason))
    if asked.canary is not None:
        return found
    canary = fresh if fresh.version == own.version else _under(guard, own.version, asked.cluster, deadline)
    return replace(found, canary=canary)


def _under(guard: Guard, version: str, cluster: str, deadline: float) -> Canary | None:
    """A canary under a version that is not the current one; `None` if the key does not wrap under it any more."""
    kek = Kek.generate()
    try:
        made = wrap(guard, kek, WrapContext(kek.kek_id, cluster), version, deadline)
    except errors.ProviderError:
        return None
    return Canary(made, kek.kek_id, cluster)


def _is_heard(canary: Canary, guard: Guard, deadline: float) -> bool:
    try:
        return canary.refusal(guard, deadline) is None
    except errors.ProviderError:
        return False
