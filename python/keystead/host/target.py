"""What the configuration asks of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keystead.host.decide import MAX_USES
from keystead.host.members import Members


@dataclass(frozen=True, slots=True)
class Target:
    """What the configuration asks of an endpoint. Spans are in seconds."""

    cluster: str
    accept_clusters: tuple[str, ...]
    epoch: int
    members: Members
    status_version: str
    max_age: float
    unwrap_timeout: float
    grace: float
    probe_interval: float
    soak: float
    version_delay: float
    zeroize: bool
    """Whether to wipe the KEKs once every active key refuses."""
    record_file: Path | None = None
    """Where the operator places the record to use, in the place of own ones."""
    max_uses: int = MAX_USES
