"""Signals, however many there are and whenever they come."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from support.process import PATIENCE, Files

ROUNDS = 2
RELOADS = 300


def test_a_storm_of_reloads_does_not_deafen_a_process_to_the_signal_to_stop(directory: Path) -> None:
    """A handler that took a lock would find it held by the handler that it has interrupted, and wait for ever."""
    files = Files(directory)
    files.write()
    for _ in range(ROUNDS):
        with files.run() as process:
            process.until_ok()
            for number in range(RELOADS):
                process.signal(signal.SIGHUP)
                if number % 3 == 0:
                    time.sleep(0.0005)  # the faster they come, the more of them are merged by the kernel
            process.signal(signal.SIGTERM)
            assert process.wait(15) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_signal_to_stop_is_heard_as_soon_as_a_socket_answers(number: signal.Signals, directory: Path) -> None:
    """The main thread may still be busy with the start then."""
    files = Files(directory)
    files.write()
    with files.run() as process:
        process.client.status(timeout=PATIENCE)
        process.signal(number)
        assert process.wait(15) == 0
