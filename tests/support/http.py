"""A caller of a plugin's HTTP pages, over a port or a unix socket."""

from __future__ import annotations

import contextlib
import http.client
import socket
from pathlib import Path


class OverUnix(http.client.HTTPConnection):
    """A connection over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(self._path))


def get(where: int | Path, path: str) -> tuple[int, str]:
    """The code and the text of a page on a loopback port or on a unix socket."""
    connection = (
        http.client.HTTPConnection("127.0.0.1", where, timeout=5) if isinstance(where, int) else OverUnix(where)
    )
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
