"""The facts that an endpoint tells about itself: for /readyz, metrics, `keystead status` and the checks of a rotation.

Frozen values of plain types: `dataclasses.asdict` makes what JSON can hold. Moments are Unix seconds, spans seconds.
Nothing here is secret: refs, versions and error texts are public, and a record is public data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WrapReport:
    """The local KEK under one remote key."""

    scheme: str
    ref: str
    version: str
    role: str
    """`online` or `recovery`."""


@dataclass(frozen=True, slots=True)
class RecordReport:
    """The record in use, or the one on disk that is still to be unwrapped."""

    kek_id: str
    """64 hexadecimal digits."""
    key_id: str
    created: float
    uses: int
    """Values sealed under it by this process; 0 while it is not in use."""
    persisted: bool | None
    """Whether it is in the state directory; `None` without one."""
    wraps: tuple[WrapReport, ...]


@dataclass(frozen=True, slots=True)
class KeyReport:
    """One member of an endpoint."""

    name: str
    provider: str
    ref: str | None
    """What records name it by; `None` until it has been opened."""
    stage: str
    """`active` or `decrypt`, as configured."""
    role: str
    """`online` or `recovery`. A recovery key only wraps, and nothing is known of its health."""
    up: bool
    since: float | None
    """Since when it is up or down; `None` before the first probe."""
    error: str | None
    """What it failed with last, if that is not over; also while it still counts as up."""
    version: str | None
    """Its version in the record; `None` if the record does not name it."""
    observed_version: str | None
    """Its current version as the remote told last; `None` if it never did or the credentials may not look."""
    refused_versions: tuple[str, ...]
    """Versions that it unwrapped once and does not any more, while it works otherwise."""
    proven: bool
    """Whether this node wrapped and unwrapped a value with it within the last 5 minutes."""
    proven_at: float | None
    last_success: float | None
    """When a probe, a mint or an unwrap for a Decrypt last succeeded."""
    staged_since: float | None
    """Since when this process has it to decrypt with, before it became active."""
    soak_left: float
    """Seconds that it has still to decrypt here before it may become active; 0 for one in the record."""
    credential_expiry: float | None
    """When its credentials end, if somebody has to act before: Keystead cannot renew them, or the last try failed."""
    reads: str | None = None
    """Another KMS plugin, if it also reads what that one wrote with this key."""


@dataclass(frozen=True, slots=True)
class Report:
    """One endpoint."""

    name: str
    cluster: str
    epoch: int
    """The epoch of the configuration; that of the record is in `key_id`."""
    state: str
    """`init`, `ok`, `degraded`, `lost`, `lost-long`, `denied` or `unsafe`."""
    since: float
    healthz: str
    key_id: str
    refused: str | None
    """Why a rule keeps the configured keys from use, and the way out."""
    activation_unproven: bool
    """Whether a key became active without this node having seen it as `decrypt` before."""
    overdue: str | None
    """Why a local KEK that should have been replaced is still in use."""
    record: RecordReport | None
    keys: tuple[KeyReport, ...]
    keks: int
    """Unwrapped KEKs in memory."""
    waiting: int
    """Decrypts that wait for a remote KMS."""

    @property
    def key_id_hash(self) -> str:
        """The key_id as kube-apiserver writes it into its metrics; empty while there is none."""
        return key_id_hash(self.key_id) if self.key_id else ""

    @property
    def unsaved(self) -> bool:
        """Whether the record in use should be in the state directory and is not."""
        return self.record is not None and self.record.persisted is False


def key_id_hash(key_id: str) -> str:
    """Return a key_id as kube-apiserver's label `key_id_hash` has it: SHA-256 in hexadecimal, `sha256:` in front."""
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"
