"""Makes the calls of one key: within its rate, once more if that may help, and reported.

What it calls may be anybody's code: only checked answers and classified errors come out.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from keystead import errors
from keystead.host.answers import Answers
from keystead.host.limits import Bucket
from keystead.host.observer import Observer
from keystead.provider import ProviderConfig

RETRY_NEEDS = 0.8
"""Seconds that must be left of a deadline for a second attempt to be worth its load on the remote."""
RETRY_PAUSE = (0.05, 0.15)
"""Seconds before it, at random, so that the nodes of a cluster do not come back in step."""
STUCK_LIMIT = 32
"""Threads of one key that may be given up and not have come back; from then on the key makes no more calls."""


class Caller:
    """The calls of one key, from any thread; each blocks the thread that it is made in."""

    def __init__(self, key: ProviderConfig, answers: Answers, observer: Observer | None) -> None:
        self.failing = False
        """Whether the last call failed in a way that may pass."""
        self.stuck = 0
        """Threads that are given up and have not come back."""
        self._name = key.name
        self._scheme = key.provider
        self._limits = key.limits
        self._answers = answers
        self._observer = observer
        self._counting = threading.Lock()
        self._bucket = Bucket(key.limits.rate, key.limits.concurrency, time.monotonic())
        self.count_stuck(0)

    def count_stuck(self, change: int) -> None:
        """Take note of a thread that was given up, by 1, or that has come back, by -1."""
        with self._counting:
            self.stuck += change
        if self._observer is not None:
            self._observer.stuck(self._name, self.stuck)

    def close(self) -> None:
        """Report no more: another key may have the name by now."""
        if self._observer is not None:
            self._observer.stuck(self._name, 0)
        self._observer = None

    def call(
        self, operation: str, once: Callable[[], Any], check: Callable[[Any], Any], deadline: float, *, in_line: bool
    ) -> Any:
        """Return the checked answer of `once`. `in_line` calls wait for the rate limit, the others go first.

        Raises a `ProviderError`.
        """
        if time.monotonic() >= deadline:
            raise errors.Unavailable(
                f"key {self._name}: {operation}: too many calls before this one; limits.concurrency is "
                f"{self._limits.concurrency}"
            )
        if self.stuck >= STUCK_LIMIT:
            raise errors.Unavailable(
                f"key {self._name}: {operation}: not called, for {self.stuck} calls before it have not ended although "
                "their time is over; if none does, restart the plugin, and report it to the provider's author"
            )
        self._wait_for_turn(operation, deadline, in_line=in_line)
        try:
            return self._observed(operation, once, check)
        except errors.ProviderError as exc:
            if not exc.transient or deadline - time.monotonic() < RETRY_NEEDS:
                raise
            failure = exc
        # No library for retries: those at hand log the arguments of what they repeat, which are keys here.
        time.sleep(random.uniform(*RETRY_PAUSE))  # noqa: S311  jitter is no secret
        try:
            self._wait_for_turn(operation, deadline, in_line=in_line)
        except errors.Throttled:
            raise failure from None
        return self._observed(operation, once, check)

    def _wait_for_turn(self, operation: str, deadline: float, *, in_line: bool) -> None:
        """Keep to the rate. Opening, minting and probing go first, so that no flood of Decrypts can starve them."""
        now = time.monotonic()
        with self._counting:
            if not in_line:
                self._bucket.take(now)
                return
            wait = self._bucket.reserve(now, deadline)
        if wait is None:
            raise errors.Throttled(
                f"key {self._name}: {operation}: not sent, for limits.rate of {self._limits.rate} calls per second is "
                "used up for as long as this call has time"
            )
        time.sleep(wait)

    def _observed(self, operation: str, once: Callable[[], Any], check: Callable[[Any], Any]) -> Any:
        started = time.monotonic()
        failure: errors.ProviderError | None = None
        try:
            return check(self._attempt(operation, once))
        except errors.ProviderError as exc:
            failure = exc
            raise
        finally:
            self.failing = failure is not None and failure.transient
            if self._observer is not None:
                self._observer.called(self._name, self._scheme, operation, time.monotonic() - started, failure)

    def _attempt(self, operation: str, once: Callable[[], Any]) -> Any:
        try:
            return once()
        except BaseException as exc:  # noqa: BLE001  the thread is ours, and a Rust panic is no Exception
            failure = self._answers.failure(operation, exc)
        # Here, where the provider's exception is not its context: a traceback would show that one's text.
        raise failure
