"""A flood of Decrypts that all need a slow remote KMS, and what it does to the calls beside it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bench import client, servers
from bench.process import SERVER_CORE, Server

RECORDS = 8
CALLERS = 400
DELAY = 1.0
_STATUS_RATE, _STATUS_SECONDS = 50, 3


@dataclass(frozen=True, slots=True)
class Cold:
    """One flood."""

    answered: int
    errors: dict[str, int]
    unwraps: int
    """How often the remote was asked; one per record is the least."""
    p50: float
    """Milliseconds of a Decrypt that waited."""
    longest: float
    status_failed: int
    status_p99: float
    """Milliseconds of Status, asked at a steady rate during the flood."""
    status_longest: float
    resident: float
    """MiB afterwards."""


def flood(directory: Path) -> Cold:
    """Let `CALLERS` ask at once for seeds under `RECORDS` local KEKs that are not in memory."""
    items, path = directory / "cold.items", directory / "cold.sock"
    arguments = [str(path), str(items), str(RECORDS), str(DELAY)]
    server = Server("cold", [sys.executable, "-m", "bench.slow", *arguments], path, core=SERVER_CORE, environment={})
    try:
        server.wait_until_good(servers.GOOD_STATUS)
        prober = client.start(
            server.address, *("-op", "status", "-rate", str(_STATUS_RATE), "-duration", f"{_STATUS_SECONDS}s"),
            *("-load", str(items)),
        )  # fmt: skip
        report = client.run(
            server.address, *("-load", str(items), "-callers", str(CALLERS), "-calls", str(CALLERS)),
            *("-duration", "20s"),
        )  # fmt: skip
        status = client.result(prober)
        resident = server.resident()
    finally:
        server.stop()
    last_line = server.log.read_text().strip().splitlines()[-1]
    return Cold(
        answered=report["ok"],
        errors=report["errors"],
        unwraps=json.loads(last_line)["unwraps"],
        p50=report["microseconds"]["p50"] / 1000,
        longest=report["microseconds"]["max"] / 1000,
        status_failed=status["calls"] - status["ok"],
        status_p99=status["microseconds"]["p99"] / 1000,
        status_longest=status["microseconds"]["max"] / 1000,
        resident=resident,
    )
