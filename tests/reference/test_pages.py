"""The pages of reference are what the program says of itself today."""

from __future__ import annotations

import pytest

from reference.book import MARK, PAGES, ROOT, written
from reference.deploy import EXAMPLES, printed


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_program_says(name: str) -> None:
    assert (ROOT / name).read_text() == written(name), "run `make reference`"


@pytest.mark.parametrize("name", PAGES)
def test_there_is_something_to_say(name: str) -> None:
    assert len((ROOT / name).read_text().partition(MARK)[2].splitlines()) > 20


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_file_in_deploy_is_what_generate_prints(name: str) -> None:
    assert (ROOT / "deploy" / name).read_text() == printed(EXAMPLES[name]), "run `make reference`"


def test_nothing_else_is_in_deploy() -> None:
    files = {str(path.relative_to(ROOT / "deploy")) for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("chart/")} == {*EXAMPLES, "README.md"}
