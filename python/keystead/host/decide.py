"""Whether an endpoint keeps its local KEK, mints another, or refuses what the configuration asks for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keystead._core import ROLE_ONLINE, Record, key_id_epoch

AGE_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on with the current KEK."""


@dataclass(frozen=True, slots=True)
class Mint:
    """Make a new KEK, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Keep the current KEK, for the configuration breaks a rule; the text names the way out."""

    reason: str


Decision = Keep | Mint | Refuse


def decide(
    current: tuple[str, Record] | None,
    cluster: str,
    accept_clusters: Collection[str],
    epoch: int,
    versions: Mapping[tuple[str, str], str | None],
    max_age: float,
    now: float,
) -> Decision:
    """Compare what is in use with what is asked for.

    `current` is the key_id and record in use or on disk. `accept_clusters` are the labels that Decrypt accepts.
    `versions` maps (scheme, ref) of each active member to its
    current version, `None` if unknown. `max_age` in seconds; `now` in Unix seconds.

    A key_id must never come back with another meaning, so anything that it hashes may change only with a higher
    epoch, and the version of a key only upwards.
    """
    if current is None:
        return Mint("there is none yet")
    key_id, record = current
    current_epoch = key_id_epoch(key_id)
    if epoch < current_epoch:
        return Refuse(
            f"epoch {epoch} is below {current_epoch}, which has been in use: set epoch to {current_epoch + 1}"
        )
    if record.cluster not in accept_clusters:
        way_out = f"list {record.cluster!r} in acceptClusters" + (
            f" and set epoch to {epoch + 1}" if epoch == current_epoch else ""
        )
        return Refuse(f"cluster changed from {record.cluster!r} to {cluster!r} under epoch {epoch}: {way_out}")
    if epoch > current_epoch:
        return Mint(f"epoch raised from {current_epoch} to {epoch}")
    if record.cluster != cluster:
        return Refuse(
            f"cluster changed from {record.cluster!r} to {cluster!r} under epoch {epoch}: set epoch to {epoch + 1}"
        )
    in_use = {(wrap.scheme, wrap.ref): wrap.version for wrap in record.wraps if wrap.role == ROLE_ONLINE}
    if in_use.keys() != versions.keys():
        return Refuse(f"the active members changed under epoch {epoch}: set epoch to {epoch + 1}")
    for member, version in versions.items():
        if version is not None and _is_newer(version, in_use[member]):
            return Mint(f"{member[0]} {member[1]} went from version {in_use[member]} to {version}")
    if now - record.created > max_age * _jitter(record.kek_id):
        return Mint("it reached its maximum age")
    return Keep()


def _is_newer(version: str, than: str) -> bool:
    """A ratchet: a lower number is a replica that lags, or a key made anew, and never a reason to go back."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return False


def _jitter(kek_id: bytes) -> float:
    """0.9 to 1.1, from the kek_id, which is as good as random: so nodes that started together mint apart."""
    return 1 - AGE_JITTER + 2 * AGE_JITTER * kek_id[0] / 255
