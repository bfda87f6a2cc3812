"""What the tests of this directory share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keystead.provider import WrapContext
from keystead.providers.gcp_kms import GcpKmsProvider
from providers.gcp.fake import FakeKms

CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))

Make = Callable[..., GcpKmsProvider]
"""Builds a provider for a fake; other fields are the configuration's."""


@dataclass
class Served:
    """A fake with its address, by one of the transports."""

    kms: FakeKms
    endpoint: str
    transport: str
    ca_file: Path


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds
