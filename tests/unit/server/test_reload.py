"""What becomes of each content of the configuration file, look by look, with a clock that the test turns."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from keystead.config import Configuration, load_text
from keystead.server.reload import RETRY_FIRST, RETRY_LAST, Refused, Reloader, Source
from support.endpoints import Lines
from support.fakes import FakeClock


def text(epoch: int = 1) -> str:
    endpoint = {"name": "main", "socket": "unix:///run/k/kms.sock", "epoch": epoch}
    endpoint["members"] = [{"key": "lab", "stage": "active"}]
    return json.dumps(
        {
            "apiVersion": "config.keystead.dev/v1alpha1",
            "kind": "KeysteadConfiguration",
            "keys": [{"name": "lab", "provider": "local", "keyFile": "/etc/keystead/lab.key"}],
            "endpoints": [endpoint],
        }
    )


class Bench:
    """A reloader over a real file, whose `apply` refuses while the test wants it to."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "config.yaml"
        self.file.write_text(text())
        self.clock = FakeClock(1000.0)
        self.applied: list[int] = []
        self.tries = 0
        self.refusal: Exception | None = None
        source = Source.file(self.file)
        self.reloader = Reloader(source, source.load(), self._apply, clock=self.clock, wall=lambda: 1_790_000_000.0)

    def _apply(self, config: Configuration) -> None:
        self.tries += 1
        if self.refusal is not None:
            raise self.refusal
        self.applied.append(config.endpoints[0].epoch)

    def look(self, times: int = 1, *, demanded: bool = False) -> Lines:
        """Look, and return what was logged."""
        with capture_logs() as lines:
            for _ in range(times):
                self.reloader.look(demanded=demanded)
        return lines


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def events(lines: Lines) -> list[Any]:
    return [line["event"] for line in lines]


def test_a_file_that_does_not_change_is_never_taken_up(bench: Bench) -> None:
    assert bench.look(5) == []
    bench.file.write_text(text())
    assert bench.look(5) == []
    assert bench.applied == []


def test_a_changed_file_is_taken_up_once_it_looks_the_same_twice(bench: Bench) -> None:
    bench.file.write_text(text(2))
    assert bench.look() == []
    assert events(bench.look()) == ["config.reloaded"]
    assert bench.look(3) == []
    assert bench.applied == [2]


def test_a_file_that_is_being_written_is_left_alone(bench: Bench) -> None:
    whole = text(2)
    for size in range(0, len(whole), 40):
        bench.file.write_text(whole[:size])
        assert bench.look() == []
    bench.file.write_text(whole)
    assert events(bench.look(2)) == ["config.reloaded"]
    assert bench.applied == [2]


def test_a_signal_is_answered_at_once_and_always(bench: Bench) -> None:
    assert events(bench.look(demanded=True)) == ["config.unchanged"]
    bench.file.write_text(text(2))
    assert events(bench.look(demanded=True)) == ["config.reloaded"]
    bench.file.write_text("{")
    assert events(bench.look(2, demanded=True)) == ["config.rejected", "config.rejected"]
    assert bench.applied == [2]


@pytest.mark.parametrize("content", ["", "{", "apiVersion: x\n", text()[:-30], "\udc80"])
def test_a_bad_file_is_said_once_and_tried_again_when_it_changes(bench: Bench, content: str) -> None:
    bench.file.write_bytes(content.encode(errors="surrogateescape"))
    (line,) = bench.look(10)
    assert (line["event"], line["log_level"]) == ("config.rejected", "error")
    assert line["problems"]
    assert not bench.reloader.standing.successful
    bench.file.write_text(text(2))
    assert events(bench.look(2)) == ["config.reloaded"]
    assert bench.reloader.standing.successful


def test_a_file_that_is_gone_is_said_once_and_found_again(bench: Bench) -> None:
    bench.file.unlink()
    (line,) = bench.look(10)
    assert "cannot be read: No such file or directory" in line["problems"][0]
    bench.file.write_text(text())
    assert events(bench.look(2)) == ["config.restored"]
    assert bench.reloader.standing.successful
    assert bench.applied == []


def test_a_link_that_is_switched_as_kubernetes_does_is_a_change(bench: Bench, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}/config.yaml").write_text(text(number))
    (tmp_path / "..data").symlink_to("..1")
    bench.file.unlink()
    bench.file.symlink_to("..data/config.yaml")
    assert bench.look(3) == []
    for number in (2, 3):
        (tmp_path / "..data_tmp").symlink_to(f"..{number}")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        assert events(bench.look(3)) == ["config.reloaded"]
    assert bench.applied == [2, 3]


def test_a_dangling_link_is_a_file_that_cannot_be_read(bench: Bench, tmp_path: Path) -> None:
    bench.file.unlink()
    bench.file.symlink_to(tmp_path / "nowhere")
    assert "cannot be read" in bench.look(2)[0]["problems"][0]


def test_what_only_the_world_refuses_is_tried_again_with_longer_and_longer_pauses(bench: Bench) -> None:
    bench.file.write_text(text(2))
    bench.refusal = Refused(["not proven: key far: open: away"], retry=True)
    assert events(bench.look(3)) == ["config.rejected"]
    assert (bench.tries, bench.reloader.standing.retrying) == (1, True)
    pauses = []
    for _ in range(9):
        began, before = bench.clock.now, bench.tries
        while bench.tries == before:
            bench.clock.advance(1)
            assert bench.look() == []
        pauses.append(bench.clock.now - began)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert (pauses[0], pauses[-1]) == (RETRY_FIRST, RETRY_LAST)
    bench.refusal = Refused(["not proven: key far: wrap: denied"], retry=True)
    bench.clock.advance(RETRY_LAST)
    assert events(bench.look()) == ["config.rejected"]
    bench.refusal = None
    bench.clock.advance(RETRY_LAST)
    assert events(bench.look()) == ["config.reloaded"]
    assert bench.applied == [2]


def test_another_content_does_not_wait_for_the_pause_of_the_last_one(bench: Bench) -> None:
    bench.file.write_text(text(2))
    bench.refusal = Refused(["away"], retry=True)
    bench.look(2)
    bench.refusal = None
    bench.file.write_text(text(3))
    assert events(bench.look(2)) == ["config.reloaded"]
    assert bench.applied == [3]


def test_what_will_not_get_better_is_tried_again_only_on_a_signal(bench: Bench) -> None:
    bench.file.write_text(text(2))
    bench.refusal = Refused(["stateDir changed"], retry=False)
    bench.look(2)
    bench.clock.advance(10 * RETRY_LAST)
    assert bench.look(3) == []
    assert bench.tries == 1
    bench.refusal = None
    assert events(bench.look(demanded=True)) == ["config.reloaded"]


def test_an_error_that_nobody_foresaw_is_a_refusal(bench: Bench) -> None:
    bench.file.write_text(text(2))
    bench.refusal = ZeroDivisionError("canary-41")
    lines = bench.look(3)
    assert events(lines) == ["config.crashed", "config.rejected"]
    assert "canary-41" not in str(lines[1])
    assert bench.tries == 1


def test_a_pipe_is_not_read_a_second_time_unless_asked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not Source.file(tmp_path / "pipe").watched
    assert not Source.file(Path("/dev/stdin")).watched or Path("/dev/stdin").is_file()
    (tmp_path / "config.yaml").write_text(text())
    assert Source.file(tmp_path / "config.yaml").watched


def test_what_cannot_change_is_made_once_and_a_signal_is_told_so() -> None:
    made: list[Configuration] = []

    def make() -> Configuration:
        made.append(load_text(text(), "inline"))
        return made[-1]

    source = Source.fixed("flags", make)
    reloader = Reloader(source, source.load(), lambda _config: pytest.fail("nothing has changed"))
    with capture_logs() as lines:
        reloader.look(demanded=True)
    assert events(lines) == ["config.unchanged"]
    assert len(made) == 1
