"""A plugin under strace: what it does to its state directory, call by call, and its death at any one of them.

strace injects SIGKILL as a call begins, so that the call is not made: what is on disk afterwards is what the calls
before it have left. A call counts only if it is about the state directory, by path or by file descriptor.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

CALLS = ("mkdir", "openat", "flock", "write", "fsync", "close", "rename")


class Call(NamedTuple):
    """One system call of a run."""

    name: str
    number: int
    """Which one of its name it is, from 1."""
    text: str

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


def strace() -> str:
    """The path of strace. Without it a test is skipped, and the summary counts it."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("NOT TESTED: deaths at system calls, for there is no strace")
    return found


def watching(state: Path, log: Path) -> list[str]:
    """The command under which a plugin leaves a log of its calls."""
    return [*_command(state), "-o", str(log)]


def killing(state: Path, call: Call) -> list[str]:
    """The command under which a plugin dies as this call begins."""
    return [*_command(state), "-o", "/dev/null", "-e", f"inject={call.name}:signal=KILL:when={call.number}"]


def calls(log: Path) -> list[Call]:
    """Read the log of the one thread that touches the state directory."""
    lines = re.findall(r"^(\d+) +(\w+)\((.*)$", log.read_text(), re.MULTILINE)
    threads = {thread for thread, name, _ in lines if name in CALLS}
    assert len(threads) == 1, f"several threads touch the state directory: {lines}"
    counted: Counter[str] = Counter()
    found = []
    for _, name, text in lines:
        counted[name] += 1
        found.append(Call(name, counted[name], text))
    return found


def _command(state: Path) -> list[str]:
    directory = state / "main"
    files = [directory / name for name in ("current", "current.new", "lock")]
    paths = [part for path in (state.parent, state, directory, *files) for part in ("-P", str(path))]
    # As a grandchild, so that the child is the plugin: then a signal to it reaches it, and its exit code is its own.
    return [strace(), "-D", "-f", "-qq", *paths, "-e", f"trace={','.join(CALLS)}", "-e", "signal=none"]
