"""The provider `gcp-kms` keeps the rules on the project's FAKE of Cloud KMS, over both transports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip(
    "google.cloud.kms_v1",
    reason="NOT TESTED: no google-cloud-kms; pip install --require-hashes -r requirements/backends.txt",
)

from keystead.provider import WrapContext, Wrapped
from keystead.providers.gcp_kms import GcpKmsProvider
from keystead.testing import FaultProxy, ProviderSuite, Sandbox
from providers.gcp.fake import KEY, REQUESTS, FakeKms, Fault, over_grpc, over_rest
from providers.gcp.metadata import FakeMetadata, metadata_server
from providers.vault.certificates import Authority

OTHER = KEY.replace("k8s", "other")
ALWAYS = 1_000_000


class GcpSandbox(Sandbox):
    def __init__(self, kms: FakeKms, metadata: FakeMetadata) -> None:
        self._kms = kms
        self._metadata = metadata
        kms.tokens = {metadata.token}

    def secrets(self) -> list[str]:
        return [self._metadata.token]

    def rotate(self) -> None:
        self._kms.rotate()

    @contextlib.contextmanager
    def version_disabled(self, version: str) -> Iterator[None]:
        found = self._kms.keys[KEY].versions[int(version)]
        found.state = "DISABLED"
        yield
        found.state = "ENABLED"

    def key_disabled(self) -> contextlib.AbstractContextManager[None]:
        """Cloud KMS disables versions, not keys: the only one, then."""
        return self.version_disabled("1")

    @contextlib.contextmanager
    def key_missing(self) -> Iterator[None]:
        key = self._kms.keys.pop(KEY)
        yield
        self._kms.keys[KEY] = key

    @contextlib.contextmanager
    def access_denied(self) -> Iterator[None]:
        self._kms.denied |= REQUESTS.keys()
        yield
        self._kms.denied.clear()

    def throttled(self) -> contextlib.AbstractContextManager[None]:
        return self._answering("RESOURCE_EXHAUSTED")

    def out_of_order(self) -> contextlib.AbstractContextManager[None]:
        return self._answering("UNAVAILABLE")

    @contextlib.contextmanager
    def credentials_expired(self) -> Iterator[None]:
        """The service takes no token that the metadata server hands out meanwhile; afterwards a new one."""
        self._kms.tokens = set()
        yield
        self._metadata.token = "ya29.c.AnotherTokenOfTheTests-0123456789abcdef"
        self._kms.tokens = {self._metadata.token}

    @contextlib.contextmanager
    def wrong_answers(self) -> Iterator[None]:
        def shorten(answer: Any) -> None:
            answer.plaintext = answer.plaintext[:31]

        self._kms.faults.append(fault := Fault("Decrypt", change=shorten, times=ALWAYS))
        yield
        self._kms.faults.remove(fault)

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:
        self._kms.create(OTHER)
        request = REQUESTS["Encrypt"]()
        request.name, request.plaintext, request.additional_authenticated_data = OTHER, kek, context.aad
        return Wrapped(self._kms.Encrypt(request).ciphertext, "1")

    @contextlib.contextmanager
    def _answering(self, status: str) -> Iterator[None]:
        self._kms.faults.append(fault := Fault(status=status, times=ALWAYS))
        yield
        self._kms.faults.remove(fault)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("gcp") / "ca.crt")


@pytest.fixture(scope="module")
def certificate(ca: Authority) -> tuple[Path, Path]:
    return ca.issue(ca.file.parent, "kms.test", "127.0.0.1")


class GcpSuite(ProviderSuite):
    transport: ClassVar[str]

    @pytest.fixture
    def metadata(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMetadata]:
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        with metadata_server() as fake:
            monkeypatch.setenv("GCE_METADATA_HOST", fake.address)
            yield fake

    @pytest.fixture
    def kms(self) -> FakeKms:
        kms = FakeKms()
        kms.create()
        return kms

    @pytest.fixture
    def sandbox(self, kms: FakeKms, metadata: FakeMetadata) -> GcpSandbox:
        return GcpSandbox(kms, metadata)

    @pytest.fixture
    def provider(
        self,
        kms: FakeKms,
        sandbox: GcpSandbox,
        ca: Authority,
        certificate: tuple[Path, Path],
        fault_proxy: FaultProxy,
    ) -> Iterator[GcpKmsProvider]:
        with (over_grpc if self.transport == "grpc" else over_rest)(kms, certificate) as port:
            proxy = fault_proxy.to(f"127.0.0.1:{port}", tls=True, target_ca=ca.file)
            described: dict[str, Any] = {
                "name": "k",
                "provider": "gcp-kms",
                "keyName": KEY,
                "endpoint": proxy.address,
                "transport": self.transport,
                "caFile": str(proxy.ca_file),
            }
            config: Any = GcpKmsProvider.config_type.model_validate(described)
            yield GcpKmsProvider(config)


class TestGcpKmsOverGrpc(GcpSuite):
    transport = "grpc"


class TestGcpKmsOverRest(GcpSuite):
    transport = "rest"
