"""The conformance rules of Keystead, on the fake of Azure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import build
from fake_azure import AzureSandbox, FakeAzure
from keystead_azure import AzureProvider

from keystead.testing import FaultProxy, ProviderSuite


class OfAzure:
    """The fixtures of both suites; tokens are had without the proxy, which is in front of the vault."""

    kind: str

    @pytest.fixture
    def azure(self) -> Iterator[FakeAzure]:
        with FakeAzure(self.kind).serve() as azure:
            yield azure

    @pytest.fixture
    def sandbox(self, azure: FakeAzure, tmp_path: Path) -> AzureSandbox:
        return AzureSandbox(azure, tmp_path / "secret")

    @pytest.fixture
    def provider(self, azure: FakeAzure, sandbox: AzureSandbox, fault_proxy: FaultProxy) -> AzureProvider:
        proxy = fault_proxy.to(azure.address, tls=True)
        return build(azure, sandbox, f"https://{proxy.address}", caFile=str(proxy.ca_file))


class TestManagedHsm(OfAzure, ProviderSuite):
    kind = "oct-HSM"


class TestKeyVault(OfAzure, ProviderSuite):
    kind = "RSA"
