"""Which region is asked: the configured ones in their order, those that just failed last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from keystead.provider import Throttled, Unavailable

REST_SECONDS = 30.0
"""How long a region that could not answer is asked after the others."""

T = TypeVar("T")


class Regions:
    """Asks one region, and another if that one cannot answer. Safe to use from many threads."""

    def __init__(self, names: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._names = names
        self._clock = clock
        self._rests_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def ask(self, deadline: float, question: Callable[[str, float], T]) -> T:
        """Return the first answer. A refusal is an answer: what a key's owner decided in one region holds there.

        Raises `Unavailable`, or `Throttled`, if no region answers before the deadline.
        """
        failures: list[Unavailable | Throttled] = []
        order = self._order()
        for position, name in enumerate(order):
            now = time.monotonic()
            # A region that hangs must leave time for the next.
            share = now + (deadline - now) / (len(order) - position)
            try:
                answer = question(name, share)
            except (Unavailable, Throttled) as exc:
                failures.append(exc)
                self._rest(name)
            else:
                self._wake(name)
                return answer
        kind = Throttled if all(isinstance(failure, Throttled) for failure in failures) else Unavailable
        raise kind("; ".join(map(str, failures)))

    def _order(self) -> list[str]:
        with self._lock:
            now = self._clock()
            return sorted(self._names, key=lambda name: self._rests_until.get(name, now) > now)

    def _rest(self, name: str) -> None:
        with self._lock:
            self._rests_until[name] = self._clock() + REST_SECONDS

    def _wake(self, name: str) -> None:
        with self._lock:
            self._rests_until.pop(name, None)
