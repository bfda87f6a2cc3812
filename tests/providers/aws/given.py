"""What the tests of this directory share."""

from __future__ import annotations

import time
from collections.abc import Callable

from keystead.provider import WrapContext
from keystead.providers.aws_kms import AwsKmsProvider
from providers.aws.fake import ACCESS, SECRET

CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))

Make = Callable[..., AwsKmsProvider]
"""Builds a provider for a fake and one of its keys."""


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def works(provider: AwsKmsProvider) -> bool:
    return provider.unwrap(provider.wrap(KEK, CONTEXT, None, soon()).blob, CONTEXT, "", soon()) == KEK


def profile(name: str, access: str = ACCESS, secret: str = SECRET) -> str:
    return f"[{name}]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"


def older(provider: AwsKmsProvider, seconds: float) -> None:
    """Let time pass for the provider's credentials."""
    kms = provider._kms
    assert kms is not None
    kms._credentials._clock = lambda: time.time() + seconds
