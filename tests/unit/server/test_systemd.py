"""What the service manager is told, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead.server.systemd import Systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_each_state_is_told_as_sd_notify_spells_it(manager: socket.socket) -> None:
    systemd = Systemd(environment(manager, WATCHDOG_USEC="30000000"))
    systemd.ready()
    systemd.alive()
    systemd.stopping()
    assert [manager.recv(100).splitlines()[0] for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_signs_of_life_come_thrice_in_an_interval(manager: socket.socket) -> None:
    assert Systemd(environment(manager, WATCHDOG_USEC="30000000")).pause == 10.0
    assert Systemd(environment(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))).pause == 10.0


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}]
)
def test_nobody_waits_for_signs_of_life_unless_this_process_is_meant(
    manager: socket.socket, more: dict[str, str]
) -> None:
    systemd = Systemd(environment(manager, **more))
    assert systemd.pause is None
    systemd.alive()
    systemd.stopping()
    assert manager.recv(100).startswith(b"STOPPING=1")


def test_an_abstract_address_is_one_without_a_file() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0keystead-test-{os.getpid()}")
        receiver.settimeout(5)
        Systemd({"NOTIFY_SOCKET": f"@keystead-test-{os.getpid()}"}).ready()
        assert receiver.recv(100).startswith(b"READY=1")


@pytest.mark.parametrize("address", ["", "/nobody/is/there", "vsock:2:1", "relative"])
def test_nobody_to_tell_is_no_failure(address: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
    systemd.ready()
    systemd.alive()
    systemd.stopping()


def test_a_manager_that_does_not_listen_holds_up_nothing(manager: socket.socket) -> None:
    systemd = Systemd(environment(manager, WATCHDOG_USEC="30000000"))
    for _ in range(2000):  # more than the queue of a socket takes
        systemd.alive()
