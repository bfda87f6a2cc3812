"""A real process tells its service manager that it serves, and that it lives, whatever its remote does."""

from __future__ import annotations

import socket
from pathlib import Path

from support.process import Files

ROUNDS = 3


def test_a_process_is_ready_and_alive_while_its_remote_hangs_and_says_when_it_ends(directory: Path) -> None:
    files = Files(directory, provider="fake")
    files.write()
    files.pace(open=60.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(30)
        told = {"NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "600000"}
        with files.run(environment=told) as process:
            assert manager.recv(200).startswith(b"READY=1")
            assert process.client.status(timeout=10).healthz != "ok"
            assert [manager.recv(200) for _ in range(ROUNDS)] == [b"WATCHDOG=1"] * ROUNDS
            assert process.stop() == 0
            while (said := manager.recv(200)) == b"WATCHDOG=1":
                pass
            assert said.startswith(b"STOPPING=1")
