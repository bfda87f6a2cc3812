"""Calls that need no remote KMS: Keystead against echo servers, round by round in one run.

Servers take turns inside each round, and every other round in the opposite order, so that what else happens on the
machine meets all of them alike. A ratio is the median of the ratios inside the rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import client, servers
from bench.process import Server

ECHO, KEYSTEAD, PROTOBUF = "echo", "keystead", "echo-protobuf"
ECHO_STANDARD, KEYSTEAD_STANDARD = "echo-standard", "keystead-standard"
_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Round:
    """One server's part of one round."""

    rate: float
    p50: float
    p99: float
    cpu: float
    """Microseconds of the server's CPU time per call."""
    switches: float
    """Context switches of the server per call."""


@dataclass(slots=True)
class Contest:
    """All rounds of one operation with one number of callers."""

    operation: str
    callers: int
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    def middle(self, server: str, what: Callable[[Round], float]) -> float:
        """The median of something over the rounds."""
        return median(what(one) for one in self.rounds[server])

    def ratio(self, server: str, base: str, what: Callable[[Round], float]) -> float:
        """The median of a server's ratio to another one inside the rounds."""
        return median(self._ratios(server, base, what))

    def spread(self, server: str, base: str, what: Callable[[Round], float]) -> tuple[float, float]:
        """The smallest and the largest of these ratios."""
        ratios = self._ratios(server, base, what)
        return min(ratios), max(ratios)

    def _ratios(self, server: str, base: str, what: Callable[[Round], float]) -> list[float]:
        pairs = zip(self.rounds[server], self.rounds[base], strict=True)
        return [what(one) / what(other) for one, other in pairs]


def measure(directory: Path, rounds: int, seconds: float, say: Callable[[str], None]) -> list[Contest]:
    """Run everything; `say` is told what is being done."""
    started = {
        ECHO: servers.echo(directory, ECHO),
        KEYSTEAD: servers.keystead(directory, KEYSTEAD),
        PROTOBUF: servers.echo(directory, PROTOBUF, protobuf=True),
        ECHO_STANDARD: servers.echo(directory, ECHO_STANDARD, environment=servers.STANDARD_LISTENER),
        KEYSTEAD_STANDARD: servers.keystead(directory, KEYSTEAD_STANDARD, environment=servers.STANDARD_LISTENER),
    }
    try:
        for name in (KEYSTEAD, KEYSTEAD_STANDARD):
            started[name].wait_until_good(servers.GOOD_STATUS)
            made = ("-save", str(_items(directory, name)), "-seeds", str(_ITEMS), "-calls", str(_ITEMS))
            client.run(started[name].address, *made)
        for name in (ECHO, PROTOBUF, ECHO_STANDARD):
            started[name].wait_until_accepting()
        plan = [("decrypt", callers, list(started)) for callers in (1, 16, 64)]
        plan += [(operation, 16, [ECHO, KEYSTEAD, PROTOBUF]) for operation in ("encrypt", "status")]
        contests = []
        for operation, callers, names in plan:
            say(
                f"{operation} with {callers} callers: {rounds} rounds of {seconds:g} s for each of {len(names)} servers"
            )
            contest = Contest(operation, callers, {name: [] for name in names})
            for number in range(rounds):
                for name in names if number % 2 == 0 else reversed(names):
                    one = _round(directory, started[name], operation, callers, seconds)
                    contest.rounds[name].append(one)
            contests.append(contest)
        return contests
    finally:
        for server in started.values():
            server.stop()


def _round(directory: Path, server: Server, operation: str, callers: int, seconds: float) -> Round:
    echoes = server.name in (ECHO, PROTOBUF, ECHO_STANDARD)
    items = _items(directory, KEYSTEAD if echoes else server.name)
    before = server.usage()
    report: dict[str, Any] = client.run(
        server.address,
        *("-op", operation, "-callers", str(callers), "-duration", f"{seconds}s"),
        *("-load", str(items), "-sample", "50", *(["-echo"] if echoes else [])),
    )
    used = server.usage() - before
    if report["errors"]:
        raise RuntimeError(f"{server.name} failed calls: {report['errors']} {report['examples']}")
    calls = report["calls"] + report["checkedAfterwards"]
    return Round(
        rate=report["rate"],
        p50=report["microseconds"]["p50"],
        p99=report["microseconds"]["p99"],
        cpu=used.cpu * 1e6 / calls,
        switches=used.switches / calls,
    )


def _items(directory: Path, name: str) -> Path:
    return directory / f"{name}.items"
