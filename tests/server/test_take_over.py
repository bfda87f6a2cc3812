"""A socket's file over the life of the processes that serve it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from support.process import Files, Process
from support.serving import Client


class Watcher(threading.Thread):
    """Looks at every entry of a directory as fast as it can, and notes who could have connected, and where."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._enough = threading.Event()
        self.seen: set[tuple[str, int, int]] = set()
        """Where a socket stood, its mode and group."""
        self.looks = 0

    def run(self) -> None:
        while not self._enough.is_set():
            self.looks += 1
            for entry in os.scandir(self._directory):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISSOCK(status.st_mode):
                        where = "public" if entry.name == "kms.sock" else "temporary"
                        self.seen.add((where, stat.S_IMODE(status.st_mode), status.st_gid))

    def stop(self) -> None:
        self._enough.set()
        self.join()


def key_id_at(path: Path) -> str:
    """What a new connection hears."""
    client = Client(f"unix:{path}")
    try:
        return client.status().key_id
    finally:
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_a_socket_never_has_more_than_its_mode_and_group_at_its_path(directory: Path) -> None:
    files = Files(directory)
    files.write(files.document(socketMode="0660", socketGroup=54321))
    watcher = Watcher(directory)
    watcher.start()
    try:
        # umask 0 would show a moment in which the mode is not set yet.
        previous = os.umask(0)
        with files.run() as process:
            os.umask(previous)
            process.until_ok()
    finally:
        watcher.stop()
    assert {(mode, group) for where, mode, group in watcher.seen if where == "public"} == {(0o660, 54321)}
    # Under its temporary name the group appears first, and the mode for it last.
    for where, mode, group in watcher.seen:
        if where == "temporary":
            assert not mode & 0o007
            assert group == 54321 or not mode & 0o070
    assert watcher.looks > 50


def test_a_live_socket_is_not_taken_without_being_asked(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as first:
        key_id = first.until_ok()
        with files.run(log="second") as second:
            assert second.wait() == 1
            assert "--take-over" in second.log
        assert first.client.status().key_id == key_id == key_id_at(files.socket)


def raised(files: Files, epoch: int) -> None:
    """Write another file with another epoch, so that answers tell which process gave them.

    The process that runs watches the old file.
    """
    files.config_name = "raised.yaml"
    files.write(files.document(epoch=epoch))


def test_a_take_over_keeps_old_connections_and_leaves_the_path_to_the_new_process(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as old:
        old_id = old.until_ok()
        sealed = old.client.seal(b"seed")
        raised(files, 2)
        with files.run("--take-over", log="new") as new:
            new.until_event("endpoint.listening")
            new_id = new.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
            # The connection that was open stays with the old process; a new one reaches the new.
            assert old.client.status().key_id == old_id
            assert old.client.decrypt(sealed) == b"seed"
            assert key_id_at(files.socket) == new_id
            assert new.client.decrypt(sealed) == b"seed"
            assert old.stop() == 0
            assert files.socket.is_socket()
            assert key_id_at(files.socket) == new_id
            assert new.client.decrypt(sealed) == b"seed"
            assert new.stop() == 0
            assert list(directory.glob("*.sock")) == []


def test_there_is_no_moment_without_a_listener_during_a_take_over(directory: Path) -> None:
    files = Files(directory)
    files.write()
    failures: list[str] = []
    connects = 0
    enough = threading.Event()

    def connect() -> None:
        nonlocal connects
        while not enough.is_set():
            with socket.socket(socket.AF_UNIX) as caller:
                try:
                    caller.connect(str(files.socket))
                    connects += 1
                except OSError as exc:
                    failures.append(str(exc))
            time.sleep(0.001)

    with files.run() as old:
        old.until_ok()
        caller = threading.Thread(target=connect)
        caller.start()
        try:
            with files.run("--take-over", log="new") as new:
                listening: Process = new
                listening.until_event("endpoint.listening")
                assert old.stop() == 0
                listening.until_ok()
                enough.set()
                caller.join()
        finally:
            enough.set()
    assert failures == []
    assert connects > 50


@pytest.mark.parametrize("what", ["file", "link"])
def test_something_else_at_the_path_is_refused_even_with_take_over(directory: Path, what: str) -> None:
    files = Files(directory)
    files.write()
    if what == "file":
        files.socket.write_text("precious")
    else:
        files.socket.symlink_to(directory / "elsewhere")
    with files.run("--take-over") as process:
        assert process.wait() == 1
        assert "remove it" in process.log
    assert files.socket.is_symlink() or files.socket.read_text() == "precious"


def test_a_directory_that_all_may_write_to_is_refused(directory: Path) -> None:
    files = Files(directory)
    (directory / "open").mkdir(mode=0o777)
    (directory / "open").chmod(0o777)
    files.write(files.document(socket=f"unix://{directory}/open/s"))
    with files.run() as process:
        assert process.wait() == 1
        assert f"chmod o-w {directory}/open" in process.log


def test_a_sticky_directory_is_served_with_a_warning(directory: Path) -> None:
    files = Files(directory)
    files.write()
    directory.chmod(0o1777)
    with files.run() as process:
        process.until_ok()
        assert "a directory of its own is safer" in process.events("socket.exposed")[0]["msg"]
