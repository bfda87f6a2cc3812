"""A FAKE of Cloud KMS, since Google offers none: symmetric keys with versions, checksums, tokens, and faults on demand.

It follows the service's published reference. One state is served over gRPC and over REST, both with TLS.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1
from google.protobuf import json_format

KEY = "projects/lab-1/locations/europe-west1/keyRings/ring/cryptoKeys/k8s"
TOKEN = "ya29.c.FakeAccessTokenOfTheTests-0123456789abcdef"
SERVICE = "google.cloud.kms.v1.KeyManagementService"
HTTP_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def crc32c(data: bytes) -> int:
    return int(google_crc32c.value(data))


class Refused(Exception):
    """A status and what the service says about it."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


@dataclass
class Version:
    material: bytes
    state: str = "ENABLED"


@dataclass
class Key:
    versions: dict[int, Version]
    primary: int | None = 1
    seen_by_encrypt: int | None = None
    """The version that a part of the service which lags still takes for the primary."""
    purpose: str = "ENCRYPT_DECRYPT"


@dataclass
class Fault:
    """What goes wrong with the next `times` calls of a method (all, if it is empty)."""

    method: str = ""
    status: str = ""
    text: str = "injected"
    delay: float = 0.0
    hang: bool = False
    change: Callable[[Any], None] | None = None
    """Changes the answer."""
    raw: bytes = b""
    """REST only: what is answered instead, with the code 200 unless `http_code` says another."""
    http_code: int = 200
    times: int = 1


@dataclass
class FakeKms:
    keys: dict[str, Key] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, name, and the header authorization of each call."""
    plaintexts: list[bytes] = field(default_factory=list)
    """What was encrypted."""
    tokens: set[str] | None = None
    """The tokens that are accepted; all, if it is `None`."""
    denied: set[str] = field(default_factory=set)
    """Methods that the caller may not use."""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, name: str = KEY, **options: Any) -> Key:
        key = self.keys[name] = Key({1: Version(AESGCM.generate_key(256))}, **options)
        return key

    def rotate(self, name: str = KEY) -> int:
        key = self.keys[name]
        number = max(key.versions) + 1
        key.versions[number] = Version(AESGCM.generate_key(256))
        key.primary = number
        return number

    def count(self, method: str) -> int:
        return sum(called == method for called, _, _ in self.calls)

    def serve(self, method: str, request: Any, authorization: str) -> Any:
        """Answer a call, or raise `Refused`."""
        with self.lock:
            self.calls.append((method, request.name, authorization))
            fault = next((fault for fault in self.faults if fault.method in ("", method)), Fault(times=0))
            fault.times -= 1
            if fault.times == 0:
                self.faults.remove(fault)
        if fault.hang:
            self.closing.wait(60)
        time.sleep(fault.delay)
        if self.tokens is not None and authorization.removeprefix("Bearer ") not in self.tokens:
            raise Refused("UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if fault.status:
            raise Refused(fault.status, fault.text)
        if method in self.denied:
            raise Refused("PERMISSION_DENIED", f"Permission 'cloudkms.x' denied on resource '{request.name}'.")
        handler: Callable[[Any], Any] = getattr(self, method)
        answer = handler(request)
        if fault.change is not None:
            fault.change(answer)
        return answer

    def Encrypt(self, request: Any) -> Any:  # noqa: N802  # the service's names
        name, _, number = request.name.partition("/cryptoKeyVersions/")
        key = self._key(name)
        chosen = int(number) if number else key.seen_by_encrypt or key.primary
        if chosen is None:
            raise Refused("FAILED_PRECONDITION", f"{name} has no primary version.")
        version = self._version(name, key, chosen)
        self._check(request, "plaintext")
        self.plaintexts.append(request.plaintext)
        nonce = os.urandom(12)
        sealed = AESGCM(version.material).encrypt(nonce, request.plaintext, request.additional_authenticated_data)
        ciphertext = chosen.to_bytes(4, "big") + nonce + sealed
        answer = kms_v1.EncryptResponse.pb()()
        answer.name, answer.ciphertext = f"{name}/cryptoKeyVersions/{chosen}", ciphertext
        answer.ciphertext_crc32c.value = crc32c(ciphertext)
        answer.verified_plaintext_crc32c = request.HasField("plaintext_crc32c")
        answer.verified_additional_authenticated_data_crc32c = request.HasField("additional_authenticated_data_crc32c")
        return answer

    def Decrypt(self, request: Any) -> Any:  # noqa: N802
        key = self._key(request.name)
        self._check(request, "ciphertext")
        number, nonce, sealed = request.ciphertext[:4], request.ciphertext[4:16], request.ciphertext[16:]
        invalid = Refused("INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
        chosen = int.from_bytes(number, "big")
        if chosen not in key.versions:
            raise invalid
        version = self._version(request.name, key, chosen)
        try:
            plaintext = AESGCM(version.material).decrypt(nonce, sealed, request.additional_authenticated_data)
        except (InvalidTag, ValueError):
            raise invalid from None
        answer = kms_v1.DecryptResponse.pb()()
        answer.plaintext, answer.used_primary = plaintext, chosen == key.primary
        answer.plaintext_crc32c.value = crc32c(plaintext)
        return answer

    def GetCryptoKey(self, request: Any) -> Any:  # noqa: N802
        key = self._key(request.name)
        answer = kms_v1.CryptoKey.pb()()
        answer.name = request.name
        answer.purpose = getattr(kms_v1.CryptoKey.CryptoKeyPurpose, key.purpose)
        if key.primary is not None:
            answer.primary.name = f"{request.name}/cryptoKeyVersions/{key.primary}"
            state = key.versions[key.primary].state
            answer.primary.state = getattr(kms_v1.CryptoKeyVersion.CryptoKeyVersionState, state)
        return answer

    def _key(self, name: str) -> Key:
        if name not in self.keys:
            raise Refused("NOT_FOUND", f"CryptoKey {name} not found.")
        return self.keys[name]

    @staticmethod
    def _version(name: str, key: Key, number: int) -> Version:
        version = key.versions.get(number)
        if version is None:
            raise Refused("NOT_FOUND", f"CryptoKeyVersion {name}/cryptoKeyVersions/{number} not found.")
        if version.state != "ENABLED":
            raise Refused(
                "FAILED_PRECONDITION",
                f"{name}/cryptoKeyVersions/{number} is not enabled, current state is: {version.state}.",
            )
        return version

    @staticmethod
    def _check(request: Any, text: str) -> None:
        for name in (text, "additional_authenticated_data"):
            checksum = f"{name}_crc32c"
            if request.HasField(checksum) and getattr(request, checksum).value != crc32c(getattr(request, name)):
                raise Refused("INVALID_ARGUMENT", f"The checksum in field {checksum} did not match field {name}.")


REQUESTS: dict[str, Any] = {
    "Encrypt": kms_v1.EncryptRequest.pb(),
    "Decrypt": kms_v1.DecryptRequest.pb(),
    "GetCryptoKey": kms_v1.GetCryptoKeyRequest.pb(),
}


@contextlib.contextmanager
def over_grpc(kms: FakeKms, certificate: tuple[Path, Path], port: int = 0) -> Iterator[int]:
    """Serve until the end of the block, and yield the port."""

    def handler(method: str) -> Any:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            try:
                return kms.serve(method, request, str(metadata.get("authorization", "")))
            except Refused as exc:
                context.abort(grpc.StatusCode[exc.status], exc.text)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=REQUESTS[method].FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )

    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, {method: handler(method) for method in REQUESTS})]
    )
    pair = (certificate[1].read_bytes(), certificate[0].read_bytes())
    bound = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield bound
    finally:
        kms.closing.set()
        server.stop(0).wait(5)
        kms.closing.clear()


@contextlib.contextmanager
def over_rest(kms: FakeKms, certificate: tuple[Path, Path], port: int = 0) -> Iterator[int]:
    """Serve until the end of the block, and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/v1/")
            name, _, verb = path.partition(":")
            method = {"encrypt": "Encrypt", "decrypt": "Decrypt", "": "GetCryptoKey"}[verb]
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = json_format.Parse(content or b"{}", REQUESTS[method]())
            request.name = name
            raw = next((fault for fault in kms.faults if fault.raw and fault.method in ("", method)), None)
            try:
                answer = kms.serve(method, request, self.headers.get("Authorization", ""))
                code, body = 200, json_format.MessageToJson(answer).encode()
            except Refused as exc:
                code = HTTP_CODES[exc.status]
                error = {"code": code, "message": exc.text, "status": exc.status}
                body = json.dumps({"error": error}).encode()
            if raw is not None:
                code, body = raw.http_code, raw.raw
            self.send_response(code)
            if 300 <= code < 400:
                self.send_header("Location", "https://127.0.0.1:1/elsewhere")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = Server(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        kms.closing.set()
        server.shutdown()
        server.close_all()
        thread.join(5)
        kms.closing.clear()


class Server(ThreadingHTTPServer):
    """Closes its connections at the end, as a server process that stops does, and prints nothing."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: list[Any] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def close_all(self) -> None:
        self.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(2)
            connection.close()
