"""A small HTTP server of fixed pages, on a port or on a unix socket, that never asks the DNS for anything."""

from __future__ import annotations

import contextlib
import hmac
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


OPEN = frozenset({"/livez"})
"""Paths that say no more than that the process lives: a kubelet has no token."""
MAX_TOKEN = 4096


@dataclass(frozen=True, slots=True)
class Closed:
    """How a listener is closed to others: by TLS, by a token, or by being on loopback."""

    certificate: Path | None = None
    private_key: Path | None = None
    token: Path | None = None

    def admits(self, authorization: str) -> bool:
        """Whether a request bears the token. A file that cannot be read, or is empty, admits nobody."""
        if self.token is None:
            return True
        try:
            with self.token.open("rb") as file:
                wanted = file.read(MAX_TOKEN).strip()
        except OSError as exc:
            log.error("http.no_token", error=f"{self.token}: {exc.strerror}")
            return False
        scheme, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), wanted)
        return scheme.lower() == "bearer" and bool(wanted) and same

    def context(self) -> Callable[[], ssl.SSLContext] | None:
        """What gives the TLS of a new connection, with the certificate as it is on disk now. Raises `OSError`."""
        if self.certificate is None:
            return None
        context, loaded = self._load(), self._stamp()

        def current() -> ssl.SSLContext:
            nonlocal context, loaded
            stamp = self._stamp()
            if stamp != loaded:
                loaded = stamp
                try:
                    context = self._load()
                except OSError as exc:
                    # Half of a pair that is being replaced: the next connection looks again.
                    loaded = ()
                    log.warning("http.certificate_kept", error=str(exc))
            return context

        return current

    def _load(self) -> ssl.SSLContext:
        assert self.certificate is not None  # noqa: S101  the caller has looked
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.private_key)
        return context

    def _stamp(self) -> tuple[int, ...]:
        stamp: list[int] = []
        for path in (self.certificate, self.private_key):
            with contextlib.suppress(OSError):
                if path is not None:
                    status = path.stat()
                    stamp += [status.st_mtime_ns, status.st_ino]
        return tuple(stamp)


class HttpServer:
    """A server of pages. It listens from the start; `start` lets it answer."""

    def __init__(self, server: _Server, placed: sockets.Placed | None = None) -> None:
        self._server = server
        self._placed = placed
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @classmethod
    def on_port(cls, host: str, port: int, pages: Pages, closed: Closed | None = None) -> HttpServer:
        """Bind an IP address and port. Raises `OSError`, also for certificates that cannot be read."""
        closed = closed or Closed()
        context = closed.context()
        server = (_Server6 if ":" in host else _Server)((host, port), _handler(pages, closed))
        server.tls = context
        return cls(server)

    @classmethod
    def on_socket(cls, path: Path, pages: Pages, *, take_over: bool = False) -> HttpServer:
        """Put a unix socket at the path that only its owner may open. Raises `OSError` and `SocketRefused`."""
        sockets.check_parent(path)
        sockets.check_path(path, take_over=take_over)
        with sockets.temporary_name(path) as temporary:
            server = _UnixServer(str(temporary), _handler(pages, Closed()))  # type: ignore[arg-type]  # as socket.bind takes it
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
    tls: Callable[[], ssl.SSLContext] | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted, address = super().get_request()
        if self.tls is None:
            return accepted, address
        # Whoever connects and says nothing must not hold up the others: his own thread shakes hands.
        return self.tls().wrap_socket(accepted, server_side=True, do_handshake_on_connect=False), address

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
    closed: Closed
    timeout = 5
    server_version = "keystead"
    sys_version = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        page = self.pages.get(path)
        if page is None:
            self._answer(Page(404, f"there is {', '.join(self.pages)}\n"))
        elif path not in OPEN and not self.closed.admits(self.headers.get("Authorization", "")):
            self._answer(Page(401, "a bearer token is needed\n"))
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


def _handler(pages: Pages, closed: Closed) -> type[_Handler]:
    return type("Handler", (_Handler,), {"pages": pages, "closed": closed})
