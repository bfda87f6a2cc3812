"""Results as tables to read and as JSON to keep."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import cold, hot, rest

GOAL = 0.85
"""Of the throughput of the echo server: what Keystead must reach with everything on."""


def machine() -> dict[str, object]:
    """What the results were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "load average at start": os.getloadavg()[0],
    }


def hot_table(contests: Iterable[hot.Contest]) -> str:
    """The main result: each server against the echo server of raw bytes with the same listener."""
    rows = [
        (
            "call",
            "callers",
            "server",
            "ratio",
            "of rounds",
            "calls/s",
            "p50 us",
            "p99 us",
            "CPU us",
            "ratio",
            "switches",
        )
    ]
    for contest in contests:
        for name in contest.rounds:
            base = hot.ECHO_STANDARD if name.endswith("-standard") else hot.ECHO
            low, high = contest.spread(name, base, _rate)
            rows.append(
                (
                    contest.operation,
                    str(contest.callers),
                    name,
                    f"{contest.ratio(name, base, _rate):.2f}",
                    f"{low:.2f}-{high:.2f}",
                    f"{contest.middle(name, _rate):.0f}",
                    f"{contest.middle(name, lambda one: one.p50):.0f}",
                    f"{contest.middle(name, lambda one: one.p99):.0f}",
                    f"{contest.middle(name, _cpu):.0f}",
                    f"{contest.ratio(name, base, _cpu):.2f}",
                    f"{contest.middle(name, lambda one: one.switches):.1f}",
                )
            )
    return aligned(rows)


def verdicts(contests: Iterable[hot.Contest]) -> list[str]:
    """One line for each number of Decrypt callers: whether the goal is reached."""
    lines = []
    for contest in contests:
        if contest.operation == "decrypt":
            ratio = contest.ratio(hot.KEYSTEAD, hot.ECHO, _rate)
            lines.append(
                f"{'reached' if ratio >= GOAL else 'MISSED'}: {ratio:.2f} of the echo server's throughput "
                f"with {contest.callers} callers; the goal is {GOAL}"
            )
    return lines


def listener_gain(contests: Iterable[hot.Contest]) -> str:
    """What the choice of grpcio's listener brings Keystead."""
    rows = [("callers", "throughput", "CPU per call")]
    for contest in contests:
        if hot.KEYSTEAD_STANDARD in contest.rounds:
            pair = (hot.KEYSTEAD, hot.KEYSTEAD_STANDARD)
            rows.append(
                (str(contest.callers), f"x {contest.ratio(*pair, _rate):.2f}", f"x {contest.ratio(*pair, _cpu):.2f}")
            )
    return aligned(rows)


def start_table(start: rest.Start) -> str:
    """Start-up times, and their ratio to a bare interpreter's."""
    rows = [("start", "ms", "ratio")]
    for name, seconds in (
        ("python -c pass", start.interpreter),
        ("keystead accepts a connection", start.accepting),
        ("first good Status, KEK from the last run", start.good),
        ("first good Status, new KEK", start.first),
        *((f"accepts, {kind} away", seconds) for kind, seconds in start.remotes.items()),
    ):
        rows.append((name, f"{seconds * 1000:.0f}", f"{seconds / start.interpreter:.1f}"))
    return aligned(rows)


def idle_table(idle: dict[str, rest.Idle]) -> str:
    """Idle cost."""
    rows = [("idle", "RSS MiB", "CPU ms/s", "switches/s", "threads")]
    rows += [
        (name, f"{one.resident:.0f}", f"{one.cpu:.1f}", f"{one.switches:.0f}", str(one.threads))
        for name, one in idle.items()
    ]
    return aligned(rows)


def cold_lines(result: cold.Cold) -> str:
    """The flood, in words."""
    refused = ", ".join(f"{count} {name}" for name, count in result.errors.items()) or "none"
    return (
        f"{cold.CALLERS} Decrypts at once of {cold.RECORDS} cold records, remote delay {cold.DELAY:g} s: "
        f"{result.answered} right, refused {refused}, {result.unwraps} unwraps, "
        f"p50 {result.p50:.0f} ms, longest {result.longest:.0f} ms\n"
        f"Status during it: {result.status_failed} failed, p99 {result.status_p99:.1f} ms, "
        f"longest {result.status_longest:.1f} ms; RSS afterwards {result.resident:.0f} MiB"
    )


def _rate(one: hot.Round) -> float:
    return one.rate


def _cpu(one: hot.Round) -> float:
    return one.cpu


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(len(line) for line in lines), *lines[1:]])
