from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "google.cloud.kms_v1",
    reason="NOT TESTED: no google-cloud-kms; pip install --require-hashes -r requirements/backends.txt",
)

from keystead.providers.gcp_kms import GcpKmsProvider
from providers.gcp.fake import KEY, FakeKms, over_grpc, over_rest
from providers.gcp.given import Make, Served
from providers.gcp.metadata import FakeMetadata, metadata_server
from providers.vault.certificates import Authority


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("gcp") / "ca.crt")


@pytest.fixture(scope="session")
def certificate(ca: Authority) -> tuple[Path, Path]:
    return ca.issue(ca.file.parent, "kms.test", "127.0.0.1")


@pytest.fixture(params=["grpc", "rest"])
def served(request: pytest.FixtureRequest, ca: Authority, certificate: tuple[Path, Path]) -> Iterator[Served]:
    """A fake with one key, over each transport in turn."""
    kms = FakeKms()
    kms.create()
    with (over_grpc if request.param == "grpc" else over_rest)(kms, certificate) as port:
        yield Served(kms, f"127.0.0.1:{port}", request.param, ca.file)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMetadata]:
    """The metadata server that the machine seems to have."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with metadata_server() as fake:
        monkeypatch.setenv("GCE_METADATA_HOST", fake.address)
        yield fake


@pytest.fixture
def make(metadata: FakeMetadata) -> Iterator[Make]:
    """Build a provider that is closed at the end."""
    with contextlib.ExitStack() as stack:

        def build(served: Served, **fields: Any) -> GcpKmsProvider:
            described = {"endpoint": served.endpoint, "transport": served.transport, "caFile": str(served.ca_file)}
            config = GcpKmsProvider.config_type.model_validate(
                {"name": "k", "provider": "gcp-kms", "keyName": KEY, **described, **fields}
            )
            provider = GcpKmsProvider(config)  # type: ignore[arg-type]  # config_type is this class's own
            stack.callback(provider.close)
            return provider

        yield build
