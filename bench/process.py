"""Server processes on a core of their own, and what the kernel says about them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

SERVER_CORE, CLIENT_CORE = 0, 1
_TICK = os.sysconf("SC_CLK_TCK")
_POLL = 0.001


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Let child processes that are started inside run on one core only, if this machine has it."""
    before = os.sched_getaffinity(0)
    if core is not None and core in before and len(before) > 1:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu: float
    """Seconds."""
    switches: int
    """Context switches of all its threads."""

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu - earlier.cpu, self.switches - earlier.switches)


class Server:
    """A KMS server as a child process, with its output in a file beside its socket."""

    def __init__(
        self, name: str, command: Sequence[str], path: Path, *, core: int | None, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.path = path
        self.log = path.with_suffix(".log")
        with self.log.open("wb") as log, pinned(core):
            self.spawned = time.perf_counter()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
            )

    @property
    def address(self) -> str:
        """The socket as the load client takes it."""
        return f"unix://{self.path}"

    def wait_until_accepting(self, timeout: float = 30) -> float:
        """Return the seconds from the start of the process until its socket accepts a connection."""
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.path))
                except OSError:
                    self._check(timeout)
                else:
                    return time.perf_counter() - self.spawned
            time.sleep(_POLL)

    def wait_until_good(self, good: bytes, timeout: float = 30) -> float:
        """Return the seconds from the start until v2 Status answers with something that contains `good`."""
        self.wait_until_accepting(timeout)
        with grpc.insecure_channel(f"unix:{self.path}") as channel:
            status: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/v2.KeyManagementService/Status")
            while good not in status(b"", timeout=timeout, wait_for_ready=True):
                self._check(timeout)
                time.sleep(_POLL)
        return time.perf_counter() - self.spawned

    def usage(self) -> Usage:
        """CPU time and context switches up to now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        switches = 0
        for status in Path(f"/proc/{self.process.pid}/task").glob("*/status"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines = status.read_text().splitlines()
                switches += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
        return Usage((int(fields[11]) + int(fields[12])) / _TICK, switches)

    def resident(self) -> float:
        """MiB of memory in use."""
        return self._status("VmRSS") / 1024

    def threads(self) -> int:
        """Threads that exist now."""
        return self._status("Threads")

    def stop(self) -> None:
        """Send SIGTERM and wait; SIGKILL if that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _status(self, field: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def _check(self, timeout: float) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with code {self.process.returncode}: {self._tail()}")
        if time.perf_counter() - self.spawned > timeout:
            raise RuntimeError(f"{self.name} is not ready after {timeout:.0f} s: {self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]
