"""Threads that are given up when a call does not end, and what becomes of the calls behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import pytest

from keystead.host import lane as lane_module
from keystead.host.lane import OVERRUN, Lane, LaneClosedError
from support.fakes import until


class HangingError(Exception):
    pass


class Counted:
    """A lane of one key, and how many of its threads are stuck."""

    def __init__(self, size: int) -> None:
        self.stuck: list[int] = []
        self.lane = Lane("test", size, self.stuck.append)

    def submit(self, work: Callable[[], Any], seconds: float = 30.0) -> Future[Any]:
        return self.lane.submit(time.monotonic() + seconds, work, HangingError)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a call up a tenth of a second after its deadline."""
    assert OVERRUN == 1.0
    monkeypatch.setattr(lane_module, "OVERRUN", 0.1)


def test_calls_run_in_the_order_of_their_coming_and_no_more_at_once_than_the_lane_has_places() -> None:
    counted, running, most = Counted(3), [0], [0]
    order: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            order.append(number)
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1
        return number

    pending = [counted.submit(partial(work, number)) for number in range(30)]
    assert [future.result(10) for future in pending] == list(range(30))
    assert most[0] == 3
    assert all(abs(place - number) < 3 for place, number in enumerate(order))
    assert counted.stuck == []


def test_a_thread_ends_when_there_is_nothing_to_do() -> None:
    counted = Counted(4)
    wait([counted.submit(lambda: None) for _ in range(20)])
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "test"])


def test_a_failure_reaches_who_waits_without_the_frames_it_came_through() -> None:
    secret = b"a key"

    def work(key: bytes = secret) -> None:
        raise KeyError(len(key))

    failure = Counted(1).submit(work).exception(5)
    assert type(failure) is KeyError
    assert failure.__traceback__ is None


def test_a_call_that_hangs_loses_its_place_and_the_next_in_line_is_made() -> None:
    counted, gate = Counted(2), threading.Event()
    hanging = [counted.submit(lambda: gate.wait(60), 0.05) for _ in range(2)]
    behind = [counted.submit(partial(int, number)) for number in range(5)]
    assert [future.result(5) for future in behind] == list(range(5))
    assert [type(future.exception(5)) for future in hanging] == [HangingError] * 2
    assert counted.stuck == [1, 1]
    gate.set()
    until(lambda: sum(counted.stuck) == 0)
    assert counted.stuck == [1, 1, -1, -1]


def test_more_calls_may_hang_one_after_the_other_than_the_lane_has_places() -> None:
    counted, gate = Counted(2), threading.Event()
    hanging = [counted.submit(lambda: gate.wait(60), 0.02 * number) for number in range(10)]
    assert {type(future.exception(10)) for future in hanging} == {HangingError}
    assert counted.submit(lambda: "answer").result(5) == "answer"
    gate.set()
    until(lambda: sum(counted.stuck) == 0)
    assert sorted(counted.stuck) == [-1] * 10 + [1] * 10
    wait([counted.submit(lambda: None) for _ in range(4)])
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "test"])


def test_what_a_thread_brings_back_too_late_is_dropped_and_wiped() -> None:
    counted, gate, key = Counted(1), threading.Event(), bytearray(b"k" * 32)

    def work() -> bytearray:
        gate.wait(60)
        return key

    pending = counted.submit(work, 0.0)
    assert type(pending.exception(5)) is HangingError
    gate.set()
    until(lambda: counted.stuck == [1, -1])
    assert key == bytes(32)
    assert type(pending.exception(5)) is HangingError


def test_a_call_that_was_cancelled_while_it_waited_is_not_made() -> None:
    counted, gate = Counted(1), threading.Event()
    made: list[int] = []
    counted.submit(lambda: gate.wait(60))
    behind = [counted.submit(partial(made.append, number)) for number in range(3)]
    assert behind[1].cancel()
    gate.set()
    wait([behind[0], behind[2]], 5)
    assert made == [0, 2]


def test_a_closed_lane_takes_no_more_and_ends_what_it_has() -> None:
    counted, gate = Counted(1), threading.Event()
    running, behind = counted.submit(lambda: gate.wait(60)), counted.submit(lambda: "behind")
    counted.lane.close()
    with pytest.raises(LaneClosedError):
        counted.submit(lambda: None)
    gate.set()
    assert (running.result(5), behind.result(5)) == (True, "behind")


def test_without_threads_a_call_is_refused_and_the_lane_goes_on_when_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Counted(2)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            counted.submit(lambda: None)
    assert [counted.submit(lambda: 1).result(5) for _ in range(4)] == [1] * 4
