"""Run a piece of work in child processes that are killed at each system call that changes files, one after the other.

SIGKILL gives no chance to clean up, so what the child leaves is what a crash of the process leaves. The children are
forked from a single-threaded driver, one per call, because a Python of its own for each would take seconds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

TORN = "torn"
"""Argument of `die_at`: the call before which the process dies is a write, half of which is done."""
_CALLS = ("open", "write", "fsync", "replace", "close", "mkdir")


def die_at(number: int, how: str = "whole") -> list[str]:
    """Count the calls of this process that touch files, and die before the one with this number, from 1.

    Returns the list that the names of the calls are added to.
    """
    made: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if len(made) == number:
                if how == TORN and name == "write":
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    for name in _CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    fcntl.flock = counted("flock", fcntl.flock)
    return made


def for_each_call(
    work: Callable[[Path], object], root: Path, how: str = "whole", template: Path | None = None
) -> NoReturn:
    """Be the driver: run `work` in a directory `root/N` in a child that dies before call N; stop when one survives.

    Each directory begins as a copy of `template`. The file `root/survivor` then holds the number of that last one.
    """
    number = 0
    while True:
        number += 1
        directory = root / str(number)
        if template is not None:
            shutil.copytree(template, directory)
        else:
            directory.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            try:
                die_at(number, how)
                work(directory)
                sys.stdout.flush()
                os._exit(0)
            finally:
                os._exit(3)
        _, status = os.waitpid(child, 0)
        if status == 0:
            (root / "survivor").write_text(str(number))
            sys.exit(0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"the child of call {number} ended with status {os.waitstatus_to_exitcode(status)}")


def run_driver(module: str, root: Path, *arguments: str, seconds: float = 60) -> str:
    """Run a module of the tests as driver, for so long at most, and return what its children printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, str(root), *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
