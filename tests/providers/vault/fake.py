"""A FAKE of Vault, for what a real server does not do on demand: redirects, dripping, HTML, ignored parameters."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REQUEST_ID = "0a3d33d1-28a6-2a85-4a1f-2584958f6b3f"
TOKEN = "s.FakeVaultTokenOfTheTests"
KEY = {
    "type": "aes256-gcm96",
    "derived": False,
    "supports_encryption": True,
    "latest_version": 1,
    "min_encryption_version": 0,
    "min_decryption_version": 1,
}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What to answer; `body` is JSON unless it is bytes."""

    status: int = 200
    body: Mapping[str, Any] | bytes = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Script = Callable[[Request, BaseHTTPRequestHandler], Reply | None]
"""Answers a request, or returns `None` after it wrote to the connection itself."""


def data(**values: Any) -> Reply:
    return Reply(body={"request_id": REQUEST_ID, "data": values, "warnings": None})


def errors(status: int, *texts: str) -> Reply:
    return Reply(status, {"errors": list(texts)})


@dataclass
class FakeVault:
    """Answers like a Vault whose encryption is base64. `scripts` replaces the answer of a path."""

    address: str
    scripts: dict[str, Reply | Script] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    """Set at the end, so that a script that waits can stop waiting."""

    def answer(self, request: Request, handler: BaseHTTPRequestHandler) -> Reply | None:
        self.seen.append(request)
        scripted = self.scripts.get(request.path.partition("?")[0].removeprefix("/v1/"))
        if isinstance(scripted, Reply):
            return scripted
        return scripted(request, handler) if scripted is not None else self.plain(request)

    def plain(self, request: Request) -> Reply:
        match request.path.partition("?")[0].removeprefix("/v1/").split("/"):
            case ["sys", "health"]:
                return Reply(body={"initialized": True, "sealed": False, "version": "2.7.2"})
            case ["auth", "token", "lookup-self"]:
                return data(ttl=0, renewable=False)
            case [_, "keys", _]:
                return data(**KEY)
            case [_, "encrypt", _]:
                return data(ciphertext=f"vault:v1:{request.body['plaintext']}", key_version=1)
            case [_, "decrypt", _]:
                return data(plaintext=str(request.body["ciphertext"]).removeprefix("vault:v1:"))
        return errors(404, f"no handler for route {request.path}")

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.seen if request.path.partition("?")[0] == f"/v1/{path}"]


@contextlib.contextmanager
def fake_vault(**scripts: Reply | Script) -> Iterator[FakeVault]:
    """Serve a fake on a free loopback port. A script's name has `__` for `/` in its path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers), json.loads(content or b"{}"))
            reply = fake.answer(request, self)
            if reply is None:
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = FakeVault(f"http://127.0.0.1:{server.server_address[1]}")
    fake.scripts = {name.replace("__", "/"): script for name, script in scripts.items()}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def decoded(text: str) -> bytes:
    return base64.b64decode(text)
