"""A flood of equal lines, and what is left of it in the log."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from keystead.server.repeats import INTERVAL, MOST, Repeats
from support.fakes import FakeClock


class Log:
    def __init__(self) -> None:
        self.lines: list[Mapping[str, object]] = []
        self.clock = FakeClock(0.0)
        self.repeats = Repeats(self.lines.append, clock=self.clock)

    def say(self, what: str, times: int = 1) -> None:
        for number in range(times):
            self.repeats.say(what, {"error": what, "uid": number})

    def told(self) -> int:
        """How many the lines stand for."""
        return sum(1 + int(str(line.get("repeated", 0))) for line in self.lines)


def test_the_first_line_is_written_at_once_and_its_like_are_counted() -> None:
    log = Log()
    log.say("a", 500)
    log.say("b")
    assert log.lines == [{"error": "a", "uid": 0}, {"error": "b", "uid": 0}]


def test_a_flood_that_goes_on_is_one_line_an_interval_with_its_count() -> None:
    log = Log()
    for _ in range(5):
        log.say("a", 100)
        log.clock.advance(INTERVAL)
        log.repeats.flush()
    assert len(log.lines) == 1 + 5
    assert log.lines[1] == {"error": "a", "uid": 99, "repeated": 98}
    assert log.told() == 500


def test_without_a_flush_the_next_line_tells_of_those_before_it() -> None:
    log = Log()
    log.say("a", 3)
    log.clock.advance(INTERVAL)
    log.say("a")
    assert log.lines[1:] == [{"error": "a", "uid": 0, "repeated": 2}]
    assert log.told() == 4


def test_the_end_of_a_flood_is_told_once_and_then_forgotten() -> None:
    log = Log()
    log.say("a", 2)
    for _ in range(4):
        log.clock.advance(INTERVAL)
        log.repeats.flush()
    assert log.lines == [{"error": "a", "uid": 0}, {"error": "a", "uid": 1}]
    log.say("a")
    assert log.told() == 3


def test_nothing_is_due_before_its_time() -> None:
    log = Log()
    log.say("a", 2)
    log.clock.advance(INTERVAL - 0.1)
    log.repeats.flush()
    assert len(log.lines) == 1


def test_however_many_different_lines_there_are_memory_is_bounded_and_none_is_lost() -> None:
    log = Log()
    for number in range(10 * MOST):
        log.say(str(number), 2)
    assert len(log.repeats._seen) == MOST
    log.clock.advance(INTERVAL)
    log.repeats.flush()
    assert log.told() == 20 * MOST


def test_many_threads_lose_no_line() -> None:
    log = Log()
    threads = [threading.Thread(target=log.say, args=("a", 500)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.clock.advance(INTERVAL)
    log.repeats.flush()
    assert log.told() == 4000
    assert len(log.lines) == 2
