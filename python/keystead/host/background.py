"""One event loop for the whole process, in a thread of its own, for what only waits: flights and time limits.

Hundreds of unwraps may be on their way to a KMS that hangs. Each as a thread would take the place of one that could
get an answer elsewhere; as a task of this loop it costs nothing. What runs here must never block: calls of providers
have threads of their own (`keystead.host.lane`), and a log line is written `aside`, for its reader may have stalled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_starting = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine in the loop. To be called from other threads than the loop's."""
    return asyncio.run_coroutine_threadsafe(work, _running_loop())


def call_at(when: float, callback: Callable[..., None], *args: object) -> None:
    """Call back in the loop's thread once `time.monotonic()` has reached `when`."""
    loop = _running_loop()
    loop.call_soon_threadsafe(loop.call_at, when, callback, *args)  # its clock is time.monotonic() too


def aside(work: Callable[[], None]) -> None:
    """Have other threads do what may block, from the loop's thread."""
    _running_loop().run_in_executor(None, work)


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop  # one per process is the point
    with _starting:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="background", daemon=True).start()
        return _loop
