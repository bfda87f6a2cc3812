"""The project's FAKE of Cloud KMS, over gRPC with TLS to Google's client, and what can be wrong with a key there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.line import Line
from faults.remotes import RemoteOnALine
from keystead.providers._gcp.config import GcpKmsConfig
from keystead.providers.gcp_kms import GcpKmsProvider
from providers.gcp.fake import KEY, FakeKms, Fault, crc32c, over_grpc
from providers.gcp.given import service_account
from providers.vault.certificates import Authority

STATES = {"key disabled": "DISABLED", "key destroyed": "DESTROYED"}
STATUSES = {"rate limit": "RESOURCE_EXHAUSTED", "internal error": "INTERNAL"}
ALWAYS = 1_000_000


class Gcp(RemoteOnALine):
    """Cloud KMS with one key of two versions. A service account signs the tokens."""

    name = "gcp-kms"
    peer_version = "1"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        ca = Authority.create(directory / "gcp-ca.crt")
        self.kms = FakeKms()
        self.kms.create()
        self.kms.rotate()
        port = self.stack.enter_context(over_grpc(self.kms, ca.issue(directory, "kms.test", "127.0.0.1")))
        self.line = Line(f"127.0.0.1:{port}")
        self.stack.callback(self.line.close)
        self.credentials = service_account(directory / "gcp-credentials.json", "one@lab-1.iam.gserviceaccount.com")
        self.key = {
            "name": self.name,
            "provider": self.name,
            "keyName": KEY,
            "endpoint": self.line.address,
            "caFile": str(ca.file),
            "credentialsFile": str(self.credentials),
        }
        direct = {**self.key, "endpoint": f"127.0.0.1:{port}"}
        self.peer = GcpKmsProvider(GcpKmsConfig.model_validate(direct))
        self.open()

    def unwraps(self) -> int:
        return self.kms.count("Decrypt")

    def requests(self) -> int:
        return len(self.kms.calls)

    @contextlib.contextmanager
    def own_fault(self, name: str) -> Iterator[None]:
        key = self.kms.keys[KEY]
        match name:
            case "token expired":
                self.kms.tokens = set()
            case "denied":
                self.kms.denied = {"Decrypt"}
            case "key not found":
                del self.kms.keys[KEY]
            case "key disabled" | "key destroyed":
                key.versions[1].state = STATES[name]
            case "another key returned":
                self.kms.faults.append(Fault("Decrypt", change=_to_zeros, times=ALWAYS))
            case _:
                self.kms.faults.append(Fault("Decrypt", STATUSES[name], times=ALWAYS))
        try:
            yield
        finally:
            self.kms.tokens = None
            self.kms.denied.clear()
            self.kms.keys[KEY] = key
            key.versions[1].state = "ENABLED"
            self.kms.faults.clear()


def _to_zeros(answer: Any) -> None:
    answer.plaintext = bytes(32)
    answer.plaintext_crc32c.value = crc32c(bytes(32))
