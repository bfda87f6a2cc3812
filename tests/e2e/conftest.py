"""What every scenario shares: the programs, a directory with logs, and steps that stop at the first failure.

A scenario is one file; its tests are steps that run in the order of the file and share module-scoped fixtures.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from .binaries import Binaries
from .binaries import binaries as binaries_of
from .processes import tail
from .report import write_summary

VERSIONS = os.environ.get("KEYSTEAD_E2E_VERSIONS", "v1.36.3").split()
"""The releases of Kubernetes that each scenario runs against, one after the other."""

REQUIRED = {"required": True, "cached": False}[os.environ.get("KEYSTEAD_E2E") or "cached"]
"""Whether missing programs fail a scenario. If not, it is left out."""

DIRECTORY = pytest.StashKey[Path]()
FAILED_STEPS = pytest.StashKey[dict[str, str]]()

Count = Callable[[str, object], None]


@pytest.fixture(scope="module", params=VERSIONS)
def binaries(request: pytest.FixtureRequest) -> Binaries:
    """The programs of one release. Where they are missing, the scenario is left out, and the summary says so.

    With KEYSTEAD_E2E=required that is a failure instead.
    """
    found = binaries_of(request.param)
    if found.missing:
        names = ", ".join(found.missing)
        reason = f"no {names} in {found.directory}; tests/e2e/build/build.sh {found.version} builds them"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def variant() -> str:
    """Which of its variants a scenario runs in. One that has several overrides this with parameters."""
    return ""


@pytest.fixture(scope="module")
def directory(
    request: pytest.FixtureRequest, binaries: Binaries, variant: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The scenario's directory. Its name is short, because sockets lie in it. What stays of it are files of text."""
    path = tmp_path_factory.mktemp("e2e")
    request.node.stash[DIRECTORY] = path
    yield path
    shutil.rmtree(path / "etcd", ignore_errors=True)


@pytest.fixture
def count(record_property: Count) -> Count:
    """Put a number into the summary, and into the captured output."""

    def count(what: str, number: object) -> None:
        record_property(what, number)
        print(f"{what}: {number}")

    return count


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out the steps after one that failed: they stand on what it should have done."""
    module = item.getparent(pytest.Module)
    failed = module.stash.get(FAILED_STEPS, {}).get(_release(item)) if module else None
    if failed:
        pytest.skip(f"step {failed} failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a step that failed, and show the end of every log beside its failure."""
    report = yield
    module = item.getparent(pytest.Module)
    if report.failed and module is not None:
        module.stash.setdefault(FAILED_STEPS, {})[_release(item)] = item.name
        directory = module.stash.get(DIRECTORY, None)
        for log in sorted(directory.glob("*.log")) if directory else []:
            report.sections.append((f"the end of {log}", tail(log)))
    return report


def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C, so that no apiserver outlives a cancelled job."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_summary(terminalreporter)


def _release(item: pytest.Item) -> str:
    """Return the release of Kubernetes that a step runs against, as in its name."""
    return item.name.partition("[")[2]
