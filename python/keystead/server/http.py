"""A small HTTP server of fixed pages, on loopback or on a unix socket, that never asks the DNS for anything."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, NamedTuple

import structlog

from keystead.server import sockets

TEXT = "text/plain; charset=utf-8"
ADMIN_MODE = 0o600

log = structlog.get_logger("keystead.http")


class Page(NamedTuple):
    """An answer."""

    code: int
    text: str
    content_type: str = TEXT


Pages = Mapping[str, Callable[[str], Page]]
"""What to answer, by path. The function gets the query."""


class HttpServer:
    """A server of pages. It listens from the start; `start` lets it answer."""

    def __init__(self, server: _Server, placed: sockets.Placed | None = None) -> None:
        self._server = server
        self._placed = placed
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @classmethod
    def on_port(cls, host: str, port: int, pages: Pages) -> HttpServer:
        """Bind an IP address and port. Raises `OSError`."""
        return cls((_Server6 if ":" in host else _Server)((host, port), _handler(pages)))

    @classmethod
    def on_socket(cls, path: Path, pages: Pages, *, take_over: bool = False) -> HttpServer:
        """Put a unix socket at the path that only its owner may open. Raises `OSError` and `SocketRefused`."""
        sockets.check_parent(path)
        sockets.check_path(path, take_over=take_over)
        with sockets.temporary_name(path) as temporary:
            server = _UnixServer(str(temporary), _handler(pages))  # type: ignore[arg-type]  # as socket.bind takes it
            try:
                return cls(server, sockets.place(temporary, path, ADMIN_MODE, None))
            except sockets.SocketRefused:
                server.server_close()
                raise

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and unbind."""
        if self._placed is not None:
            self._placed.remove()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The inherited one asks the DNS for the name of the address, which may be the cluster's and may hang.
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  as in the standard library
        log.debug("http.failed", error_class=type(sys.exception()).__name__)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX
    allow_reuse_address = False


class _Handler(BaseHTTPRequestHandler):
    pages: Pages
    timeout = 5
    server_version = "keystead"
    sys_version = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        page = self.pages.get(path)
        if page is None:
            self._answer(Page(404, f"there is {', '.join(self.pages)}\n"))
        else:
            self._answer(page(query))

    def _answer(self, page: Page) -> None:
        body = page.text.encode()
        self.send_response(page.code)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the signature of the standard library
        log.debug("http", request=format % args)


def _handler(pages: Pages) -> type[_Handler]:
    return type("Handler", (_Handler,), {"pages": pages})
