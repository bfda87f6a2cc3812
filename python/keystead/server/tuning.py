"""What must be in the environment before grpcio is imported anywhere in the process."""

from __future__ import annotations

import os
from importlib.metadata import version

_EXPERIMENT = "-event_engine_listener"
_FIRST, _LAST = (1, 80), (1, 85)
"""Releases of grpcio in which the new listener is on and may still be turned off. With it, a hit costs about twice
the CPU time (docs/performance.md); a release that does not know the name would only log a line."""


def prepare_environment() -> None:
    """Ask grpcio for its faster listener, unless the operator has set GRPC_EXPERIMENTS."""
    release = tuple(int(part) for part in version("grpcio").split(".")[:2])
    if _FIRST <= release <= _LAST:
        os.environ.setdefault("GRPC_EXPERIMENTS", _EXPERIMENT)
    # Python code forks nothing here, and gRPC's fork handlers only print warnings when an SDK runs a subprocess.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
