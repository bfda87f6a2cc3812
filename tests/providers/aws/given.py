"""What the tests of this directory share."""

from __future__ import annotations

import time
from collections.abc import Callable

from keystead.provider import WrapContext
from keystead.providers.aws_kms import AwsKmsProvider

CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))

Make = Callable[..., AwsKmsProvider]
"""Builds a provider for a fake and one of its keys."""


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds
