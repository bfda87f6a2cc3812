"""Sees what this thread does to files, the network and processes, by the interpreter's audit events."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

_WATCHED = frozenset(
    {"open", "socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "os.system", "os.posix_spawn"}
)
_CODE = (".py", ".pyc", ".so", ".pth")
_local = threading.local()
_installed = False
_lock = threading.Lock()


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    """Yield a list that grows with each thing that this thread does inside the block. Reading code does not count."""
    global _installed
    with _lock:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True
    seen: list[str] = []
    _local.seen = seen
    try:
        yield seen
    finally:
        _local.seen = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in _WATCHED:
        return
    seen: list[str] | None = getattr(_local, "seen", None)
    if seen is None:
        return
    what = args[1] if event == "socket.connect" else args[0]
    if event == "open" and str(what).endswith(_CODE):
        return
    seen.append(f"{event} {str(what)[:120]}")
