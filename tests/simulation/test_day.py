"""By the clock: nodes on which something fails all the time go on reading and writing, in memory that does not grow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from unittest import mock

import pytest
import structlog

from keystead.host import caller
from simulation.day import EVENTS, Day, Hour

SEED = 1
MIB = 2**20


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Let nothing wait on the real clock, and nothing be logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with mock.patch.object(caller, "RETRY_NEEDS", float("inf")):
        yield
    structlog.reset_defaults()


def lived(hours: int) -> tuple[Day, list[Hour]]:
    day = Day(SEED)
    found = list(day.hours(hours))
    day.end()
    for hour in found:
        print(hour)
    return day, found


def test_an_hour_of_faults_leaves_everything_readable() -> None:
    day, (hour,) = lived(1)
    assert hour.looks > 100
    assert day.happened.total() > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_day_of_faults_leaves_everything_readable_and_takes_no_more_memory_at_its_end() -> None:
    day, found = lived(24)
    assert len(found) == 24
    assert day.happened.keys() == EVENTS.keys(), "everything happened"
    assert found[-1].key_ids > 10
    early, late = found[3:8], found[-5:]
    assert max(hour.resident for hour in late) - max(hour.resident for hour in early) < 8 * MIB
    assert min(hour.objects for hour in late) < 1.5 * max(hour.objects for hour in early)
