"""Connections whose answers end in time and in size, for urllib3's pools.

A socket's own timeout is per read, so a server that sends a byte now and then would hold a call for ever, and boto3
offers no more than that, for a whole client. Here the time-out of a request is the time for the whole of it.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_ANSWER = 1 << 20
"""Bytes of an answer with its headers; a real one has less than 10 000."""


class AnswerTooLongError(OSError):
    """A server sent more than any answer has."""


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
