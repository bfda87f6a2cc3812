"""What is made of a file follows the file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from keystead.provider import ConfigError
from keystead.providers._files import FromFile, stamp


class Made:
    """Makes its content of a file, and counts how often."""

    def __init__(self, file: Path) -> None:
        self.times = 0
        self._file = file
        self.of = FromFile(file, self._make)

    def _make(self) -> str:
        self.times += 1
        try:
            content = self._file.read_text()
        except OSError as exc:
            raise ConfigError(str(exc)) from None
        if content == "half":
            raise ConfigError("half")
        return content


def test_a_file_that_stays_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "ca"
    file.write_text("one")
    made = Made(file)
    assert {made.of.get() for _ in range(100)} == {"one"}
    assert made.times == 1


def test_a_file_that_is_replaced_is_read_again_once(tmp_path: Path) -> None:
    file, new = tmp_path / "ca", tmp_path / "new"
    file.write_text("one")
    made = Made(file)
    new.write_text("two")
    new.replace(file)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(made.of.get())) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 32
    assert made.of.get() == "two"
    assert made.times == 2


def test_a_file_that_is_half_written_or_away_changes_nothing_until_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "ca"
    file.write_text("one")
    made = Made(file)
    for spoil in (lambda: file.write_text("half"), file.unlink):
        spoil()
        assert [made.of.get() for _ in range(3)] == ["one"] * 3
    assert made.times == 3
    file.write_text("two")
    assert made.of.get() == "two"


def test_a_file_that_is_not_usable_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Made(tmp_path / "absent")


def test_no_file_never_changes() -> None:
    assert stamp(None) is None
    assert FromFile(None, lambda: "public").get() == "public"
