"""How long an outage stops writes and reads, under an API server of today and one with the fix: all of the table.

The page has what a run printed; `python -m support.outages` in the directory of the tests prints it again.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from support.outages import CASES, DURATIONS, HEAD, Case, measure

PAGE = Path(__file__).parents[3] / "docs/operate/outage.md"


def documented() -> dict[tuple[str, str], list[int]]:
    """The rows of the page by case and duration."""
    table = PAGE.read_text().partition(HEAD)[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {(row[0], row[1]): [int(cell) for cell in row[2:]] for row in cells}


def parameters() -> list[ParameterSet]:
    return [
        pytest.param(case, outage, marks=[pytest.mark.slow] if outage == "1 h" else [], id=f"{case.name}-{outage}")
        for case in CASES
        for outage in DURATIONS
    ]


@pytest.mark.parametrize(("case", "outage"), parameters())
def test_an_outage_costs_what_the_page_says(case: Case, outage: str) -> None:
    row = measure(case, outage)
    print(row)
    assert list(row[2:]) == documented()[case.name, outage]


def test_the_page_has_every_case_and_no_other() -> None:
    assert documented().keys() == {(case.name, outage) for case in CASES for outage in DURATIONS}
    assert len(documented()) == 27


def test_nothing_fails_where_nothing_may() -> None:
    rows = documented()
    for outage in DURATIONS:
        assert rows["one of two keys is away", outage] == [0, 0, 0, 0]
        assert rows["one of two keys is away, and the plugin restarts", outage] == [0, 0, 0, 0]
        assert rows["every key is away", outage][:3] == [0, 0, 0], "within the grace of an hour"
        assert rows["every key refuses, `onRevoked: keep`", outage][2] == 0
