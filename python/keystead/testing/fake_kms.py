"""A KMS for tests that behaves: versions, states, tokens, and AES-GCM that is bound to its context, over HTTP.

    with FakeKms().serve() as kms:
        provider = FakeKmsProvider(FakeKmsConfig(name="k", provider="fake-kms", url=kms.url, ...))

`python -m keystead.testing.fake_kms --port 8470 --token-file FILE --state FILE` runs one as a process.
Whoever holds the file of its state holds its keys: for tests only.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from keystead._core import AeadKey
from keystead.errors import MalformedRequest, NotAuthentic
from keystead.provider import WrapContext, Wrapped
from keystead.testing.sandbox import Sandbox

_PATH = re.compile(r"/v1/keys/([a-z0-9-]{1,63})(?::(encrypt|decrypt))?")
MAX_BODY = 1 << 20


class Refusal(Exception):
    """What the service answers instead of a result: an HTTP status and a word for it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass
class Key:
    """A remote key: its versions, newest last."""

    versions: dict[int, bytes] = field(default_factory=dict, repr=False)
    disabled: set[int] = field(default_factory=set)
    enabled: bool = True

    @property
    def current(self) -> int:
        return max(self.versions)


class FakeKms:
    """The service. Its attributes may be changed while it runs; each call sees them as they are."""

    def __init__(self, key: str = "k1", token: str | None = None) -> None:
        self.token = token or base64.urlsafe_b64encode(os.urandom(24)).decode()
        self.keys = {key: Key({1: os.urandom(32)}), "other": Key({1: os.urandom(32)})}
        self.calls = 0
        """Requests so far."""
        self.fault: Refusal | None = None
        """What every call is answered with."""
        self.short_answers = False
        """Whether decrypt answers with one byte less than was wrapped."""
        self.url = ""
        self._lock = threading.Lock()

    def rotate(self, key: str = "k1") -> int:
        """Make a new version the current one."""
        with self._lock:
            found = self.keys[key]
            found.versions[found.current + 1] = os.urandom(32)
            return found.current

    @contextlib.contextmanager
    def serve(self, port: int = 0) -> Iterator[FakeKms]:
        """Answer on loopback until the end of the block."""
        server = _Server(("127.0.0.1", port), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True, name="fake-kms")
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, name: str, operation: str | None, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one request. Raises `Refusal`."""
        with self._lock:
            self.calls += 1
            if self.fault is not None:
                raise self.fault
            if token != self.token:
                raise Refusal(401, "unauthenticated", "the token is not valid")
            key = self.keys.get(name)
            if key is None:
                raise Refusal(404, "not_found", f"there is no key {name}")
            if operation is None:
                return {"id": name, "version": key.current, "enabled": key.enabled}
            if not key.enabled:
                raise Refusal(409, "disabled", f"key {name} is disabled")
            return self._encrypt(key, body) if operation == "encrypt" else self._decrypt(key, body)

    def save(self, file: Path) -> None:
        """Write the keys to a file, in clear."""
        kept = {
            name: {str(number): value.hex() for number, value in key.versions.items()}
            for name, key in self.keys.items()
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(kept))

    def load(self, file: Path) -> None:
        """Read what `save` wrote."""
        self.keys = {
            name: Key({int(number): bytes.fromhex(value) for number, value in versions.items()})
            for name, versions in json.loads(file.read_text()).items()
        }

    def _encrypt(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        version = self._version(key, body.get("version", key.current))
        sealed = AeadKey(bytearray(key.versions[version])).seal(_bytes(body, "plaintext"), _bytes(body, "aad"))
        return {"ciphertext": _text(version.to_bytes(2) + sealed), "version": version}

    def _decrypt(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        blob = _bytes(body, "ciphertext")
        number = int.from_bytes(blob[:2])
        if len(blob) < 2 or number not in key.versions:
            raise Refusal(400, "invalid_ciphertext", "this key did not encrypt these bytes")
        version = self._version(key, number)
        try:
            plaintext = AeadKey(bytearray(key.versions[version])).open(blob[2:], _bytes(body, "aad"))
        except (NotAuthentic, MalformedRequest):
            raise Refusal(400, "invalid_ciphertext", "this key did not encrypt these bytes") from None
        return {"plaintext": _text(plaintext[: -1 if self.short_answers else None]), "version": version}

    def _version(self, key: Key, version: object) -> int:
        if type(version) is not int or version not in key.versions:
            raise Refusal(404, "not_found", f"there is no version {str(version)[:20]}")
        if version in key.disabled:
            raise Refusal(409, "disabled", f"version {version} is disabled")
        return version


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that break: tests break them on purpose."""


def _handler(kms: FakeKms) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing: a request holds a key."""

        def _reply(self) -> None:
            match = _PATH.fullmatch(self.path)
            name, operation = match.groups() if match is not None else ("", None)
            try:
                size = int(self.headers.get("Content-Length", 0))
                content = self.rfile.read(size) if 0 < size <= MAX_BODY else b"{}"
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, body = 200, kms.answer(name, operation, token, json.loads(content))
            except Refusal as exc:
                status, body = exc.status, {"code": exc.code, "message": str(exc)}
            except (ValueError, TypeError, AttributeError):
                status, body = 400, {"code": "malformed", "message": "this is not a request"}
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

    return Handler


def _bytes(body: dict[str, Any], name: str) -> bytes:
    return base64.b64decode(body[name], validate=True)


def _text(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


class FakeKmsSandbox(Sandbox):
    """All that the suite may ask for, done to a `FakeKms`."""

    published = False

    def __init__(self, kms: FakeKms, token_file: Path, key: str = "k1") -> None:
        self._kms = kms
        self._token_file = token_file
        self._name = key

    def secrets(self) -> list[str]:
        return [self._kms.token]

    def rotate(self) -> None:
        self._kms.rotate(self._name)

    @contextlib.contextmanager
    def version_disabled(self, version: str) -> Iterator[None]:
        disabled = self._kms.keys[self._name].disabled
        disabled.add(int(version))
        try:
            yield
        finally:
            disabled.remove(int(version))

    @contextlib.contextmanager
    def key_disabled(self) -> Iterator[None]:
        key = self._kms.keys[self._name]
        key.enabled = False
        try:
            yield
        finally:
            key.enabled = True

    @contextlib.contextmanager
    def key_missing(self) -> Iterator[None]:
        key = self._kms.keys.pop(self._name)
        try:
            yield
        finally:
            self._kms.keys[self._name] = key

    def access_denied(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(Refusal(403, "denied", "a policy denies this"))

    def throttled(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(Refusal(429, "throttled", "too many requests"))

    def out_of_order(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(Refusal(503, "unavailable", "in maintenance"))

    @contextlib.contextmanager
    def credentials_expired(self) -> Iterator[None]:
        """The service takes another token meanwhile, which is in the file at the end."""
        self._kms.token = base64.urlsafe_b64encode(os.urandom(24)).decode()
        try:
            yield
        finally:
            self._token_file.write_text(self._kms.token)

    @contextlib.contextmanager
    def wrong_answers(self) -> Iterator[None]:
        self._kms.short_answers = True
        try:
            yield
        finally:
            self._kms.short_answers = False

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:
        body = {"plaintext": _text(kek), "aad": _text(context.aad)}
        answer = self._kms.answer("other", "encrypt", self._kms.token, body)
        return Wrapped(base64.b64decode(answer["ciphertext"]), str(answer["version"]))

    def calls(self) -> int:
        return self._kms.calls

    @contextlib.contextmanager
    def _answering(self, fault: Refusal) -> Iterator[None]:
        self._kms.fault = fault
        try:
            yield
        finally:
            self._kms.fault = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m keystead.testing.fake_kms", description="A KMS for tests.")
    parser.add_argument("--port", type=int, required=True, help="Port on 127.0.0.1.")
    parser.add_argument("--token-file", type=Path, required=True, help="Where to write the token that it accepts.")
    parser.add_argument("--state", type=Path, required=True, help="File of its keys, made if it does not exist.")
    given = parser.parse_args()
    kms = FakeKms()
    if given.state.exists():
        kms.load(given.state)
    else:
        kms.save(given.state)
    given.token_file.touch(mode=0o600)
    given.token_file.write_text(kms.token)
    with kms.serve(given.port):
        threading.Event().wait()


if __name__ == "__main__":
    main()
