"""One HTTP exchange that ends by its deadline as a whole: name, connection, TLS, request and answer.

A connection for each exchange, since there are few: a key is unwrapped once and kept. No redirect is followed, which
would send the token to whoever the redirect names, and no proxy of the environment is used.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keystead.provider import ConfigError, Unavailable

MAX_ANSWER = 1 << 16
"""Bytes of an answer with its headers; a real one has less than 5000."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the JSON object that came with it."""

    status: int
    body: Mapping[str, Any] | None = field(repr=False)
    """`None` for anything but a JSON object. Its values may be secret."""


class Http:
    """Asks one server. Safe to use from many threads."""

    def __init__(self, address: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(address)
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._context: tuple[object, ssl.SSLContext] | None = None

    def __repr__(self) -> str:
        return f"Http({self._host}:{self._port})"

    def ask(
        self, method: str, path: str, deadline: float, headers: Mapping[str, str], content: bytes | None = None
    ) -> Answer:
        """Return what the server answers, whatever it is. Raises `Unavailable` if it is no complete HTTP answer."""
        what = f"{method} {path.partition('?')[0]} at {self._host}"
        connection = http.client.HTTPConnection(self._host, self._port)
        try:
            connection.sock = _Timed(self._connected(deadline), deadline)
            connection.request(method, path, content, {"User-Agent": "keystead", "Connection": "close", **headers})
            response = connection.getresponse()
            return Answer(response.status, _json(response.read()))
        except TimeoutError:
            raise Unavailable(f"{what}: no complete answer in time") from None
        except ssl.SSLCertVerificationError as exc:
            raise Unavailable(f"{what}: TLS: {exc.verify_message}: check caFile and the server's certificate") from None
        except OSError as exc:
            raise Unavailable(f"{what}: {exc.strerror or type(exc).__name__}") from None
        except http.client.HTTPException as exc:
            raise Unavailable(f"{what}: the answer is not complete, or not HTTP ({type(exc).__name__})") from None
        finally:
            connection.close()

    def _connected(self, deadline: float) -> socket.socket:
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(left(deadline))
                sock.connect(address)
                sock.settimeout(left(deadline))
                return self._trusted().wrap_socket(sock, server_hostname=self._host) if self._tls else sock
            except OSError as exc:
                sock.close()
                failure = exc
        raise failure

    def _trusted(self) -> ssl.SSLContext:
        """Whom TLS trusts: made again when the file has been replaced."""
        with self._lock:
            found = _identity(self._ca_file)
            if self._context is None or self._context[0] != found:
                try:
                    self._context = found, ssl.create_default_context(cafile=self._ca_file)
                except (ssl.SSLError, OSError) as exc:
                    said = "it holds no certificate in PEM" if isinstance(exc, ssl.SSLError) else exc.strerror
                    raise ConfigError(f"cannot use {self._ca_file} as caFile: {said}") from None
            return self._context[1]


def left(deadline: float) -> float:
    """Return the seconds until a deadline; raise `TimeoutError` after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _Timed:
    """A socket, as http.client wants one, each of whose reads has what is left of one deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, content: bytes) -> None:
        self._sock.settimeout(left(self._deadline))
        self._sock.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._room = MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(left(self._deadline))
        count = self._sock.recv_into(buffer)
        self._room -= count
        if self._room < 0:
            raise OSError(0, f"an answer of more than {MAX_ANSWER} bytes")
        return count


def _identity(path: Path | None) -> object:
    if path is None:
        return None
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return "missing"


def _json(content: bytes) -> Mapping[str, Any] | None:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
