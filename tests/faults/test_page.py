"""docs/faults.md shows what the tests expect."""

from __future__ import annotations

import re

import pytest

from faults.expected import CASES, FAULTS, HEALTHY, LEADER_KILLED, PROVIDERS
from faults.page import HEAD, INTRODUCTION, PAGE


def rows(provider: str) -> dict[str, list[str]]:
    """The measurements of a provider by the name of the fault."""
    section = PAGE.read_text().partition(f"\n## {provider}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines if len(cells) == len(HEAD) and cells != HEAD and cells[0] != "---"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_fault_is_on_the_page_with_its_code_and_its_classes(provider: str) -> None:
    found = rows(provider)
    faults = {fault for of, fault in CASES if of == provider}
    assert found.keys() == {HEALTHY, *faults, *([LEADER_KILLED] if provider == "vault-transit" else [])}
    for fault in faults:
        expected = FAULTS[fault][provider]
        code, *times, decrypts, unwraps = found[fault]
        assert code == f"`{expected.code.name}`", fault
        assert set(re.findall("`(.+?)`", decrypts)) <= set(expected.decrypt), fault
        assert set(re.findall("`(.+?)`", unwraps)) <= set(expected.call), fault
        longest = [float(time.partition(" / ")[2]) for time in times[:3]]
        assert longest[0] <= 2600
        assert max(longest[1:]) < 1500


def test_the_page_was_written_by_the_command() -> None:
    assert PAGE.read_text().startswith(INTRODUCTION)
