"""The pages of reference are what the program says of itself today."""

from __future__ import annotations

import pytest

from reference.book import MARK, PAGES, ROOT, written


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_program_says(name: str) -> None:
    assert (ROOT / name).read_text() == written(name), "run `make reference`"


@pytest.mark.parametrize("name", PAGES)
def test_there_is_something_to_say(name: str) -> None:
    assert len((ROOT / name).read_text().partition(MARK)[2].splitlines()) > 20
