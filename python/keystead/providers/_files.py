"""What is made of a file, and made anew when the file has been replaced: whom TLS trusts, in a client that lives on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from keystead.provider import ConfigError

T = TypeVar("T")


class FromFile(Generic[T]):
    """Calls `make` at once, and again at the first `get` after the file has changed. Safe to use from many threads.

    Raises what `make` raises. Later, a `ConfigError` of it leaves what there is in use: the file may be half-written,
    or missing for a moment, and it is looked at again once it has changed again.
    """

    def __init__(self, file: Path | None, make: Callable[[], T]) -> None:
        self._file = file
        self._make = make
        self._replacing = threading.Lock()
        self._stamp = stamp(file)
        self._made = make()

    def get(self) -> T:
        """Return what was made of the file as it is now."""
        if stamp(self._file) != self._stamp and self._replacing.acquire(blocking=False):
            try:
                self._replace()
            finally:
                self._replacing.release()
        return self._made

    def _replace(self) -> None:
        # Taken before the file is read, so that a change in between is seen the next time.
        self._stamp = stamp(self._file)
        with contextlib.suppress(ConfigError):
            self._made = self._make()


def stamp(file: Path | None) -> object:
    """Return what differs once a file has been replaced; `None` while there is none."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
