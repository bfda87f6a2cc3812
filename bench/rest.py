"""What a plugin costs when nothing happens: the time to its first good Status, and its idle CPU time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import servers
from bench.process import Server


@dataclass(frozen=True, slots=True)
class Start:
    """Medians of seconds from the start of a process."""

    interpreter: float
    """`python -c pass`, to its end."""
    first: float
    """Keystead with an empty state directory, to the first good Status."""
    accepting: float
    """Keystead with the record of its last run, until it accepts a connection."""
    good: float
    """The same, to the first good Status."""
    remotes: dict[str, float]
    """Until it accepts a connection, with keys of these providers instead, whose remotes do not answer."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A server that nobody calls."""

    cpu: float
    """Milliseconds of CPU time per second."""
    switches: float
    """Context switches per second."""
    resident: float
    """MiB."""
    threads: int


_REMOTES = [*((name,) for name in servers.AWAY), tuple(servers.AWAY)]


def start(directory: Path, rounds: int) -> Start:
    """Start Keystead again and again, each time beside a bare interpreter."""
    bare, first, accepting, good = [], [], [], []
    remotes: dict[str, list[float]] = {" + ".join(names): [] for names in _REMOTES}
    for number in range(rounds):
        bare.append(_bare())
        name = f"start-{number}"
        first.append(_until_good(servers.keystead(directory, name, core=None))[1])
        again = _until_good(servers.keystead(directory, name, core=None))
        accepting.append(again[0])
        good.append(again[1])
        for kind, names in zip(remotes, _REMOTES, strict=True):
            server = servers.keystead(directory, f"away-{number}", core=None, away=names)
            try:
                remotes[kind].append(server.wait_until_accepting())
            finally:
                server.stop()
    middle = {kind: median(seconds) for kind, seconds in remotes.items()}
    return Start(median(bare), median(first), median(accepting), median(good), middle)


def idle(directory: Path, seconds: float) -> dict[str, Idle]:
    """Watch Keystead and the echo server side by side while nobody calls them."""
    started = {
        "keystead": servers.keystead(directory, "idle", core=None),
        "echo": servers.echo(directory, "idle-echo", core=None),
    }
    try:
        started["keystead"].wait_until_good(servers.GOOD_STATUS)
        started["echo"].wait_until_good(servers.GOOD_STATUS)
        before = {name: server.usage() for name, server in started.items()}
        time.sleep(seconds)
        used = {name: server.usage() - before[name] for name, server in started.items()}
        return {
            name: Idle(
                used[name].cpu * 1000 / seconds, used[name].switches / seconds, server.resident(), server.threads()
            )
            for name, server in started.items()
        }
    finally:
        for server in started.values():
            server.stop()


def _bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def _until_good(server: Server) -> tuple[float, float]:
    try:
        return server.wait_until_accepting(), server.wait_until_good(servers.GOOD_STATUS)
    finally:
        server.stop()
