"""Snapshots with what a cluster leaves behind, made by a real etcd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

Save = Callable[[Mapping[bytes, bytes]], Path]
"""Stores values, saves a snapshot and returns its path."""


def secret_key(name: str, namespace: str = "default") -> bytes:
    return f"/registry/secrets/{namespace}/{name}".encode()
