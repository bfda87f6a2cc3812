"""Threads for the calls of one key, which are given up when a call does not end in time.

A thread cannot be stopped. A provider that ignores its deadline would keep one for ever, and with a pool of fixed size
the key would be closed after as many such calls. Here a call that overruns loses its place to the next in line; its
thread is left to itself, and what it brings back after all is dropped.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from keystead.host import background

OVERRUN = 1.0
"""Seconds after its deadline at which a call is given up. Whoever waits for it stopped waiting before."""

T = TypeVar("T")


class LaneClosedError(Exception):
    """A call came after `close`."""


class _Call:
    __slots__ = ("deadline", "future", "given_up", "on_hang", "work")

    def __init__(self, work: Callable[[], Any], deadline: float, on_hang: Callable[[], BaseException]) -> None:
        self.future: Future[Any] | None = Future()
        self.work: Callable[[], Any] | None = work
        self.deadline = deadline
        self.on_hang = on_hang
        self.given_up = False


class Lane:
    """Runs up to `size` calls at once, the others in the order in which they came.

    A thread lives for as long as there is something to do: calls of a remote KMS are rare.
    """

    def __init__(self, name: str, size: int, on_stuck: Callable[[int], None]) -> None:
        """`on_stuck` is told of each thread that is given up, by 1, and of each that returned after all, by -1."""
        self._name = name
        self._size = size
        self._on_stuck = on_stuck
        self._lock = threading.Lock()
        self._line: deque[_Call] = deque()
        self._running = 0
        self._closed = False

    def submit(self, deadline: float, work: Callable[[], T], on_hang: Callable[[], BaseException]) -> Future[T]:
        """Run `work`, which should end by `deadline`. If it hangs, the future ends with what `on_hang` returns.

        Raises `LaneClosedError`, and `RuntimeError` if the system has no more threads.
        """
        call = _Call(work, deadline, on_hang)
        future: Future[T] = call.future  # type: ignore[assignment]  # set by its constructor
        with self._lock:
            if self._closed:
                raise LaneClosedError
            if self._running < self._size:
                self._start(call)
                self._running += 1
            else:
                self._line.append(call)
        return future

    def close(self) -> None:
        """Take no more calls. Those in line are still made."""
        with self._lock:
            self._closed = True

    def _start(self, call: _Call) -> None:
        threading.Thread(target=self._run, args=(call,), name=self._name, daemon=True).start()

    def _run(self, call: _Call | None) -> None:
        while call is not None:
            call = self._next() if self._make(call) else None

    def _make(self, call: _Call) -> bool:
        """Make a call; return whether this thread still has a place in the lane."""
        future, work = call.future, call.work
        assert future is not None  # noqa: S101  # a call is made once
        assert work is not None  # noqa: S101
        if not future.set_running_or_notify_cancel():
            return True
        background.call_at(call.deadline + OVERRUN, self._give_up, call)
        answer: Any = None
        failure: BaseException | None = None
        try:
            answer = work()
        except BaseException as exc:  # noqa: BLE001  # it is for whoever waits for the future
            # Without its traceback, whose frames hold the arguments of the call, which may be keys.
            failure = exc.with_traceback(None)
        with self._lock:
            given_up = call.given_up
            # The timer holds the call for a while, and must not hold a key.
            call.future = call.work = None
        if given_up:
            if isinstance(answer, bytearray):
                answer[:] = bytes(len(answer))
            self._on_stuck(-1)
        elif failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(answer)
        return not given_up

    def _next(self) -> _Call | None:
        with self._lock:
            if self._line:
                return self._line.popleft()
            self._running -= 1
            return None

    def _give_up(self, call: _Call) -> None:
        with self._lock:
            future = call.future
            if future is None:
                return
            call.given_up = True
            self._running -= 1
            if self._line:
                with contextlib.suppress(RuntimeError):  # without a thread, the next in line waits for another's end
                    self._start(self._line[0])
                    self._line.popleft()
                    self._running += 1
        self._on_stuck(1)
        future.set_exception(call.on_hang())
