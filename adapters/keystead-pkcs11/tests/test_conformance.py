"""The conformance rules of Keystead, on a real SoftHSM."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from keystead_pkcs11 import Pkcs11Provider
from softhsm import HsmSandbox

from keystead.testing import ProviderSuite


class TestPkcs11(ProviderSuite):
    @pytest.fixture
    def sandbox(self, sandbox: HsmSandbox) -> HsmSandbox:
        return sandbox

    @pytest.fixture
    def provider(self, make: Callable[..., Pkcs11Provider]) -> Pkcs11Provider:
        return make()
