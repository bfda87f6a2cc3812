"""Looks at an apiserver all the time and keeps when what it answered changed."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .cluster import ApiServer
from .processes import until

Probe = Callable[[], tuple[int, str]]
"""Makes one call and returns status and text, as `Kube.raw` does."""

NOBODY = 0
"""The status of a probe that nobody answered."""
INTERVAL = 0.5


class Timeline:
    """Calls each probe every half second, each in a thread of its own, from `__enter__` to `__exit__`.

    Seconds are counted from `__enter__`.
    """

    def __init__(self, **probes: Probe) -> None:
        self.changes: dict[str, list[tuple[float, int]]] = {name: [] for name in probes}
        """When the status of each probe became which one."""
        self.texts: dict[tuple[str, int], str] = {}
        """The last text that came with each status of each probe."""
        self.calls = dict.fromkeys(probes, 0)
        self._over = threading.Event()
        self._start = 0.0
        self._threads = [threading.Thread(target=self._watch, args=item) for item in probes.items()]

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self._start, 1)

    def wait(self, seconds: float) -> None:
        """Let this much time pass since the beginning."""
        self._over.wait(max(0.0, self._start + seconds - time.monotonic()))

    def wait_for(self, probe: str, status: int, after: float, timeout: float) -> float:
        """Wait until the status of a probe, as of `after` or later, is this one; return when that was first so."""

        def came() -> list[float]:
            return [when for when, found in self.states(probe, after) if found == status]

        return until(came, timeout, f"{probe} is {status} after {after} s; it was {self.changes[probe]}")[0]

    def states(self, probe: str, after: float = 0) -> list[tuple[float, int]]:
        """Return the states of a probe from `after` on, the one that holds at that time included."""
        changes = list(self.changes[probe])
        earlier = [(after, status) for when, status in changes if when <= after][-1:]
        return earlier + [(when, status) for when, status in changes if when > after]

    def seen(self, probe: str, after: float = 0) -> set[int]:
        """Return every status that a probe had from `after` on."""
        return {status for _, status in self.states(probe, after)}

    def __str__(self) -> str:
        lines = (f"{name}: " + ", ".join(f"{s} at {w} s" for w, s in found) for name, found in self.changes.items())
        return "\n".join(lines)

    def _watch(self, name: str, probe: Probe) -> None:
        changes = self.changes[name]
        while not self._over.is_set():
            try:
                status, text = probe()
            except (OSError, http.client.HTTPException) as failure:
                status, text = NOBODY, repr(failure)
            self.calls[name] += 1
            self.texts[name, status] = text
            if not changes or changes[-1][1] != status:
                changes.append((self.now, status))
            self._over.wait(INTERVAL)


def health(apiserver: ApiServer, endpoint: str) -> Probe:
    """Probe a health endpoint of whatever process the apiserver is at that time."""
    return lambda: apiserver.kube.raw("GET", endpoint)
