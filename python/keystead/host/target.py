"""What the configuration asks of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from keystead.host.members import Members


@dataclass(frozen=True, slots=True)
class Target:
    """What the configuration asks of an endpoint. Times are in seconds."""

    cluster: str
    accept_clusters: tuple[str, ...]
    epoch: int
    members: Members
    status_version: str
    max_age: float
    unwrap_timeout: float
    grace: float
    probe_interval: float
