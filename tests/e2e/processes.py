"""Child processes with a log file, and waiting for what they do."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Child:
    """One program with its output in a file. It may be started again after it has ended; the log goes on."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.running, f"{self.name} runs already"
        # A session of its own, so that Ctrl-C in a terminal reaches pytest only, which stops its children in order.
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def require_running(self) -> None:
        """Fail with the end of the log if the process has ended by itself."""
        if not self.running:
            code = self._process.returncode if self._process else None
            raise AssertionError(f"{self.name} is not running (exit code {code}); its log ends:\n{self.tail()}")

    def wait(self, timeout: float) -> int:
        """Wait for the process to end by itself, and return its exit code."""
        until(lambda: not self.running, timeout, f"{self.name} ends by itself")
        assert self._process is not None
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.require_running()
        os.kill(self.pid, number)

    def terminate(self, timeout: float = 30) -> None:
        """Send SIGTERM and wait. A process that does not end by itself is killed, and that is a failure."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout:.0f} s of SIGTERM") from None

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self, lines: int = 30) -> str:
        return tail(self.log, lines)


def tail(log: Path, lines: int = 30) -> str:
    """Return the end of a log file, each line cut to a readable length."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - lines * 2000))
        text = file.read().decode(errors="replace")
    return "\n".join(line[:500] for line in text.splitlines()[-lines:])


def until(condition: Callable[[], T | None], timeout: float, what: str, child: Child | None = None) -> T:
    """Call `condition` until it returns something true, and return that.

    An `OSError` or `AssertionError` in between counts as "not yet": whoever is asked may still be starting. If that
    is a `child` which has ended, waiting for it ends too.
    """
    end = time.monotonic() + timeout
    while True:
        if child is not None:
            child.require_running()
        last: object
        try:
            result = condition()
            if result:
                return result
            last = result
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout:.0f} s; last seen: {last!r}")
        time.sleep(0.1)


def free_port() -> int:
    """Find a TCP port on loopback that nobody listens on.

    It lies below the range from which the kernel takes ports for outgoing connections, so that none of those can
    occupy it before the server that it is meant for is up.
    """
    for port in random.sample(range(20000, 30000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port among 200 between 20000 and 30000")
