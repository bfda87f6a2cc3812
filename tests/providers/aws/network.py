"""A FAKE of the network between here and AWS: an HTTP proxy that leads real host names to servers on loopback."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Network:
    """Answers CONNECT. A host that has no route is refused with 502; one whose route is `None` is never answered."""

    address: str
    routes: dict[str, str | None] = field(default_factory=dict)
    """Host → address of the server that stands for it."""
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode()
            while self.rfile.readline().strip():
                pass
            host, _, port = line.split(" ")[1].rpartition(":")
            assert line.startswith("CONNECT")
            assert port == "443"
            made.asked.append(host)
            if host not in made.routes:
                self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            route = made.routes[host]
            if route is None:
                made.closing.wait(30)
                return
            where = urlsplit(route)
            with socket.create_connection((where.hostname or "", where.port or 0)) as far:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                with contextlib.suppress(OSError):
                    _pump(self.connection, far)

    class Server(ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    made = Network(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def _pump(near: socket.socket, far: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in selector.select():
                ready: Any = key.fileobj
                content = ready.recv(65536)
                if not content:
                    return
                key.data.sendall(content)
