"""A plugin that is killed at any system call of writing its state has answered nothing that is lost.

Each case is a real process under strace, with a client that asks for Encrypt all the while, and then the next process.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from keystead._core import Record, StateFile, key_id_epoch
from keystead.host.state import StateDir
from support.process import Files, Process
from support.serving import Sealed, short_directory

from .traced import Call, calls, killing, strace, watching

SEED = bytes(range(32))
EPOCHS = {"first mint": 1, "mint of a new epoch": 2}
"""What the plugin that dies is configured for. Under the second, a state of epoch 1 is there."""


class Case:
    """A directory with a configuration, in which one plugin dies and the next one starts."""

    def __init__(self, directory: Path, epoch: int) -> None:
        self.files = Files(directory)
        self.state = directory / "state"
        self.epoch = epoch
        self.sealed: list[Sealed] = []
        """What was answered, in order."""
        if epoch > 1:
            self._serve_at(1)
            with self.files.run(log="before") as process:
                process.until_ok()
                self.sealed.append(process.client.seal(SEED))
                assert process.stop() == 0
        self._serve_at(epoch)

    def on_disk(self) -> StateFile | None:
        """The state file, which must be whole or not there."""
        return StateDir(self.state / "main").read()

    def encrypt_until_it_ends(self, process: Process) -> None:
        """Ask for Encrypt without a pause, until the process is dead."""
        while process.popen.poll() is None:
            with contextlib.suppress(grpc.RpcError):
                self.sealed.append(process.client.seal(SEED))
        assert process.wait() == -signal.SIGKILL

    def _serve_at(self, epoch: int) -> None:
        self.files.write(self.files.document(epoch=epoch))


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def calls_of(case: Case) -> list[Call]:
    """What a plugin that nobody kills does to its state directory."""
    log = case.files.directory / "calls"
    with case.files.run(under=watching(case.state, log)) as process:
        process.until_key_id(lambda key_id: key_id_epoch(key_id) == case.epoch)
    return calls(log)


def die_and_start_again(case: Case, call: Call) -> int:
    """Kill a plugin at a call, then read with the next one all that was answered. Return the epoch reached before."""
    before = case.on_disk()
    with case.files.run(under=killing(case.state, call)) as process:
        case.encrypt_until_it_ends(process)
    left = case.on_disk()
    reached = max((key_id_epoch(one.key_id) for one in case.sealed), default=0)
    if reached == case.epoch:
        assert left is not None, "what was answered under had been written"
        assert left.record == Record.parse(case.sealed[-1].record)
    elif before is not None:
        assert left is not None, "the old state is there until the new one is"
    with case.files.run(log="after") as process:
        key_id = process.until_key_id(lambda key_id: key_id_epoch(key_id) == case.epoch)
        for sealed in case.sealed:
            assert process.client.decrypt(sealed) == SEED
        again = process.client.seal(SEED)
        assert again.key_id == key_id
        assert process.client.decrypt(again) == SEED
        if left is not None and key_id_epoch(left.key_id) == case.epoch:
            assert again.record == left.record.encoded, "what was on disk is used, and no other made"
        assert process.events("state.unreadable") == []
        assert process.stop() == 0
    return reached


@pytest.mark.parametrize("which", EPOCHS)
def test_the_new_state_becomes_visible_whole_and_after_it_is_on_disk(which: str, directory: Path) -> None:
    strace()
    made = [f"{call.name} {call.text}" for call in calls_of(Case(directory, EPOCHS[which]))]
    steps = [
        "openat .*current.new",
        "write ",
        "fsync ",
        "rename .*current.new.*current",
        "openat .*/main.*DIR",
        "fsync ",
    ]
    position = 0
    for step in steps:
        found = next((n for n, text in enumerate(made[position:], position) if re.match(step, text)), None)
        assert found is not None, f"{step} is missing after {made[:position]} in {made}"
        position = found + 1


def test_a_plugin_killed_before_a_new_epoch_is_on_disk_goes_on_with_all_it_answered(directory: Path) -> None:
    strace()
    case = Case(directory, 2)
    assert die_and_start_again(case, Call("rename", 1, "")) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("which", EPOCHS)
def test_a_plugin_killed_at_any_call_has_lost_nothing(which: str, directory: Path) -> None:
    strace()
    epoch = EPOCHS[which]
    (directory / "0").mkdir()
    made = calls_of(Case(directory / "0", epoch))
    assert len(made) > 12
    reached = set()
    for number, call in enumerate(made, 1):
        case_directory = directory / str(number)
        case_directory.mkdir()
        reached.add(die_and_start_again(Case(case_directory, epoch), call))
        shutil.rmtree(case_directory)
    assert reached >= {epoch - 1}
    print(f"{which}: killed at {len(made)} calls: {', '.join(map(str, made))}")
