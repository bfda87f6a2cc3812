"""The two HTTP servers of a process, on a port for monitoring and on a unix socket for the owner.

Neither stops the KMS: what cannot be bound is logged once and tried again, for the port may be that of a process which
is about to end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import structlog

from keystead.config import Configuration
from keystead.server.http import Closed, HttpServer, Pages
from keystead.server.sockets import SocketRefused

log = structlog.get_logger("keystead.http")


@dataclass(slots=True)
class Outlet:
    """One address, and its server once it is bound."""

    address: str
    bind: Callable[[], HttpServer]
    closed: Closed = field(default_factory=Closed)
    server: HttpServer | None = None
    said: str = ""
    """What was logged of the last failure."""

    def open(self) -> None:
        """Bind and answer, unless that is done; else say why not, if that is news."""
        if self.server is not None:
            return
        try:
            self.server = self.bind()
        except (OSError, SocketRefused) as exc:
            if str(exc) != self.said:
                self.said = str(exc)
                log.error("http.not_bound", address=self.address, error=str(exc), msg="tried again in the background")
            return
        self.server.start()
        if self.said:
            log.info("http.bound", address=self.address)

    def close(self) -> None:
        """Unbind."""
        if self.server is not None:
            self.server.stop()
            self.server = None


class Web:
    """The servers of one process. `serve` at the start and at each reload, `retry` now and then, `close` in the end."""

    def __init__(self, public: Pages, private: Pages, *, take_over: bool = False) -> None:
        self._public = public
        self._private = private
        self._take_over = take_over
        self._outlets: list[Outlet] = []
        self._lock = threading.Lock()

    def serve(self, config: Configuration) -> None:
        """Serve where the configuration wants it. An address that stays is not disturbed."""
        with self._lock:
            wanted = list(self._wanted(config))
            meant = {(one.address, one.closed) for one in wanted}
            kept = {outlet.address: outlet for outlet in self._outlets if (outlet.address, outlet.closed) in meant}
            for outlet in self._outlets:
                if outlet.address not in kept:
                    outlet.close()
            self._outlets = [kept.get(outlet.address, outlet) for outlet in wanted]
            for outlet in self._outlets:
                outlet.open()

    def retry(self) -> None:
        """Try again what could not be bound."""
        with self._lock:
            for outlet in self._outlets:
                outlet.open()

    def close(self) -> None:
        """Unbind all."""
        with self._lock:
            for outlet in self._outlets:
                outlet.close()
            self._outlets = []

    def _wanted(self, config: Configuration) -> Iterator[Outlet]:
        http = config.observability.http
        if http.address:
            host, _, port = http.address.rpartition(":")
            tls = http.tls
            closed = Closed(tls.cert_file if tls else None, tls.key_file if tls else None, http.token_file)
            bind = partial(HttpServer.on_port, host.strip("[]"), int(port), self._public, closed)
            yield Outlet(http.address, bind, closed)
        path = config.admin_socket
        if path is not None:
            private = partial(HttpServer.on_socket, path, self._private, take_over=self._take_over)
            yield Outlet(f"unix://{path}", private)
