"""What the tests of the host share: a gate that holds fake calls, and what was logged."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Put it into `FakeProvider.blocked`: the call hangs until the gate opens, at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """The log lines of the test, in order; the key `event` names them."""
    with capture_logs() as lines:
        yield lines
