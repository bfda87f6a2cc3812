"""What a decision looks at, gathered from the configuration, the record in use and what is known of the keys."""

from __future__ import annotations

from keystead._core import Record, StateFile, key_id_epoch
from keystead.host.decide import Active, Wanted, online_versions
from keystead.host.guard import Guard
from keystead.host.stages import Candidate, soak_left
from keystead.host.target import Target
from keystead.host.versions import version_to_use
from keystead.host.watch import Watch


def wanted_of(target: Target, current: StateFile | None, watch: Watch, now: float, deadline: float) -> Wanted:
    """Gather what the configuration wants. Opens keys that are not open; raises the `ProviderError` of one that fails.

    `now` is monotonic, for the facts; `deadline` is for the keys.
    """
    record = current.record if current is not None else None
    new_epoch = current is not None and target.epoch > key_id_epoch(current.key_id)
    versions = online_versions(record) if record is not None else {}
    online = {}
    for guard in target.members.active:
        ref = (guard.scheme, guard.open(deadline))
        online[ref] = _active(guard, target, watch, record, versions.get(ref), now, new_epoch=new_epoch)
    return Wanted(
        target.cluster,
        target.accept_clusters,
        target.epoch,
        online,
        [(guard.scheme, guard.open(deadline)) for guard in target.members.recovery],
        target.max_age,
        target.max_uses,
    )


def may_fit(offered: StateFile, target: Target) -> bool:
    """Whether a record that an operator placed belongs to the configuration, as far as the keys tell that are open."""
    named, active = online_versions(offered.record), target.members.active
    return (
        key_id_epoch(offered.key_id) == target.epoch
        and offered.record.cluster == target.cluster
        and {(guard.scheme, guard.ref) for guard in active if guard.ref is not None} <= named.keys()
        and sorted(scheme for scheme, _ in named) == sorted(guard.scheme for guard in active)
    )


def versions_to_wrap_under(target: Target, wanted: Wanted, watch: Watch) -> dict[str, str | None]:
    """The versions that a mint is to use, by the names of the keys. One that nobody knows yet is left out."""
    versions = {guard.name: wanted.online[guard.scheme, guard.ref or ""].version for guard in target.members.active}
    blind = {guard.name for guard in target.members.active if watch[guard].seen.blind}
    return {name: version for name, version in versions.items() if version is not None or name in blind}


def _active(
    guard: Guard, target: Target, watch: Watch, record: Record | None, used: str | None, now: float, *, new_epoch: bool
) -> Active:
    facts = watch[guard]
    refuses = record is not None and facts.refuses(record)
    version = version_to_use(used, facts.seen, target.version_delay, new_epoch=new_epoch, at_once=refuses)
    candidate = Candidate(
        guard.name,
        0.0 if facts.soaked else soak_left(facts.staged_since, target.soak, now),
        now - facts.proven_at if facts.proven_at is not None else None,
        facts.error(guard.name),
    )
    return Active(candidate, version if guard.pinned is None else guard.pinned, guard.pinned is not None, refuses)
