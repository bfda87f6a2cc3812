"""A FAKE of Azure, on loopback: the part of Key Vault, Managed HSM and Entra ID that the providers call.

It is written from Microsoft's documentation of the REST interface, and real cryptography is behind it. What the real
services do beyond that, and how they word their errors, it cannot show.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keystead_azure import SIGNED

from keystead.provider import WrapContext, Wrapped
from keystead.testing import Sandbox

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PADDINGS = {"RSA-OAEP-256": OAEP, "RSA1_5": padding.PKCS1v15()}
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
HASHED = Prehashed(hashes.SHA256())
OPERATIONS = {"oct-HSM": ["encrypt", "decrypt"], "RSA": ["wrapKey", "unwrapKey", "sign", "verify"]}


@functools.cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """Make a key once for all fakes of this process: that takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


class Refusal(Exception):
    """What is answered instead of a result."""

    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, Any] = {"code": code, "message": message}
        self.body = {"error": error | ({"innererror": {"code": inner}} if inner else {})}


@dataclass
class Version:
    secret: Any = field(repr=False)
    created: int
    enabled: bool = True


@dataclass
class Key:
    kind: str
    operations: list[str]
    versions: dict[str, Version] = field(default_factory=dict)
    deleted: bool = False
    first: int = 0
    """Number of its first version among the RSA keys of this process."""

    def add(self, created: int) -> str:
        name = os.urandom(16).hex()
        rsa_secret = rsa_key(self.first + len(self.versions)) if self.kind != "oct-HSM" else None
        self.versions[name] = Version(rsa_secret or AESGCM(os.urandom(32)), created)
        return name

    @property
    def current(self) -> str:
        return list(self.versions)[-1]


class FakeAzure:
    """All of the service. Its attributes may be changed while it runs; each call sees them as they are."""

    def __init__(self, kind: str) -> None:
        self.secret = base64.urlsafe_b64encode(os.urandom(24)).decode()
        self.tokens: dict[str, float] = {}
        """Each token that was given, and when it ends."""
        self.token_seconds = 3600.0
        self.asked_for_tokens: list[dict[str, str]] = []
        self.keys = {"kek": Key(kind, OPERATIONS[kind]), "other": Key(kind, OPERATIONS[kind], first=100)}
        self.fault: Refusal | None = None
        self.denied: set[str] = set()
        """Operations that the credentials may not do; `get` is one."""
        self.short = False
        self.calls = 0
        self.seen: list[str] = []
        self.address = ""
        self.lock = threading.Lock()
        for key in self.keys.values():
            key.add(int(time.time()) - 1000)

    @contextlib.contextmanager
    def serve(self) -> Iterator[FakeAzure]:
        """Answer on loopback until the end of the block."""
        handler = type("Handler", (_Handler,), {"azure": self})
        server = _Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True, name="fake-azure")
        thread.start()
        self.address = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        self.asked_for_tokens.append(form)
        if form.get("client_secret", form.get("client_assertion", self.secret)) != self.secret:
            raise Refusal(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        made = base64.urlsafe_b64encode(os.urandom(30)).decode()
        self.tokens[made] = time.time() + self.token_seconds
        return {"token_type": "Bearer", "expires_in": str(int(self.token_seconds)), "access_token": made}

    def key(self, method: str, path: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a call about a key. Raises `Refusal`."""
        with self.lock:
            self.calls += 1
            self.seen.append(f"{method} {path}")
            if self.fault is not None:
                raise self.fault
            if self.tokens.get(token, 0.0) < time.time():
                raise Refusal(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
            _, name, *rest = path.strip("/").split("/")
            found = self.keys.get(name)
            if found is None or found.deleted:
                raise Refusal(404, "KeyNotFound", f"A key with (name/id) {name} was not found in this key vault.")
            wanted, operation = (rest[0], rest[1]) if method == "POST" else ("".join(rest), "get")
            if operation in self.denied:
                raise Refusal(
                    403, "Forbidden", f"The user does not have keys {operation} permission", "ForbiddenByRbac"
                )
            version = wanted or found.current
            if version not in found.versions:
                raise Refusal(404, "KeyNotFound", f"A key with (name/id) {name}/{version} was not found")
            kid = f"https://lab.vault.azure.net/keys/{name}/{version}"
            one = found.versions[version]
            if operation == "get":
                attributes = {"enabled": one.enabled, "created": one.created}
                return {"key": {"kid": kid, "kty": found.kind, "key_ops": found.operations}, "attributes": attributes}
            if not one.enabled:
                raise Refusal(
                    403, "Forbidden", f"Operation {operation} is not allowed on a disabled key.", "KeyDisabled"
                )
        return {"kid": kid} | _operate(operation, one.secret, body, self.short)


def _operate(operation: str, secret: Any, body: dict[str, Any], short: bool) -> dict[str, Any]:
    given = {name: _bytes(value) for name, value in body.items() if name != "alg"}
    wrong = Refusal(400, "BadParameter", "The parameter is incorrect.")
    try:
        match operation, body["alg"]:
            case "encrypt", "A256GCM":
                nonce = os.urandom(12)
                sealed = secret.encrypt(nonce, given["value"], given["aad"])
                return {"value": _text(sealed[:-16]), "iv": _text(nonce), "tag": _text(sealed[-16:])}
            case "decrypt", "A256GCM":
                plain = secret.decrypt(given["iv"], given["value"] + given["tag"], given["aad"])
                return {"value": _text(plain[: 31 if short else None])}
            case "wrapkey", "RSA-OAEP-256":
                return {"value": _text(secret.public_key().encrypt(given["value"], OAEP))}
            case "unwrapkey", "RSA-OAEP-256":
                return {"value": _text(secret.decrypt(given["value"], OAEP)[: 31 if short else None])}
            case "encrypt", "RSA-OAEP-256" | "RSA1_5":
                return {"value": _text(secret.public_key().encrypt(given["value"], PADDINGS[body["alg"]]))}
            case "decrypt", "RSA-OAEP-256" | "RSA1_5":
                return {"value": _text(secret.decrypt(given["value"], PADDINGS[body["alg"]]))}
            case "sign", "PS256":
                return {"value": _text(secret.sign(given["value"], PSS, HASHED))}
            case "verify", "PS256":
                with contextlib.suppress(InvalidSignature):
                    secret.public_key().verify(given["value"], given["digest"], PSS, HASHED)
                    return {"value": True}
                return {"value": False}
    except (InvalidTag, ValueError, KeyError):
        raise wrong from None
    raise wrong


class AzureSandbox(Sandbox):
    """The key `kek` of a fake, as its owner sees it."""

    def __init__(self, azure: FakeAzure, secret_file: Path) -> None:
        self.azure = azure
        self.file = secret_file
        secret_file.write_text(azure.secret)

    @property
    def key(self) -> Key:
        return self.azure.keys["kek"]

    def secrets(self) -> list[str]:
        return [self.azure.secret, *self.azure.tokens]

    def calls(self) -> int:
        return self.azure.calls

    def rotate(self) -> None:
        with self.azure.lock:
            self.key.add(list(self.key.versions.values())[-1].created + 1)

    @contextlib.contextmanager
    def version_disabled(self, version: str) -> Iterator[None]:
        one = self.key.versions[version.rpartition("-")[2]]
        one.enabled = False
        yield
        one.enabled = True

    def key_disabled(self) -> contextlib.AbstractContextManager[None]:
        return self.version_disabled(self.key.current)

    @contextlib.contextmanager
    def key_missing(self) -> Iterator[None]:
        self.key.deleted = True
        yield
        self.key.deleted = False

    @contextlib.contextmanager
    def access_denied(self) -> Iterator[None]:
        self.azure.denied = {"encrypt", "decrypt", "wrapkey", "unwrapkey", "sign", "verify"}
        yield
        self.azure.denied = set()

    @contextlib.contextmanager
    def credentials_expired(self) -> Iterator[None]:
        """Every token and the secret end at once; the new secret is in the file at the end."""
        self.azure.tokens.clear()
        self.azure.secret = base64.urlsafe_b64encode(os.urandom(24)).decode()
        yield
        self.file.write_text(self.azure.secret)

    def throttled(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(Refusal(429, "Throttled", "Request was not processed because too many requests"))

    def out_of_order(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(Refusal(503, "ServiceUnavailable", "The service is temporarily unavailable"))

    @contextlib.contextmanager
    def wrong_answers(self) -> Iterator[None]:
        self.azure.short = True
        yield
        self.azure.short = False

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:
        other = self.azure.keys["other"]
        secret = other.versions[other.current].secret
        named = f"{self.key.versions[self.key.current].created}-{self.key.current}"
        if other.kind == "oct-HSM":
            nonce = os.urandom(12)
            return Wrapped(nonce + secret.encrypt(nonce, kek, context.aad), named)
        sealed = secret.public_key().encrypt(kek, OAEP)
        digest = hashlib.sha256(SIGNED + context.aad + sealed).digest()
        return Wrapped(sealed + secret.sign(digest, PSS, HASHED), named)

    @contextlib.contextmanager
    def _answering(self, fault: Refusal) -> Iterator[None]:
        self.azure.fault = fault
        try:
            yield
        finally:
            self.azure.fault = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    azure: FakeAzure
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            if parts.path == "/metadata/identity/oauth2/token" and self.headers.get("Metadata") == "true":
                body = self.azure.token(query)
            elif re.fullmatch(r"/[^/]+/oauth2/v2\.0/token", parts.path):
                body = self.azure.token({name: one[0] for name, one in parse_qs(content.decode()).items()})
            elif query.get("api-version") == "7.4":
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                body = self.azure.key(self.command, parts.path, token, json.loads(content) if content else {})
            else:
                raise Refusal(400, "BadParameter", "api-version")  # noqa: TRY301
            status = 200
        except Refusal as exc:
            status, body = exc.status, exc.body
            if "oauth2" in parts.path:
                body = {"error": body["error"]["code"], "error_description": body["error"]["message"]}
        answer = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def _bytes(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
