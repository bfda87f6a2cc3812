"""The two HTTP servers of a process: where they are bound, and that neither stands in the way of anything."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from keystead.config import Configuration, load_text
from keystead.server.http import Page
from keystead.server.web import Web
from support.http import free_port, get
from support.serving import short_directory

PUBLIC = {"/livez": lambda _query: Page(200, "ok\n")}
PRIVATE = {"/status": lambda query: Page(200, f"{query}\n")}


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web(PUBLIC, PRIVATE)
    yield web
    web.close()


def configuration(directory: Path, address: str = "", **observability: object) -> Configuration:
    endpoint = {"name": "main", "socket": f"unix://{directory}/kms.sock", "epoch": 1}
    endpoint["members"] = [{"key": "lab", "stage": "active"}]
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "keys": [{"name": "lab", "provider": "local", "keyFile": "/etc/keystead/lab.key"}],
        "endpoints": [endpoint],
        "observability": {"http": {"address": address}, **observability},
    }
    return load_text(json.dumps(document), "test")


def test_the_admin_socket_is_beside_the_endpoint_and_open_to_its_owner_alone(directory: Path, web: Web) -> None:
    previous = os.umask(0)
    try:
        web.serve(configuration(directory))
    finally:
        os.umask(previous)
    path = directory / "admin.sock"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert get(path, "/status?a=b") == (200, "a=b\n")
    assert get(path, "/livez") == (404, "there is /status\n")
    web.close()
    assert not path.exists()


def test_it_can_be_elsewhere_or_nowhere(directory: Path, web: Web) -> None:
    web.serve(configuration(directory, admin=f"unix://{directory}/other.sock"))
    assert get(directory / "other.sock", "/status") == (200, "\n")
    web.serve(configuration(directory, admin=""))
    assert list(directory.iterdir()) == []


def test_what_stands_in_its_way_is_left_alone_said_once_and_tried_again(directory: Path, web: Web) -> None:
    path = directory / "admin.sock"
    path.write_text("precious")
    with capture_logs() as lines:
        web.serve(configuration(directory))
        web.retry()
        assert path.read_text() == "precious"
        path.unlink()
        web.retry()
    assert [line["event"] for line in lines] == ["http.not_bound", "http.bound"]
    assert "exists and is not a socket" in lines[0]["error"]
    assert get(path, "/status") == (200, "\n")


def test_the_admin_socket_of_another_process_is_taken_over_only_if_asked_for(directory: Path, web: Web) -> None:
    web.serve(configuration(directory))
    with capture_logs() as lines:
        second = Web(PUBLIC, {"/status": lambda _query: Page(200, "second\n")})
        second.serve(configuration(directory))
        second.close()
    assert "another process listens" in lines[0]["error"]
    assert get(directory / "admin.sock", "/status") == (200, "\n")
    third = Web(PUBLIC, {"/status": lambda _query: Page(200, "third\n")}, take_over=True)
    third.serve(configuration(directory))
    web.close()
    assert get(directory / "admin.sock", "/status") == (200, "third\n")
    third.close()


def test_a_port_that_is_taken_is_said_once_and_used_when_it_is_free(directory: Path, web: Web) -> None:
    with capture_logs() as lines:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            web.serve(configuration(directory, f"127.0.0.1:{port}"))
            web.retry()
        web.retry()
    assert [line["event"] for line in lines] == ["http.not_bound", "http.bound"]
    assert get(port, "/livez") == (200, "ok\n")


def test_a_reload_moves_what_it_changes_and_leaves_the_rest_bound(directory: Path, web: Web) -> None:
    first, second = free_port(), free_port()
    web.serve(configuration(directory, f"127.0.0.1:{first}"))
    inode = (directory / "admin.sock").stat().st_ino
    web.serve(configuration(directory, f"127.0.0.1:{second}"))
    assert (directory / "admin.sock").stat().st_ino == inode
    assert get(second, "/livez") == (200, "ok\n")
    with pytest.raises(ConnectionRefusedError):
        get(first, "/livez")


def test_without_addresses_nothing_is_bound(directory: Path, web: Web) -> None:
    with capture_logs() as lines:
        web.serve(configuration(directory, admin=""))
    assert lines == []
    assert list(directory.iterdir()) == []


def test_a_caller_that_hangs_up_prints_nothing(directory: Path, web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    web.serve(configuration(directory))
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(directory / "admin.sock"))
            caller.sendall(b"GET /status HT")
    assert get(directory / "admin.sock", "/status") == (200, "\n")
    assert "Traceback" not in "".join(capfd.readouterr())
