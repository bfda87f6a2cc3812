"""One endpoint over a fake remote key, served on a real unix socket in this process, and clients for it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from keystead._core import ROLE_ONLINE, Kek, KekStore, Wrap
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.host.endpoint import Endpoint
from keystead.provider import WrapContext, Wrapped
from keystead.server.listener import Listener
from keystead.server.metrics import Metrics
from keystead.server.services import methods
from support.fakes import CLUSTER, SCHEME, FakeProvider, members_of, target_of

V2_SERVICE = "/v2.KeyManagementService"
V1_SERVICE = "/v1beta1.KeyManagementService"
TIMEOUT = 3.0
"""Seconds per call, the default of an EncryptionConfiguration."""


def shared_key() -> FakeProvider:
    """A fake key that unwraps what every other one of these wrapped, also in another process."""
    provider = FakeProvider()
    provider.versions = {"1": bytes(range(32))}
    return provider


@dataclass(frozen=True)
class Sealed:
    """What an API server stores of one v2 Encrypt, and sends back with Decrypt."""

    ciphertext: bytes
    key_id: str
    annotations: Mapping[str, bytes]

    @classmethod
    def of(cls, answer: v2.EncryptResponse) -> Sealed:
        return cls(answer.ciphertext, answer.key_id, dict(answer.annotations))

    @property
    def record(self) -> bytes:
        return self.annotations["kek.keystead.dev"]


class Client:
    """One connection, as a kube-apiserver has one for each KMS entry."""

    def __init__(self, address: str, authority: str = "localhost") -> None:
        options: list[tuple[str, str | int]] = [
            ("grpc.default_authority", authority),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        # A test starts its plugin and calls at once; the usual back-off would only cost it seconds.
        options += [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
        options += [("grpc.max_reconnect_backoff_ms", 200)]
        self.channel = grpc.insecure_channel(address, options=options)

    def call(self, method: str, request: bytes, timeout: float = TIMEOUT) -> bytes:
        """Send raw bytes and return raw bytes. Raises `grpc.RpcError`."""
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(method)
        return send(request, timeout=timeout, wait_for_ready=True)

    def start(self, method: str, request: bytes, timeout: float | None = TIMEOUT) -> grpc._CallFuture[bytes]:
        """Send raw bytes without waiting for the answer."""
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(method)
        return send.future(request, timeout=timeout, wait_for_ready=True)

    def refusal(self, method: str, request: bytes, timeout: float = TIMEOUT) -> tuple[grpc.StatusCode, str]:
        """The code and text of a call that must fail; an answer is a failure of the test."""
        try:
            answer = self.call(method, request, timeout)
        except grpc.RpcError as exc:
            return exc.code(), exc.details() or ""
        raise AssertionError(f"{method} answered {len(answer)} bytes where it should refuse")

    def status(self, timeout: float = TIMEOUT) -> v2.StatusResponse:
        return v2.StatusResponse.FromString(self.call(f"{V2_SERVICE}/Status", b"", timeout))

    def encrypt(self, plaintext: bytes, uid: str = "") -> v2.EncryptResponse:
        request = v2.EncryptRequest(plaintext=plaintext, uid=uid).SerializeToString()
        return v2.EncryptResponse.FromString(self.call(f"{V2_SERVICE}/Encrypt", request))

    def seal(self, plaintext: bytes) -> Sealed:
        return Sealed.of(self.encrypt(plaintext))

    def decrypt(self, sealed: Sealed, timeout: float = TIMEOUT) -> bytes:
        answer = v2.DecryptResponse.FromString(self.call(f"{V2_SERVICE}/Decrypt", decrypt_request(sealed), timeout))
        return bytes(answer.plaintext)

    def encrypt_v1(self, plain: bytes) -> bytes:
        request = v1.EncryptRequest(version="v1beta1", plain=plain).SerializeToString()
        return bytes(v1.EncryptResponse.FromString(self.call(f"{V1_SERVICE}/Encrypt", request)).cipher)

    def decrypt_v1(self, cipher: bytes) -> bytes:
        request = v1.DecryptRequest(version="v1beta1", cipher=cipher).SerializeToString()
        return bytes(v1.DecryptResponse.FromString(self.call(f"{V1_SERVICE}/Decrypt", request)).plain)

    def close(self) -> None:
        self.channel.close()


def decrypt_request(sealed: Sealed) -> bytes:
    """The DecryptRequest for what an Encrypt answered."""
    message = v2.DecryptRequest(
        ciphertext=sealed.ciphertext, uid="0d1c", key_id=sealed.key_id, annotations=sealed.annotations
    )
    encoded: bytes = message.SerializeToString()
    return encoded


@dataclass(frozen=True)
class Served:
    """An endpoint that answers on a socket."""

    address: str
    endpoint: Endpoint
    metrics: Metrics
    provider: FakeProvider
    client: Client


@contextlib.contextmanager
def served(
    directory: Path,
    provider: FakeProvider | None = None,
    *,
    kms_versions: Sequence[str] = ("v2", "v1beta1"),
    log_calls: bool = False,
) -> Iterator[Served]:
    """Serve one endpoint that has its local KEK already; its housekeeping runs only when a test calls `tend`."""
    provider = provider or shared_key()
    metrics = Metrics()
    endpoint = Endpoint("main", target_of(members_of(provider)), directory / "state", metrics)
    assert endpoint.tend()
    listener = Listener("main", metrics)
    listener.serve("main", methods(endpoint, kms_versions), log_calls=log_calls)
    address = f"unix:{directory}/kms.sock"
    listener.bind(address)
    listener.start()
    client = Client(address)
    try:
        yield Served(address, endpoint, metrics, provider, client)
    finally:
        client.close()
        listener.stop(0)()
        endpoint.stop()


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name, which pytest's may not."""
    path = Path(tempfile.mkdtemp(prefix="ks-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def seal_cold(provider: FakeProvider, count: int, *, seed: bytes = bytes(32)) -> list[Sealed]:
    """Seeds sealed under as many local KEKs of a peer, each of which costs one unwrap."""

    def wrap(kek: bytes, context: WrapContext) -> Wrapped:
        return provider.wrap(kek, context, None, 0.0)

    return seal_as_peer(wrap, SCHEME, str(provider.ref), count, seed=seed)


def seal_as_peer(
    wrap: Callable[[bytes, WrapContext], Wrapped], scheme: str, ref: str, count: int, *, seed: bytes = bytes(32)
) -> list[Sealed]:
    """Seeds sealed under as many local KEKs, each wrapped under one key that `scheme` and `ref` name."""
    sealed = []
    for _ in range(count):
        kek = Kek.generate()
        blob, version = wrap(kek.reveal(), WrapContext(kek.kek_id, CLUSTER))
        record = kek.encode_record(1_790_000_000, CLUSTER, [Wrap(scheme, ref, version, ROLE_ONLINE, blob)])
        store = KekStore([CLUSTER])
        store.admit_fresh(record, kek)
        request = v2.EncryptRequest(plaintext=seed).SerializeToString()
        answer = store.write_state(record, record.key_id(1)).encrypt_v2(request)
        sealed.append(Sealed.of(v2.EncryptResponse.FromString(answer)))
    return sealed
