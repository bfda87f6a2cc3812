"""A token bucket for the calls of one key. Pure: the time is passed in, and nobody sleeps here."""

from __future__ import annotations


class Bucket:
    """`rate` tokens a second, of which up to `burst` wait for use. Its user holds a lock around each call."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._filled_at = now

    def reserve(self, now: float, until: float) -> float | None:
        """Take a token that may come later, and return the seconds until then, in the order of the calls.

        `None`, with nothing taken, if it would come after `until`.
        """
        self._fill(now)
        wait = max(0.0, (1 - self._level) / self._rate)
        if now + wait > until:
            return None
        self._level -= 1
        return wait

    def take(self, now: float) -> None:
        """Take a token at once, ahead of those that wait. They pay for it, but never for more than a burst."""
        self._fill(now)
        self._level = min(self._level, max(self._level - 1, -self._burst))

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = max(now, self._filled_at)
