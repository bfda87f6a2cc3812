"""What the tests of the host share: a gate that holds fake calls, and opens at the end of a test at the latest."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Put it into `FakeProvider.blocked`: the call hangs until the gate opens."""
    event = threading.Event()
    yield event
    event.set()
