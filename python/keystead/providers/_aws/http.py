"""HTTP for boto3: it sends what botocore has signed, within the deadline of the call that it belongs to.

botocore lets a handler of `before-send` answer a request. That keeps its signing and parsing, and replaces its own
HTTP, whose time-outs are per client and per read, and which takes proxies and CAs from the environment.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from botocore.awsrequest import AWSResponse
from botocore.httpsession import get_cert_path

from keystead.provider import ConfigError, Unavailable
from keystead.providers._bounded import FAILURES, POOL_SIZE, POOLS, reason, time_out
from keystead.providers._files import FromFile

UNTRUSTED = "check caFile, and who answers there"
NO_TLS = "check that the server speaks TLS"
_KEEP_ALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

_deadline: ContextVar[float] = ContextVar("deadline")


@contextlib.contextmanager
def until(deadline: float) -> Iterator[None]:
    """Give the requests of this thread, inside the block, the time that a call has. The SDK cannot pass it on."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float:
    """Seconds until the deadline of `until`."""
    return _deadline.get() - time.monotonic()


class _Body:
    """The content of an answer that is read already, as `AWSResponse` takes it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


class Transport:
    """Sends requests inside `until`. Safe to use from many threads. Follows no redirect, retries nothing."""

    def __init__(self, proxy: str | None = None, ca_file: Path | None = None) -> None:
        self._pools = FromFile(ca_file, lambda: _pools(proxy, ca_file))

    def send(self, request: Any) -> AWSResponse:
        """Send a prepared request of botocore's. Raises `Unavailable` if no answer comes in time."""
        status, headers, content = self.request(request.method, request.url, request.headers, request.body)
        return AWSResponse(request.url, status, headers, _Body(content))

    def request(
        self, method: str, url: str, headers: Mapping[str, Any], body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and return status, headers and content of the answer."""
        host, seconds = host_of(url), time_left()
        if seconds <= 0:
            raise Unavailable(f"{host}: no time left to ask")
        try:
            answer = self._pools.get().urlopen(
                method,
                url,
                body=body,
                headers=dict(headers),
                retries=False,
                redirect=False,
                timeout=time_out(seconds),
                preload_content=False,
                decode_content=False,
            )
            try:
                content = answer.read()
            finally:
                answer.release_conn()
        except FAILURES as exc:
            raise Unavailable(f"{host}: {reason(exc, seconds, untrusted=UNTRUSTED, no_tls=NO_TLS)}") from None
        # An answer that was cut within its headers has none that says where it ends, and looks whole without a body.
        if not content and not {"content-length", "transfer-encoding"} & {name.lower() for name in answer.headers}:
            raise Unavailable(f"{host}: the answer is not complete")
        return answer.status, dict(answer.headers), content

    def close(self) -> None:
        """Close all connections."""
        self._pools.get().clear()


def _pools(proxy: str | None, ca_file: Path | None) -> urllib3.PoolManager:
    trusted = str(ca_file) if ca_file is not None else get_cert_path(True)
    try:
        tls = ssl.create_default_context(cafile=trusted)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"cannot take CAs from {trusted}: {exc.strerror}") from None
    options: dict[str, Any] = {
        "maxsize": POOL_SIZE,
        "ssl_context": tls,
        "socket_options": [*urllib3.connection.HTTPConnection.default_socket_options, _KEEP_ALIVE],
    }
    pools = (
        urllib3.PoolManager(**options)
        if proxy is None
        else urllib3.ProxyManager(proxy, proxy_ssl_context=tls, **options)
    )
    pools.pool_classes_by_scheme = dict(POOLS)
    return pools


def host_of(url: str) -> str:
    """The host and port of a URL, for messages."""
    return urlsplit(url).netloc
