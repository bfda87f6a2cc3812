"""The part of the kit that pytest loads wherever Keystead is installed: small, and silent unless a suite runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from keystead.testing.proxy import FaultProxy
    from keystead.testing.report import Run

_RUNS: pytest.StashKey[dict[str, Run]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("keystead").addoption(
        "--keystead-report", metavar="FILE", help="Write what the conformance suites found to FILE, as JSON."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RUNS] = {}
    config.pluginmanager.register(_Gatherer(config), "keystead-gatherer")


@pytest.fixture
def fault_proxy() -> Iterator[FaultProxy]:
    """A proxy between the provider and its remote: `fault_proxy.to("127.0.0.1:8200")`, then use its address."""
    from keystead.testing.proxy import FaultProxy

    proxy = FaultProxy()
    yield proxy
    proxy.close()


class _Gatherer:
    """Reads reports where they arrive, which with pytest-xdist is another process than where tests run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and any(name == "keystead.rule" for name, _ in report.user_properties):
            from keystead.testing.report import gather

            gather(self._config.stash[_RUNS], report.nodeid, report.user_properties)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    runs = session.config.stash[_RUNS]
    if runs and session.exitstatus == pytest.ExitCode.OK:
        from keystead.testing.report import claims_not_shown

        # A claim that whole runs did not show is a failure, even if each missing rule was only skipped.
        if claims_not_shown(runs.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if file := session.config.getoption("--keystead-report"):
        Path(file).write_text(json.dumps([run.as_json() for run in runs.values()], indent=2) + "\n")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    runs = config.stash[_RUNS]
    if not runs:
        return
    terminalreporter.section("keystead conformance")
    for run in runs.values():
        for line in run.lines():
            terminalreporter.write_line(line)
