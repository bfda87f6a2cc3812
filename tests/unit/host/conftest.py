"""What the tests of the host share: a gate that holds fake calls, what was logged, a key, and endpoints over it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from keystead.host import caller as caller_module
from keystead.host.target import Target
from support.endpoints import Lines, Start
from support.fakes import FakeProvider, Rig, rig_of


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Put it into `FakeProvider.blocked`: the call hangs until the gate opens, at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def logged() -> Iterator[Lines]:
    """The log lines of the test, in order; the key `event` names them."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a guard try nothing twice, so that an outage of an hour takes no minutes."""
    monkeypatch.setattr(caller_module, "RETRY_NEEDS", math.inf)


@pytest.fixture
def key() -> FakeProvider:
    return FakeProvider("k")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Endpoints over one state directory, one after the other or together."""
    rigs: list[Rig] = []

    def starting(target: Target, *, state: Path | None = tmp_path / "main", tend: bool = True) -> Rig:
        rig = rig_of(target, state)
        rigs.append(rig)
        if tend:
            rig.tend()
        return rig

    yield starting
    for rig in rigs:
        rig.endpoint.stop()
