"""Calls a KMS plugin over its socket, in raw bytes, so that a rule can also send what no good client sends."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.operate.self_test import grpc_address

V2 = "/v2.KeyManagementService"
V1 = "/v1beta1.KeyManagementService"
Options = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call: bytes, or a code and a text."""

    answer: bytes | None
    code: grpc.StatusCode
    text: str
    seconds: float

    @property
    def refused(self) -> bool:
        return self.answer is None

    def __str__(self) -> str:
        if self.answer is not None:
            return f"an answer of {len(self.answer)} bytes after {self.seconds:.2f} s"
        return f"{self.code.name}: {self.text[:200] or 'without a text'} (after {self.seconds:.2f} s)"


@dataclass(frozen=True)
class Sealed:
    """What an Encrypt answered, and what an API server would send back with Decrypt."""

    ciphertext: bytes
    key_id: str
    annotations: Mapping[str, bytes] = field(default_factory=dict)

    def but(self, **changes: Any) -> Sealed:
        """Return the same with some fields changed."""
        return replace(self, **changes)

    def request(self, uid: str | None = None) -> bytes:
        """Return the DecryptRequest."""
        message = v2.DecryptRequest(
            ciphertext=self.ciphertext,
            uid=str(uuid.uuid4()) if uid is None else uid,
            key_id=self.key_id,
            annotations=self.annotations,
        )
        return bytes(message.SerializeToString())


class Client:
    """One connection, as a kube-apiserver has one for each KMS entry of its configuration."""

    def __init__(self, endpoint: str, timeout: float, authority: str = "localhost") -> None:
        options: Options = [
            ("grpc.default_authority", authority),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self._timeout = timeout
        self._channel = grpc.insecure_channel(grpc_address(endpoint), options=options)

    def call(self, method: str, request: bytes, timeout: float | None = None) -> Reply:
        """Send bytes, and return whatever comes."""
        started = time.perf_counter()
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        try:
            answer = send(request, timeout=timeout or self._timeout, wait_for_ready=True)
        except grpc.RpcError as exc:
            return Reply(None, exc.code(), exc.details() or "", time.perf_counter() - started)
        return Reply(answer, grpc.StatusCode.OK, "", time.perf_counter() - started)

    def start(self, method: str, request: bytes) -> Any:
        """Send bytes without waiting for the answer; the call can be cancelled."""
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        return send.future(request, timeout=self._timeout, wait_for_ready=True)

    def status(self) -> Reply:
        return self.call(f"{V2}/Status", b"")

    def encrypt(self, plaintext: bytes, uid: str | None = None) -> Reply:
        message = v2.EncryptRequest(plaintext=plaintext, uid=str(uuid.uuid4()) if uid is None else uid)
        return self.call(f"{V2}/Encrypt", message.SerializeToString())

    def decrypt(self, sealed: Sealed, uid: str | None = None) -> Reply:
        return self.call(f"{V2}/Decrypt", sealed.request(uid))

    def version_v1(self) -> Reply:
        return self.call(f"{V1}/Version", v1.VersionRequest(version="v1beta1").SerializeToString())

    def encrypt_v1(self, plain: bytes) -> Reply:
        return self.call(f"{V1}/Encrypt", v1.EncryptRequest(version="v1beta1", plain=plain).SerializeToString())

    def decrypt_v1(self, cipher: bytes) -> Reply:
        return self.call(f"{V1}/Decrypt", v1.DecryptRequest(version="v1beta1", cipher=cipher).SerializeToString())

    def close(self) -> None:
        self._channel.close()


def raw_connection(endpoint: str, seconds: float) -> socket.socket:
    """Connect without gRPC."""
    address = grpc_address(endpoint)
    name = f"\0{address.removeprefix('unix-abstract:')}" if address.startswith("unix-abstract:") else address[5:]
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(seconds)
    made.connect(name)
    return made
