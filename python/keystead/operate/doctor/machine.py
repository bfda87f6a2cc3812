"""What the checks ask of the machine, so that a test can answer for it."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_STA_UNSYNC = 0x40
"""Of linux/timex.h: nobody keeps the clock."""
_TIMEX_SIZE, _STATUS_OFFSET = 256, 40
"""struct timex: modes (with padding), offset, freq, maxerror and esterror of 8 bytes each come before status."""
_VOLATILE = frozenset({"tmpfs", "ramfs"})


def clock_is_kept() -> bool | None:
    """Whether the kernel says that something synchronises the clock; `None` if it does not tell (adjtimex(2))."""
    buffer = ctypes.create_string_buffer(_TIMEX_SIZE)
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status = int.from_bytes(buffer.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], "little")
    return not status & _STA_UNSYNC


def can_bind(host: str, port: int) -> str | None:
    """Return why nobody could listen there, or `None`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return exc.strerror or str(exc)
    return None


@dataclass(frozen=True, slots=True)
class Machine:
    """One node."""

    resolv_conf: Path = Path("/etc/resolv.conf")
    mounts: Path = Path("/proc/mounts")
    clock_is_kept: Callable[[], bool | None] = clock_is_kept
    can_bind: Callable[[str, int], str | None] = can_bind
    now: Callable[[], float] = time.time
    uid: int = field(default_factory=os.geteuid)

    def name_servers(self) -> list[str]:
        """The addresses in resolv.conf; none if there is no such file."""
        try:
            lines = self.resolv_conf.read_text(errors="replace").splitlines()
        except OSError:
            return []
        return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]

    def forgets(self, path: Path) -> bool:
        """Whether what lies there is gone after a reboot."""
        try:
            rows = [line.split() for line in self.mounts.read_text(errors="replace").splitlines()]
        except OSError:
            return False
        real = path.resolve()
        found = {Path(row[1].replace("\\040", " ")): row[2] for row in rows if len(row) > 2}
        at = max(
            (one for one in found if one == real or one in real.parents), key=lambda one: len(one.parts), default=None
        )
        return at is not None and found[at] in _VOLATILE
