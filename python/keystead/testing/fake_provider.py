"""A provider for `FakeKms` that follows every rule: to read, to copy from, and to break on purpose."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from keystead.provider import (
    Capabilities,
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    Provider,
    ProviderConfig,
    ProviderError,
    Throttled,
    Unauthenticated,
    Unavailable,
    WrapContext,
    Wrapped,
)

MAX_ANSWER = 1 << 16
CLASSES: dict[str, type[ProviderError]] = {
    "invalid_ciphertext": InvalidCiphertext,
    "unauthenticated": Unauthenticated,
    "denied": PermissionDenied,
    "not_found": KeyNotFound,
    "disabled": KeyDisabled,
    "throttled": Throttled,
    "unavailable": Unavailable,
}
"""What the service calls a failure, and what the operator will do about it."""


class FakeKmsConfig(ProviderConfig):
    """A key of a `FakeKms`."""

    provider: Literal["fake-kms"]
    url: str = Field(pattern=r"^https?://[^/]+$", description="Where the service is: http://host:port.")
    key: str = Field(default="k1", description="Name of the key.")
    tokenFile: Path = Field(description="File with the token; read again when the service refuses it.")  # noqa: N815
    caFile: Path | None = Field(default=None, description="CA of the service, for https.")  # noqa: N815


class FakeKmsProvider(Provider[FakeKmsConfig]):
    """Wraps with the service's encrypt, bound to the context; blob = version[2] nonce[24] ciphertext[32] tag[16]."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = FakeKmsConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=74
    )

    def __init__(self, config: FakeKmsConfig) -> None:
        super().__init__(config)
        self._client: Client | None = None

    def open(self, deadline: float) -> str:
        client = Client(self.config.url, self.config.tokenFile, self.config.caFile)
        answer = client.call("GET", f"/v1/keys/{self.config.key}", deadline)
        self._client = client
        if not answer.get("enabled"):
            raise KeyDisabled(f"key {self.config.key} is disabled")
        return self.config.key

    def current_version(self, deadline: float) -> str | None:
        return str(self._call(None, deadline)["version"])

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        body: dict[str, Any] = {"plaintext": _text(kek), "aad": _text(context.aad)}
        if version is not None:
            if not version.isascii() or not version.isdigit():
                raise KeyNotFound(f"{version[:64]!r} is no version of key {self.config.key}")
            body["version"] = int(version)
        answer = self._call("encrypt", deadline, body)
        return Wrapped(_bytes(answer, "ciphertext"), str(answer.get("version")))

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        if str(int.from_bytes(blob[:2])) != version:
            raise InvalidCiphertext(f"these {len(blob)} bytes are not what version {version[:64]} wrapped")
        answer = self._call("decrypt", deadline, {"ciphertext": _text(blob), "aad": _text(context.aad)})
        return bytearray(_bytes(answer, "plaintext"))

    def close(self) -> None:
        self._client = None

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if self._client is None:
            raise Unavailable("not open")
        path = f"/v1/keys/{self.config.key}"
        if operation is None:
            return self._client.call("GET", path, deadline)
        return self._client.call("POST", f"{path}:{operation}", deadline, body)


class Client:
    """The service's client: a connection for each call, which has to end by its deadline as a whole."""

    def __init__(self, url: str, token_file: Path, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._token_file = token_file
        self._token = self._read_token()

    def call(self, method: str, path: str, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the service answers. Raises a `ProviderError`."""
        status, answer = self._exchange(method, path, deadline, body)
        if status == 401 and self._token != (renewed := self._read_token()):
            self._token = renewed
            status, answer = self._exchange(method, path, deadline, body)
        if status == 200:
            return answer
        known = CLASSES.get(str(answer.get("code")), Unavailable if status >= 500 else Misbehaved)
        message = str(answer.get("message"))[:200] if known is not Misbehaved else "nothing that is known"
        raise known(f"{method} {path}: {status}: {message}")

    def __repr__(self) -> str:
        return f"Client({self._host}:{self._port})"

    def _read_token(self) -> str:
        try:
            return self._token_file.read_text().strip()
        except FileNotFoundError:
            raise Unauthenticated(f"{self._token_file} does not exist") from None
        except OSError as exc:
            raise ConfigError(f"cannot read {self._token_file}: {exc.strerror}") from None

    def _exchange(
        self, method: str, path: str, deadline: float, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n"
        request = f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content
        try:
            with self._connected(deadline) as sock:
                sock.sendall(request)
                answer = bytearray()
                while len(answer) <= MAX_ANSWER:
                    sock.settimeout(_left(deadline))
                    chunk = sock.recv(65536)
                    if not chunk:
                        break
                    answer += chunk
        except TimeoutError:
            raise Unavailable(f"{method} {path}: no complete answer in time") from None
        except OSError as exc:
            raise Unavailable(f"{method} {path}: {exc.strerror or type(exc).__name__}") from None
        return _parsed(bytes(answer), f"{method} {path}")

    @contextlib.contextmanager
    def _connected(self, deadline: float) -> Iterator[socket.socket]:
        with socket.create_connection((self._host, self._port), timeout=_left(deadline)) as plain:
            if self._tls is None:
                yield plain
                return
            plain.settimeout(_left(deadline))
            with self._tls.wrap_socket(plain, server_hostname=self._host) as sock:
                yield sock


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parsed(answer: bytes, what: str) -> tuple[int, dict[str, Any]]:
    head, _, content = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ", head)
    length = re.search(rb"^content-length: *([0-9]{1,6})\r?$", head, re.IGNORECASE | re.MULTILINE)
    if status is None:
        raise Unavailable(f"{what}: the connection broke, or the answer is not HTTP")
    if length is None or len(content) != int(length[1]):
        raise Unavailable(f"{what}: the answer is not complete")
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Misbehaved(f"{what}: {int(status[1])} without JSON: is there a proxy in between?")
    return int(status[1]), parsed


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(answer: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(answer[name], validate=True)
    except (KeyError, TypeError, ValueError):
        raise Misbehaved(f"an answer without {name} in base64") from None
