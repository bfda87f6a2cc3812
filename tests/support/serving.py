"""One endpoint over a fake remote key, served on a real unix socket in this process, and clients for it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import grpc

from keystead._core import ROLE_ONLINE, AeadKey, Kek, KekStore, Wrap
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.errors import InvalidCiphertext, NotAuthentic
from keystead.host.endpoint import Endpoint, Target
from keystead.host.guard import Guard
from keystead.host.members import Member, Members
from keystead.provider import Capabilities, Provider, ProviderConfig, WrapContext, Wrapped
from keystead.server.listener import Listener
from keystead.server.metrics import Metrics
from keystead.server.services import methods

V2_SERVICE = "/v2.KeyManagementService"
V1_SERVICE = "/v1beta1.KeyManagementService"
TIMEOUT = 3.0
"""Seconds per call, the default of an EncryptionConfiguration."""


class HookedProvider(Provider[ProviderConfig]):
    """A remote key in memory. `on_unwrap` is called before each unwrap, and may wait or raise."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = ProviderConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=False, authenticated_wrap=True, max_blob=72
    )

    def __init__(self, key: bytes = bytes(range(32)), ref: str = "hooked") -> None:
        super().__init__(ProviderConfig(name="main", provider="hooked"))
        self._key = AeadKey(bytearray(key))
        self._ref = ref
        self._lock = threading.Lock()
        self.unwraps = 0
        self.on_unwrap: Callable[[], object] = lambda: None

    def open(self, deadline: float) -> str:
        return self._ref

    def current_version(self, deadline: float) -> str | None:
        return ""

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return Wrapped(self._key.seal(kek, context.aad), "")

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        with self._lock:
            self.unwraps += 1
        self.on_unwrap()
        try:
            return self._key.open(blob, context.aad)
        except NotAuthentic as exc:
            raise InvalidCiphertext("did not wrap this") from exc

    def close(self) -> None:
        pass


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
        options = [("grpc.default_authority", authority), ("grpc.use_local_subchannel_pool", 1)]
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
    provider: HookedProvider
    client: Client

    def forget(self) -> None:
        """Drop every local KEK from memory, so that the next Decrypt is a cold one."""
        self.endpoint._store.retain([])


@contextlib.contextmanager
def served(
    directory: Path,
    provider: HookedProvider | None = None,
    *,
    kms_versions: Sequence[str] = ("v2", "v1beta1"),
    cluster: str = "test",
    log_calls: bool = False,
) -> Iterator[Served]:
    """Serve one endpoint that has its local KEK already; its housekeeping runs only when a test calls `tend`."""
    provider = provider or HookedProvider()
    metrics = Metrics()
    endpoint = Endpoint("main", target_for(provider, cluster=cluster), directory / "state", metrics)
    assert endpoint.tend()
    listener = Listener("main", methods(endpoint, kms_versions), metrics, log_calls=log_calls)
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


def target_for(provider: HookedProvider, *, cluster: str = "test", epoch: int = 1) -> Target:
    """A target with the provider as its one active member."""
    return Target(
        cluster=cluster,
        accept_clusters=(cluster,),
        epoch=epoch,
        members=Members((Member(Guard("main", "hooked", provider), active=True),)),
        status_version="v2",
        max_age=86400.0,
        unwrap_timeout=10.0,
        grace=3600.0,
        probe_interval=60.0,
    )


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name, which pytest's may not."""
    path = Path(tempfile.mkdtemp(prefix="ks-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def seal_cold(provider: HookedProvider, count: int, *, cluster: str = "test", seed: bytes = bytes(32)) -> list[Sealed]:
    """Seeds sealed under as many local KEKs of a peer, each of which costs one unwrap."""
    sealed = []
    for _ in range(count):
        kek = Kek.generate()
        wrapped = provider.wrap(kek.reveal(), WrapContext(kek.kek_id, cluster), None, 0.0)
        record = kek.encode_record(1_790_000_000, cluster, [Wrap("hooked", "hooked", "", ROLE_ONLINE, wrapped.blob)])
        store = KekStore([cluster])
        store.admit_fresh(record, kek)
        request = v2.EncryptRequest(plaintext=seed).SerializeToString()
        answer = store.write_state(record, record.key_id(1)).encrypt_v2(request)
        sealed.append(Sealed.of(v2.EncryptResponse.FromString(answer)))
    return sealed
