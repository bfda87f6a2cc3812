"""FAKES of what gives tokens: the metadata server of Google's cloud, and a token service for federation."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from providers.gcp.fake import TOKEN, Server


@dataclass
class FakeMetadata:
    """Hands out `token` for `seconds`. `status` other than 200 refuses; `hang` answers nothing."""

    address: str = ""
    token: str = TOKEN
    seconds: float = 3600
    status: int = 200
    body: bytes | None = None
    flavor: str = "Google"
    hang: bool = False
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def metadata_server(port: int = 0) -> Iterator[FakeMetadata]:
    """Serve until the end of the block."""
    fake = FakeMetadata()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fake.asked.append((self.path, dict(self.headers), sent))
            if fake.hang:
                fake.closing.wait(60)
            grant = {"access_token": fake.token, "expires_in": fake.seconds, "token_type": "Bearer"}
            body = json.dumps(grant).encode() if fake.body is None else fake.body
            self.send_response(fake.status)
            self.send_header("Metadata-Flavor", fake.flavor)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    fake.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        server.close_all()
        thread.join(5)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address where no attempt to connect is answered: the queue of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refusing() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
