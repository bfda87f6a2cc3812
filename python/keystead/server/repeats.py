"""Keeps a flood of equal log lines down to one in ten seconds that says how many there were.

A node that lags behind its peers can fail hundreds of calls a second, all in the same way. The first line says what is
wrong, and the others would only push it out of the log.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

INTERVAL = 10.0
MOST = 256
"""Different lines that are remembered; beyond that the oldest is told and forgotten."""

Fields = Mapping[str, object]
Emit = Callable[[Fields], None]


class _Seen:
    """A line that was written; `count` and `fields` are those of its like since then."""

    __slots__ = ("count", "fields", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.count = 0
        self.fields: Fields = {}

    def take(self) -> Fields | None:
        """The line for those that were counted, which is one of them; `None` if there were none."""
        if self.count == 0:
            return None
        fields = {**self.fields, "repeated": self.count - 1} if self.count > 1 else self.fields
        self.count = 0
        return fields


class Repeats:
    """Decides which lines are written. Safe to use from many threads."""

    def __init__(self, emit: Emit, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`emit` writes a line; `repeated` among its fields is how many it stands for besides itself."""
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def say(self, what: Hashable, fields: Fields) -> None:
        """Write this line if `what` was not said a moment ago; else count it."""
        now = self._clock()
        with self._lock:
            seen = self._seen.pop(what, None)
            if seen is None or now >= seen.until:
                repeated = seen.count if seen is not None else 0
                lines: list[Fields | None] = [{**fields, "repeated": repeated} if repeated else fields]
                seen = _Seen(now + INTERVAL)
            else:
                lines = []
                seen.count += 1
                seen.fields = fields
            self._seen[what] = seen
            while len(self._seen) > MOST:
                lines.append(self._seen.popitem(last=False)[1].take())
        self._write(lines)

    def flush(self) -> None:
        """Write what was counted and is due, so that the end of a flood is told too. To be called now and then."""
        now = self._clock()
        lines: list[Fields | None] = []
        with self._lock:
            for what, seen in list(self._seen.items()):
                if now >= seen.until:
                    lines.append(seen.take())
                    if lines[-1] is None:
                        del self._seen[what]
                    seen.until = now + INTERVAL
        self._write(lines)

    def _write(self, lines: list[Fields | None]) -> None:
        for line in lines:
            if line is not None:
                self._emit(line)
