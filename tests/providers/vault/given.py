"""What the tests of this directory share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keystead.provider import WrapContext
from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault.certificates import Authority

CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))

Make = Callable[..., VaultTransitProvider]
"""Builds a provider for a server and the name of a key."""


@dataclass(frozen=True)
class Pki:
    """The CA of the TLS server and of its clients."""

    ca: Authority
    directory: Path


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds
