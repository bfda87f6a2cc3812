"""Tells systemd how the process is: sd_notify(3), a datagram of `NAME=value` lines on $NOTIFY_SOCKET.

A dozen lines of our own: what there is for Python is unmaintained or binds libsystemd.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

WATCHDOG_SHARE = 3
"""Signs of life per watchdog interval: one may be lost, and one late."""


class Systemd:
    """The service manager, or nobody where there is none. Nothing here ever fails or waits."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.pause = self._pause(environment)
        """Seconds between signs of life, or `None` if nobody waits for them."""

    def ready(self) -> None:
        """The sockets listen; whether a remote answers is no matter of the service manager's."""
        self._say("READY=1", "STATUS=serving")

    def alive(self) -> None:
        """The process goes on."""
        if self.pause is not None:
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """The process is about to end."""
        self._say("STOPPING=1", "STATUS=draining")

    def _pause(self, environment: Mapping[str, str]) -> float | None:
        meant = environment.get("WATCHDOG_PID", str(os.getpid()))
        interval = environment.get("WATCHDOG_USEC", "")
        if self._address is None or meant != str(os.getpid()) or not interval.isdecimal() or int(interval) == 0:
            return None
        return int(interval) / 1e6 / WATCHDOG_SHARE

    def _say(self, *lines: str) -> None:
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)


def _address(text: str) -> str | None:
    """A path, or with @ in front a name outside of the file system; anything else, such as vsock, is left alone."""
    if text.startswith("@"):
        return f"\0{text[1:]}"
    return text if text.startswith("/") else None
