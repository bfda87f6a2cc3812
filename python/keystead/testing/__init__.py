"""The conformance kit: what the author of a provider tests it with, and what Keystead tests its own with.

    from keystead.testing import ProviderSuite

It needs the extra `keystead[testing]`, and is found by pytest by itself. Names are imported when they are used, for
pytest loads this package wherever Keystead is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keystead.testing.fake_kms import FakeKms, FakeKmsSandbox
    from keystead.testing.fake_provider import FakeKmsConfig, FakeKmsProvider
    from keystead.testing.proxy import FaultProxy
    from keystead.testing.quality import Quality
    from keystead.testing.rules import NotShown, Tier
    from keystead.testing.sandbox import Sandbox
    from keystead.testing.suite import ProviderSuite

__all__ = [
    "FakeKms",
    "FakeKmsConfig",
    "FakeKmsProvider",
    "FakeKmsSandbox",
    "FaultProxy",
    "NotShown",
    "ProviderSuite",
    "Quality",
    "Sandbox",
    "Tier",
]

_PLACES = {
    "FakeKms": "fake_kms",
    "FakeKmsSandbox": "fake_kms",
    "FakeKmsConfig": "fake_provider",
    "FakeKmsProvider": "fake_provider",
    "FaultProxy": "proxy",
    "NotShown": "rules",
    "ProviderSuite": "suite",
    "Quality": "quality",
    "Sandbox": "sandbox",
    "Tier": "rules",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
