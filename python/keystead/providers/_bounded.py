"""Connections for `requests` whose answers end in time, shared by the providers that speak HTTP.

Importing this module imports the SDK's HTTP libraries. `requests` has a time-out for each read, so that a server that
sends a byte now and then holds a call for ever; here the time is for the whole answer, and its size has a limit.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

CONNECT_SECONDS = 1.0
POOL_SIZE = 20
"""Connections that are kept open to each server: a few more than the calls that the host makes at once."""
MAX_ANSWER = 1 << 20
"""Bytes of an answer with its headers; a real one has less than 10 000."""
FAILURES = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)
"""What `requests` and the libraries below it raise when there is no usable answer."""


def time_out(seconds: float) -> urllib3.Timeout:
    """Return the `timeout` of a request that may take `seconds` in all."""
    return urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), total=seconds)


class BoundedAdapter(HTTPAdapter):
    """Pools of connections whose answers end in time. No retries: the host of a provider does those."""

    def __init__(self, servers: int, options: Mapping[str, Any]) -> None:
        self._options = options
        super().__init__(pool_connections=servers, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
        return manager


class _BoundedReader(io.RawIOBase):
    """Reads one answer from a socket, within a time and a size for the whole.

    A socket's own timeout is per read, so a server that sends a byte now and then would hold a call for ever.
    """

    def __init__(self, sock: Any, seconds: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + seconds
        self._room = MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self._room -= count or 0
        if self._room < 0:
            raise OSError(f"an answer of more than {MAX_ANSWER} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 has set the socket's timeout to what the call has left when it is about to read.
        seconds = sock.gettimeout()
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock, math.inf if seconds is None else seconds))


class _BoundedConnection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        """Leave to the TLS handshake what connecting has left of the time, instead of the whole time again."""
        seconds, start = self.timeout, time.monotonic()
        sock = super()._new_conn()
        if isinstance(seconds, int | float):
            sock.settimeout(max(0.001, start + seconds - time.monotonic()))
        return sock


class _BoundedTlsConnection(_BoundedConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTlsConnection


def reason(exc: BaseException, seconds: float, *, untrusted: str, no_tls: str) -> str:
    """Say in words why there is no answer: the innermost cause, since the outer ones are about classes and pools.

    `untrusted` says what to check if the server's certificate is refused, and `no_tls` if TLS fails otherwise.
    """
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}; {untrusted}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'failed'}; {no_tls}"
    # Before the time-outs: urllib3 derives its error for a refused connection from the one for a time-out.
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    if any(isinstance(cause, requests.ConnectTimeout) for cause in causes):
        return f"no connection within {min(CONNECT_SECONDS, seconds):.1f} s"
    if any(isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for cause in causes):
        return f"no complete answer within {seconds:.1f} s"
    for cause in causes:
        if type(cause) is OSError:
            return str(cause)
    return "the connection broke" if isinstance(exc, OSError) else f"not HTTP ({type(causes[-1]).__name__})"


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it holds or came from, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [exc]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
