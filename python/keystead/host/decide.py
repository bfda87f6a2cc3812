"""Whether an endpoint keeps its local KEK, mints another, or refuses what the configuration asks for. Pure.

A key_id must never come back with another meaning, so anything that it hashes may change only with a higher epoch, and
the version of a key only upwards. What the state directory holds is the high-water mark that this is measured by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from keystead._core import ROLE_ONLINE, Record, key_id_epoch
from keystead.host.stages import Candidate, hold
from keystead.host.versions import is_newer

JITTER = 0.1
"""How far the age and the uses at which a KEK is replaced are spread to both sides."""
MAX_USES = 2**32
"""Values sealed under one KEK in one process before it is replaced: a number for auditors. XAES-256-GCM with its random
nonces of 192 bits stays sound for 2**80 (C2SP XAES-256-GCM)."""

Ref = tuple[str, str]
"""The scheme and ref of a remote key."""


@dataclass(frozen=True, slots=True)
class Active:
    """An active online key, as far as a decision looks at it."""

    candidate: Candidate
    """What its stages say, should it be new."""
    version: str | None = None
    """The version to wrap under now; `None` if the remote decides."""
    pinned: bool = False
    """Whether the configuration asks for that version."""
    refuses: bool = False
    """Whether it refuses the version in the record while it works otherwise."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration asks for."""

    cluster: str
    accept_clusters: Collection[str]
    """The labels that Decrypt accepts."""
    epoch: int
    online: Mapping[Ref, Active]
    """The active online keys."""
    recovery: Collection[Ref] = ()
    """The active recovery keys."""
    max_age: float = float("inf")
    """Seconds."""
    max_uses: int = MAX_USES


@dataclass(frozen=True, slots=True)
class Current:
    """What is in use, or on disk."""

    key_id: str
    record: Record
    age: float = 0.0
    """Seconds."""
    uses: int = 0
    usable: bool = True
    """Whether a configured key could unwrap it."""

    @property
    def epoch(self) -> int:
        """The epoch in the key_id."""
        return key_id_epoch(self.key_id)


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on with the current KEK."""


@dataclass(frozen=True, slots=True)
class Mint:
    """Make a new KEK, for this reason."""

    reason: str
    unproven: bool = False
    """Whether keys become active that this node never had as `decrypt`."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Keep the current KEK, for the configuration breaks a rule; the text names the way out."""

    reason: str = field(compare=False)
    rule: str = ""
    """What names the rule, for the text may change while nothing else does."""


Decision = Keep | Mint | Refuse


def decide(current: Current | None, wanted: Wanted, wall: float) -> Decision:
    """Compare what is in use with what is asked for. `wall` is in Unix seconds, for the texts alone."""
    if current is None:
        return Mint("there is none yet", unproven=wanted.epoch > 1)
    epoch = wanted.epoch
    if epoch < current.epoch:
        return _refuse(
            f"epoch {epoch} is below {current.epoch}, which has been in use: set epoch to {current.epoch + 1}"
        )
    if epoch > current.epoch:
        return _accept_label(current, wanted) or _promote(current, wanted, wall)
    return (
        _accept_label(current, wanted)
        or misfit(current.key_id, current.record, wanted)
        or _renew(current, wanted)
        or Keep()
    )


def misfit(key_id: str, record: Record, wanted: Wanted) -> Refuse | None:
    """Say how a record differs from what the configuration wants under the same epoch; `None` if it does not."""
    epoch = key_id_epoch(key_id)
    if record.cluster != wanted.cluster:
        change = f"cluster changed from {record.cluster!r} to {wanted.cluster!r}"
        return _refuse(f"{change} under epoch {epoch}: set epoch to {epoch + 1}")
    if online_versions(record).keys() != set(wanted.online) or _recovery(record) != set(wanted.recovery):
        return _refuse(f"the active members changed under epoch {epoch}: set epoch to {epoch + 1}")
    return None


def online_versions(record: Record) -> dict[Ref, str]:
    """The versions of the online keys of a record."""
    return {(wrap.scheme, wrap.ref): wrap.version for wrap in record.wraps if wrap.role == ROLE_ONLINE}


def went_back(record: Record, new: Record) -> str | None:
    """Name a key whose version in a new record is below that in the one before it."""
    before = online_versions(record)
    for ref, version in online_versions(new).items():
        if ref in before and is_newer(before[ref], version):
            return f"{ref[0]} {ref[1]} wrapped under version {version}, below {before[ref]}, which has been in use"
    return None


def _accept_label(current: Current, wanted: Wanted) -> Refuse | None:
    label = current.record.cluster
    if label in wanted.accept_clusters:
        return None
    way_out = f"list {label!r} in acceptClusters"
    if wanted.epoch == current.epoch:
        way_out += f" and set epoch to {wanted.epoch + 1}"
    way_out += f", once every node lists {wanted.cluster!r} there"
    return _refuse(f"cluster changed from {label!r} to {wanted.cluster!r} under epoch {wanted.epoch}: {way_out}")


def _promote(current: Current, wanted: Wanted, wall: float) -> Decision:
    reason = f"epoch raised from {current.epoch} to {wanted.epoch}"
    before = online_versions(current.record)
    new = [active.candidate for ref, active in wanted.online.items() if ref not in before]
    if not current.usable:
        # No configured key opens the record, so there is nothing to go on with: as on an empty state directory.
        return Mint(reason, unproven=bool(new))
    held = hold(new, wall)
    if held is None:
        return Mint(reason)
    return Refuse(held, rule=f"hold {[key.name for key in new]}")


def _renew(current: Current, wanted: Wanted) -> Decision | None:
    """Whether something calls for another KEK of the same name, or of a higher version."""
    versions = online_versions(current.record)
    for (scheme, ref), active in wanted.online.items():
        used, version = versions[scheme, ref], active.version
        if version is not None and is_newer(version, used):
            return Mint(f"{scheme} {ref} went from version {used} to {version}")
        if active.pinned and version is not None and version != used:
            return _refuse(
                f"key {active.candidate.name} is pinned to version {version}, and {used} has been in use under epoch "
                f"{wanted.epoch}: set epoch to {wanted.epoch + 1}"
            )
        if active.refuses:
            return Mint(f"{scheme} {ref} refuses version {used}, which the record needs")
    if current.age > wanted.max_age * _spread(current.record.kek_id[0]):
        return Mint("it reached its maximum age")
    if current.uses > wanted.max_uses * _spread(current.record.kek_id[1]):
        return Mint("it reached its maximum number of uses")
    return None


def _recovery(record: Record) -> set[Ref]:
    return {(wrap.scheme, wrap.ref) for wrap in record.wraps if wrap.role != ROLE_ONLINE}


def _refuse(reason: str) -> Refuse:
    return Refuse(reason, rule=reason)


def _spread(byte: int) -> float:
    """0.9 to 1.1, from a byte of the kek_id, which is as good as random: nodes that started together mint apart."""
    return 1 - JITTER + 2 * JITTER * byte / 255
