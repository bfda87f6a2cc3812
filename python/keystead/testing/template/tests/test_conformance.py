"""The conformance rules of Keystead, on this provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from keystead_acme import AcmeConfig, AcmeProvider

from keystead.testing import FakeKms, FakeKmsSandbox, FaultProxy, ProviderSuite


class AcmeSandbox(FakeKmsSandbox):
    """What the suite may do to the remote. For yours, derive from `keystead.testing.Sandbox`, method by method."""

    published = True


class TestAcme(ProviderSuite):
    @pytest.fixture
    def kms(self, tmp_path: Path) -> Iterator[FakeKms]:
        """The remote KMS: a fake, until you start your own here."""
        with FakeKms().serve() as kms:
            (tmp_path / "token").write_text(kms.token)
            yield kms

    @pytest.fixture
    def sandbox(self, kms: FakeKms, tmp_path: Path) -> AcmeSandbox:
        return AcmeSandbox(kms, tmp_path / "token")

    @pytest.fixture
    def provider(self, kms: FakeKms, tmp_path: Path, fault_proxy: FaultProxy) -> AcmeProvider:
        """A provider that is not open. It goes through the proxy, so that the suite can disturb the network."""
        proxy = fault_proxy.to(kms.url.removeprefix("http://"), tls=True)
        config = AcmeConfig(
            name="k",
            provider="acme",
            address=f"https://{proxy.address}",
            key="k1",
            tokenFile=tmp_path / "token",
            caFile=proxy.ca_file,
        )
        return AcmeProvider(config)
