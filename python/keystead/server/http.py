"""/livez, /readyz and /metrics over plain HTTP on loopback. If its port is taken, the KMS serves all the same."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import structlog

from keystead.host.endpoint import Endpoint
from keystead.server.metrics import Metrics

log = structlog.get_logger("keystead.http")

Endpoints = Callable[[], Mapping[str, Endpoint]]


class HttpServer:
    """The observability server of one process."""

    def __init__(self, host: str, port: int, endpoints: Endpoints, metrics: Metrics) -> None:
        """Bind. Raises `OSError`."""
        handler = type("Handler", (_Handler,), {"endpoints": staticmethod(endpoints), "metrics": metrics})
        server_class = _Server6 if ":" in host else _Server
        self._server = server_class((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and unbind."""
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


class _Handler(BaseHTTPRequestHandler):
    endpoints: Endpoints
    metrics: Metrics
    timeout = 5
    server_version = "keystead"
    sys_version = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        match path:
            case "/livez":
                self._answer(200, "ok\n")
            case "/readyz":
                self._readyz(verbose="verbose" in query)
            case "/metrics":
                self._answer(200, self.metrics.render().decode(), "text/plain; version=0.0.4; charset=utf-8")
            case _:
                self._answer(404, "there is /livez, /readyz?verbose and /metrics\n")

    def _readyz(self, *, verbose: bool) -> None:
        lines = []
        ready = True
        for name, endpoint in self.endpoints().items():
            report = endpoint.report()
            good = report.healthz == "ok"
            ready = ready and good
            lines.append(f"[{'+' if good else '-'}]endpoint {name} {report.state}: {report.healthz}")
            lines += [f"[-]endpoint {name} key {key.name}: {key.error}" for key in report.keys if key.error is not None]
            if report.refused is not None:
                lines.append(f"[-]endpoint {name} configuration: {report.refused}")
            if report.unsaved:
                lines.append(f"[-]endpoint {name} state directory: the record in use is not on disk")
        lines.append("ready" if ready else "not ready")
        text = "\n".join(lines) if verbose or not ready else "ok"
        self._answer(200 if ready else 503, text + "\n")

    def _answer(self, code: int, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the signature of the standard library
        log.debug("http", request=format % args)


def start(address: str, endpoints: Endpoints, metrics: Metrics) -> HttpServer | None:
    """Serve on `host:port`, or say in the log why not. An empty address means that nobody wants it."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    try:
        server = HttpServer(host.strip("[]"), int(port), endpoints, metrics)
    except OSError as exc:
        log.error("http.not_bound", address=address, error=str(exc), msg="/metrics and /readyz are not served")
        return None
    server.start()
    return server
