"""Puts together what an endpoint reports. Reads frozen facts only, so any thread may call it."""

from __future__ import annotations

from keystead._core import ROLE_ONLINE, Record
from keystead.host.clocks import Clocks
from keystead.host.custody import Custody
from keystead.host.health import State
from keystead.host.ledger import Ledger
from keystead.host.members import Member
from keystead.host.report import KeyReport, RecordReport, Report, WrapReport
from keystead.host.snapshot import Snapshot
from keystead.host.stages import PROOF_LIFE
from keystead.host.target import Target
from keystead.host.versions import is_newer
from keystead.host.watch import Watch


def report_of(
    name: str,
    target: Target,
    state: State,
    since: float,
    snapshot: Snapshot,
    custody: Custody,
    ledger: Ledger,
    watch: Watch,
    clocks: Clocks,
    *,
    keks: int,
    waiting: int,
) -> Report:
    """Say what there is to say of one endpoint."""
    record = _record(custody, ledger)
    current = custody.current
    return Report(
        name=name,
        cluster=target.cluster,
        epoch=target.epoch,
        state=state.value,
        since=clocks.unix(since),
        healthz=snapshot.healthz,
        key_id=snapshot.key_id,
        refused=custody.refused,
        activation_unproven=custody.unproven,
        overdue=custody.overdue,
        record=record,
        keys=tuple(
            _key(member, current.record if current is not None else None, target, watch, clocks)
            for member in target.members.all
        ),
        keks=keks,
        waiting=waiting,
    )


def _record(custody: Custody, ledger: Ledger) -> RecordReport | None:
    write, kept = custody.write, ledger.kept
    named = write if write is not None else kept
    if named is None:
        return None
    record = named.record
    wraps = tuple(
        WrapReport(wrap.scheme, wrap.ref, wrap.version, "online" if wrap.role == ROLE_ONLINE else "recovery")
        for wrap in record.wraps
    )
    return RecordReport(
        kek_id=record.kek_id.hex(),
        key_id=named.key_id,
        created=record.created,
        uses=write.uses if write is not None else 0,
        persisted=ledger.saved if ledger.path is not None else None,
        wraps=wraps,
    )


def _key(member: Member, record: Record | None, target: Target, watch: Watch, clocks: Clocks) -> KeyReport:
    guard, facts, now = member.guard, watch[member.guard], clocks.monotonic()
    wraps = record.wraps if record is not None else ()
    version = next((wrap.version for wrap in wraps if (wrap.scheme, wrap.ref) == (guard.scheme, guard.ref)), None)
    waits = member.online and version is None and not facts.soaked

    def unix(moment: float | None) -> float | None:
        return clocks.unix(moment) if moment is not None else None

    return KeyReport(
        name=guard.name,
        provider=guard.scheme,
        ref=guard.ref,
        stage="active" if member.active else "decrypt",
        role="online" if member.online else "recovery",
        up=guard.ref is not None and facts.health.up,
        since=unix(facts.health.since),
        error=facts.error(guard.name) or _odd(guard.name, facts.seen.version, version),
        version=version,
        observed_version=facts.seen.version,
        refused_versions=tuple(canary.version for canary in facts.lost),
        proven=facts.proven_at is not None and now - facts.proven_at <= PROOF_LIFE,
        proven_at=unix(facts.proven_at),
        last_success=unix(facts.health.last_success),
        staged_since=unix(facts.staged_since),
        soak_left=max(0.0, (facts.staged_since or now) + target.soak - now) if waits else 0.0,
        credential_expiry=guard.credential_expiry,
        reads=guard.reads if member.online else None,
    )


def _odd(name: str, seen: str | None, in_record: str | None) -> str | None:
    if seen is None or in_record is None or not is_newer(in_record, seen):
        return None
    return (
        f"key {name}: its current version is {seen}, below {in_record}, which stays in use: a replica lags, or the key "
        f"was made anew; to go back on purpose, pin the version and raise epoch"
    )
