"""Connections whose answers end in time and in size, for urllib3, and words for why there is no answer.

A socket's own time-out is per read, so a server that sends a byte now and then would hold a call for ever, and no SDK
offers more than that. Here the time-out of a request is the time for the whole of it. Importing this module imports
urllib3, which the SDK of each provider that speaks HTTP brings.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

CONNECT_SECONDS = 1.0
POOL_SIZE = 20
"""Connections that are kept open to each server: a few more than the calls that the host makes at once."""
MAX_ANSWER = 1 << 20
"""Bytes of an answer with its headers; a real one has less than 10 000."""
FAILURES = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)
"""What urllib3 raises, and a library over it, when there is no usable answer."""


class AnswerTooLongError(OSError):
    """A server sent more than any answer has."""


def time_out(seconds: float) -> urllib3.Timeout:
    """Return the `timeout` of a request that may take `seconds` in all."""
    return urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), total=seconds)


class _Reader(io.RawIOBase):
    """Reads one answer from a socket."""

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
            raise AnswerTooLongError(f"an answer of more than {MAX_ANSWER} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 has set the socket's timeout to what the request has left when it is about to read.
        seconds = sock.gettimeout()
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock, math.inf if seconds is None else seconds))


class _PlainConnection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        """Leave to the TLS handshake what connecting has left of the time, instead of the whole time again."""
        seconds, start = self.timeout, time.monotonic()
        sock = super()._new_conn()
        if isinstance(seconds, int | float):
            sock.settimeout(max(0.001, start + seconds - time.monotonic()))
        return sock


class _TlsConnection(_PlainConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _PlainPool, "https": _TlsPool}
"""What a `urllib3.PoolManager` takes as `pool_classes_by_scheme`."""


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
    proxy = "the proxy: " if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes) else ""
    # Before the time-outs: urllib3 derives its error for a refused connection from the one for a time-out.
    for cause in causes:
        if isinstance(cause, AnswerTooLongError):
            return str(cause)
        if isinstance(cause, OSError) and cause.strerror:
            return proxy + cause.strerror
    if any(isinstance(cause, urllib3.exceptions.ConnectTimeoutError) for cause in causes):
        return f"{proxy}no connection within {min(CONNECT_SECONDS, seconds):.1f} s"
    if any(isinstance(cause, urllib3.exceptions.TimeoutError | TimeoutError) for cause in causes):
        return f"{proxy}no complete answer within {seconds:.1f} s"
    for cause in causes:
        if status := re.match(r"Tunnel connection failed: ([0-9]{3})", str(cause)):
            return f"the proxy answers {status[1]}"
        if type(cause) is OSError:
            return str(cause)  # of a library that uses this class for a text of its own
    broken = (OSError, urllib3.exceptions.ProtocolError, http.client.RemoteDisconnected)
    return "the connection broke" if isinstance(exc, broken) else f"not HTTP ({type(causes[-1]).__name__})"


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
