"""The provider `age-x25519` only wraps, for recovery; it keeps the rules about that."""

from __future__ import annotations

import pytest

from keystead.providers.age_x25519 import AgeX25519Config, AgeX25519Provider
from keystead.testing import ProviderSuite


class TestAgeX25519(ProviderSuite):
    @pytest.fixture
    def provider(self) -> AgeX25519Provider:
        pyrage = pytest.importorskip(
            "pyrage", reason="NOT TESTED: no pyrage; pip install --require-hashes -r requirements/backends.txt"
        )
        recipient = str(pyrage.x25519.Identity.generate().to_public())
        return AgeX25519Provider(AgeX25519Config(name="k", provider="age-x25519", recipient=recipient))
