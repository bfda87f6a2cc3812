"""The reference provider follows every rule of the kit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead.testing import (
    FakeKms,
    FakeKmsConfig,
    FakeKmsProvider,
    FakeKmsSandbox,
    FaultProxy,
    ProviderSuite,
    Quality,
    Tier,
)


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[FakeKms]:
    with FakeKms().serve() as kms:
        (tmp_path / "token").write_text(kms.token)
        yield kms


class TestFakeKms(ProviderSuite):
    """Gold, but for the two rules that only a release can keep."""

    quality = Quality(
        tier=Tier.GOLD,
        exempt={"KS-R009": "a fake has no page of its own", "KS-R095": "a part of Keystead, released with it"},
    )

    @pytest.fixture
    def sandbox(self, kms: FakeKms, tmp_path: Path) -> FakeKmsSandbox:
        return FakeKmsSandbox(kms, tmp_path / "token")

    @pytest.fixture
    def provider(self, kms: FakeKms, tmp_path: Path, fault_proxy: FaultProxy) -> FakeKmsProvider:
        proxy = fault_proxy.to(kms.url.removeprefix("http://"), tls=True)
        config = FakeKmsConfig(
            name="k",
            provider="fake-kms",
            url=f"https://{proxy.address}",
            tokenFile=tmp_path / "token",
            caFile=proxy.ca_file,
        )
        return FakeKmsProvider(config)
