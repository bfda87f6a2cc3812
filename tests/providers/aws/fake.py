"""A FAKE of AWS on loopback: KMS, STS and the instance metadata service, as far as the provider calls them.

It knows what emulators leave out: key states with their documented errors, IncorrectKeyException, multi-Region keys,
signatures, and any fault that a script writes to the connection.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import re
import ssl
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from providers.aws.signature import wrong

ACCOUNT = "111122223333"
REQUEST_ID = "6c1e1f3e-0000-4000-8000-5d2f4a8f7a10"
ROLE = "control-plane"


@dataclass
class Key:
    """A key, in all regions where it exists."""

    id: str
    regions: tuple[str, ...]
    material: bytes = field(default_factory=lambda: AESGCM.generate_key(256), repr=False)
    usage: str = "ENCRYPT_DECRYPT"
    spec: str = "SYMMETRIC_DEFAULT"
    states: dict[str, str] = field(default_factory=dict)

    def arn(self, region: str) -> str:
        return f"arn:aws:kms:{region}:{ACCOUNT}:key/{self.id}"


@dataclass(frozen=True)
class Request:
    """One request. `operation` is KMS's or STS's, or for the instance metadata its method and path."""

    operation: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What to answer; `body` is JSON unless it is bytes."""

    status: int = 200
    body: Mapping[str, Any] | list[Any] | bytes = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: {"x-amzn-RequestId": REQUEST_ID})


Script = Callable[[Request, BaseHTTPRequestHandler], Reply | None]
"""Answers a request, or returns `None` after it wrote to the connection itself."""


def refused(code: str, message: str = "", status: int = 400) -> Reply:
    return Reply(status, {"__type": code, "message": message})


@dataclass(frozen=True)
class Refused(Exception):
    code: str
    message: str = ""


@dataclass
class FakeAws:
    """One region. `scripts` replaces the answer of an operation."""

    address: str
    region: str
    keys: dict[str, Key]
    secret_keys: dict[str, tuple[str, str | None]]
    """Access key id → secret key and session token: the credentials that are accepted."""
    scripts: dict[str, Reply | Script] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    """Set at the end, so that a script that waits can stop waiting."""
    issued: int = 0
    lifetime: float = 3600.0
    """Seconds until credentials end that STS or the instance hands out."""

    def new_key(self, *, multi_region: tuple[str, ...] = (), usage: str | None = None, spec: str | None = None) -> Key:
        number = str(uuid.uuid4())
        key_id = f"mrk-{number.replace('-', '')}" if multi_region else number
        key = self.keys[key_id] = Key(key_id, multi_region or (self.region,))
        key.usage, key.spec = usage or key.usage, spec or key.spec
        return key

    def asked(self, operation: str) -> list[Request]:
        return [request for request in self.seen if request.operation == operation]

    def answer(self, request: Request, handler: BaseHTTPRequestHandler, raw: bytes) -> Reply | None:
        self.seen.append(request)
        scripted = self.scripts.get(request.operation)
        if isinstance(scripted, Reply):
            return scripted
        if scripted is not None:
            return scripted(request, handler)
        if request.operation.startswith(("GET", "PUT")):
            return self._metadata(request)
        try:
            if request.operation.startswith("Assume"):
                return self._sts(request, raw)
            self._check_signature(request, raw, "kms")
            return Reply(body=self._kms(request))
        except Refused as exc:
            return refused(exc.code, exc.message)

    # KMS

    def _kms(self, request: Request) -> dict[str, Any]:
        body = request.body
        key = self._key(body["KeyId"])
        arn, context = key.arn(self.region), json.dumps(body.get("EncryptionContext"), sort_keys=True).encode()
        match request.operation:
            case "DescribeKey":
                return {"KeyMetadata": self._metadata_of(key)}
            case "Encrypt":
                self._usable(key)
                nonce, plaintext = os.urandom(12), base64.b64decode(body["Plaintext"])
                if not 1 <= len(plaintext) <= 4096:
                    raise Refused("ValidationException", "plaintext length")
                sealed = AESGCM(key.material).encrypt(nonce, plaintext, context)
                # As long as AWS's own, whose header has 124 bytes.
                head = key.id.encode().ljust(124, b"\0")
                blob = base64.b64encode(head + nonce + sealed).decode()
                return {"KeyId": arn, "CiphertextBlob": blob, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
            case "Decrypt":
                sent = base64.b64decode(body["CiphertextBlob"])
                made_by = self.keys.get(sent[:124].rstrip(b"\0").decode("latin-1"))
                if made_by is None:
                    raise Refused("InvalidCiphertextException")
                if made_by is not key:
                    raise Refused("IncorrectKeyException", "The key ID in the request does not identify a CMK")
                self._usable(key)
                try:
                    plaintext = AESGCM(key.material).decrypt(sent[124:136], sent[136:], context)
                except (InvalidTag, ValueError):
                    raise Refused("InvalidCiphertextException") from None
                text = base64.b64encode(plaintext).decode()
                return {"KeyId": arn, "Plaintext": text, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        raise Refused("UnknownOperationException", request.operation)

    def _key(self, arn: str) -> Key:
        match = re.fullmatch(rf"arn:aws:kms:{self.region}:{ACCOUNT}:key/(.*)", arn)
        key = self.keys.get(match[1]) if match is not None else None
        if key is None or self.region not in key.regions:
            raise Refused("NotFoundException", f"Key '{arn}' does not exist")
        return key

    def _usable(self, key: Key) -> None:
        state = key.states.get(self.region, "Enabled")
        if key.usage != "ENCRYPT_DECRYPT":
            raise Refused("InvalidKeyUsageException", f"{key.arn(self.region)} key usage is {key.usage}")
        if state == "Disabled":
            raise Refused("DisabledException", f"{key.arn(self.region)} is disabled.")
        if state not in ("Enabled", "Updating"):
            raise Refused("KMSInvalidStateException", f"{key.arn(self.region)} is pending deletion.")

    def _metadata_of(self, key: Key) -> dict[str, Any]:
        return {
            "AWSAccountId": ACCOUNT,
            "KeyId": key.id,
            "Arn": key.arn(self.region),
            "KeyState": key.states.get(self.region, "Enabled"),
            "KeyUsage": key.usage,
            "KeySpec": key.spec,
        }

    # STS

    def _sts(self, request: Request, raw: bytes) -> Reply:
        if request.operation == "AssumeRole":
            self._check_signature(request, raw, "sts")
        keys = self.issue()
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
        text = (
            f"<{request.operation}Response><{request.operation}Result><Credentials>{fields}</Credentials>"
            f"</{request.operation}Result><ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata>"
            f"</{request.operation}Response>"
        )
        return Reply(200, text.encode(), {"Content-Type": "text/xml"})

    def issue(self) -> dict[str, str]:
        """Make temporary credentials that are accepted."""
        self.issued += 1
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.lifetime)
        access, secret, token = (
            f"ASIAISSUED{self.issued}",
            f"canary-secret-{self.issued}",
            f"canary-token-{self.issued}",
        )
        self.secret_keys[access] = (secret, token)
        return {
            "AccessKeyId": access,
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    # Instance metadata, version 2 only

    def _metadata(self, request: Request) -> Reply:
        method, _, path = request.operation.partition(" ")
        plain: dict[str, str] = {"Content-Type": "text/plain"}
        if method == "PUT":
            known = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdigit()
            return Reply(200, b"metadata-token", plain) if known else Reply(400, b"", plain)
        if request.headers.get("x-aws-ec2-metadata-token") != "metadata-token":
            return Reply(401, b"", plain)
        if path == "latest/meta-data/iam/security-credentials/":
            return Reply(200, ROLE.encode(), plain)
        if path == f"latest/meta-data/iam/security-credentials/{ROLE}":
            keys = self.issue()
            return Reply(200, {"Code": "Success", "Token": keys.pop("SessionToken"), **keys}, plain)
        return Reply(404, b"", plain)

    def _check_signature(self, request: Request, raw: bytes, service: str) -> None:
        problem = wrong(request.headers, raw, self.secret_keys, self.region, service)
        if problem is not None:
            raise Refused(*problem)


ACCESS, SECRET = "AKIACANARYACCESS", "canary-secret-access-key-0123456789abcdef"


@contextlib.contextmanager
def fake_aws(
    region: str = "eu-west-1", keys: dict[str, Key] | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[FakeAws]:
    """Serve a fake on a free loopback port. `keys` are shared by the regions of one account."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = fake.answer(self._request(raw), self, raw)
            if reply is None:
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/x-amz-json-1.1", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST  # noqa: N815  # the names that http.server looks for

        def _request(self, raw: bytes) -> Request:
            headers = {name.lower(): value for name, value in self.headers.items()}
            if target := headers.get("x-amz-target"):
                return Request(target.removeprefix("TrentService."), headers, json.loads(raw))
            if self.command == "POST":
                form = dict(urllib.parse.parse_qsl(raw.decode()))
                return Request(form.pop("Action"), headers, form)
            return Request(f"{self.command} {self.path.lstrip('/')}", headers, {})

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if tls is not None:
        scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake = FakeAws(
        f"{scheme}://127.0.0.1:{server.server_address[1]}",
        region,
        {} if keys is None else keys,
        {ACCESS: (SECRET, None)},
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
