"""Whenever a plugin is killed, and however often, what it has answered can be decrypted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.killed import run_driver

from .schedules import deaths_of

FIRST = 1


def figures(printed: str) -> dict[str, int]:
    """The last line of the driver."""
    last = printed.splitlines()[-1]
    return {name: int(number) for number, name in re.findall(r"(\d+) ([a-z ]+?)(?:,|:| in |$)", last)}


def test_random_schedules_of_death_leave_nothing_undecryptable(tmp_path: Path) -> None:
    found = figures(run_driver("crash.schedules", tmp_path, "10", str(FIRST)))
    assert found["schedules"] == 10
    assert (found["undecryptable"], found["used before they were on disk"]) == (0, 0)
    assert found["lives killed"] > 6
    assert found["answers"] > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_random_schedules_of_death_leave_nothing_undecryptable(tmp_path: Path) -> None:
    printed = run_driver("crash.schedules", tmp_path, "1000", str(FIRST), seconds=3500)
    print(printed)
    found = figures(printed)
    assert found["schedules"] == 1000
    assert (found["undecryptable"], found["used before they were on disk"]) == (0, 0)
    assert found["lives killed"] > 1000
    assert found["answers"] > 20_000


def test_schedules_differ_and_are_the_same_again_under_their_number() -> None:
    schedules = [deaths_of(seed) for seed in range(FIRST, FIRST + 1000)]
    assert schedules == [deaths_of(seed) for seed in range(FIRST, FIRST + 1000)]
    assert len({tuple(map(str, schedule)) for schedule in schedules}) > 900
    calls = {death.call for schedule in schedules for death in schedule}
    assert calls >= set(range(1, 83)), "every call ends some life"
