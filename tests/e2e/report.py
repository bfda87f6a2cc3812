"""The table at the end of a run: what each scenario did, how long it took, and which scenarios did not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

import pytest

FOLDER = "tests/e2e/"


@dataclass
class Step:
    """One test function of a scenario."""

    outcome: str = "not run"
    seconds: float = 0
    counts: dict[str, object] = field(default_factory=dict)
    reason: str = ""


Steps = dict[str, Step]


def write_summary(terminal: pytest.TerminalReporter) -> None:
    """Print the table; nothing if no end-to-end test was collected."""
    scenarios = _scenarios(terminal)
    left_out = _left_out(scenarios, terminal)
    deselected = _deselected(terminal)
    if not scenarios and not left_out:
        return
    terminal.section("end-to-end scenarios")
    for name, steps in scenarios.items():
        if name in left_out:
            continue
        passed = sum(step.outcome == "passed" for step in steps.values())
        seconds = sum(step.seconds for step in steps.values())
        more = f", {deselected[name]} deselected" if deselected[name] else ""
        terminal.line(f"{seconds:7.1f} s  {name}: {passed} of {len(steps)} steps passed{more}", bold=True)
        for title, step in steps.items():
            counts = ", ".join(f"{what} {count}" for what, count in step.counts.items())
            mark = "" if step.outcome == "passed" else f"{step.outcome.upper()}  "
            terminal.line(f"{step.seconds:7.1f} s    {mark}{title}{': ' if counts else ''}{counts}")
    terminal.line(f"{len(scenarios.keys() - left_out.keys())} scenarios ran, {len(left_out)} left out", bold=True)
    for name, reason in left_out.items():
        terminal.line(f"LEFT OUT  {name}: {reason}", yellow=True)


def _scenarios(terminal: pytest.TerminalReporter) -> dict[str, Steps]:
    scenarios: dict[str, Steps] = {}
    for report in _reports(terminal):
        scenario, title = _names(report.nodeid)
        step = scenarios.setdefault(scenario, {}).setdefault(title, Step())
        step.seconds += report.duration
        step.counts.update(report.user_properties)
        if report.when == "call" or report.outcome != "passed":
            step.outcome = report.outcome
        if report.skipped and isinstance(report.longrepr, tuple):
            step.reason = report.longrepr[2].removeprefix("Skipped: ")
    return scenarios


def _reports(terminal: pytest.TerminalReporter) -> Iterable[pytest.TestReport]:
    reports = (report for group in terminal.stats.values() for report in group)
    ours = [r for r in reports if isinstance(r, pytest.TestReport) and r.nodeid.startswith(FOLDER)]
    return sorted(ours, key=lambda report: report.start)


def _left_out(scenarios: dict[str, Steps], terminal: pytest.TerminalReporter) -> dict[str, str]:
    """Name the scenarios of which no step ran, with the reason."""
    left_out = {}
    for name, steps in scenarios.items():
        if all(step.outcome == "skipped" for step in steps.values()):
            left_out[name] = next(iter(steps.values())).reason
    deselected = _deselected(terminal).keys() - scenarios.keys()
    return left_out | dict.fromkeys(sorted(deselected), "deselected on the command line")


def _deselected(terminal: pytest.TerminalReporter) -> Counter[str]:
    """Count the steps of each scenario that the command line deselected."""
    items = terminal.stats.get("deselected", [])
    return Counter(_names(item.nodeid)[0] for item in items if item.nodeid.startswith(FOLDER))


def _names(nodeid: str) -> tuple[str, str]:
    """Turn `tests/e2e/test_01_x_y.py::test_a_b[v1]` into `01 x y, v1` and `a b`."""
    file, _, function = nodeid.partition("::")
    function, _, version = function.rstrip("]").partition("[")
    scenario = PurePath(file).stem.removeprefix("test_").replace("_", " ")
    return f"{scenario}, {version}" if version else scenario, function.removeprefix("test_").replace("_", " ")
