"""Where a socket may be put, what stands in its way, and who removes it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead.server import sockets
from keystead.server.sockets import MAX_ADDRESS, SocketRefused, check_parent, check_path, place, temporary_name


@contextlib.contextmanager
def listening(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(path))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        yield listener


def leave_stale_socket(path: Path) -> None:
    """What a process that was killed leaves behind."""
    with listening(path):
        pass


def put(path: Path, *, mode: int = 0o600, group: int | None = None) -> sockets.Placed:
    """Bind and place a socket that nobody accepts on."""
    with temporary_name(path) as temporary, listening(temporary):
        return place(temporary, path, mode, group)


def test_a_directory_of_its_own_is_fine_without_a_warning(directory: Path) -> None:
    assert check_parent(directory / "s") is None


def test_a_missing_directory_is_refused_with_what_to_do(directory: Path) -> None:
    with pytest.raises(SocketRefused, match=r"does not exist; create it.*DirectoryOrCreate"):
        check_parent(directory / "missing/s")


def test_a_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(SocketRefused, match="is not a directory"):
        check_parent(directory / "file/s")


def test_a_directory_where_anybody_may_replace_the_socket_is_refused(directory: Path) -> None:
    directory.chmod(0o777)
    with pytest.raises(SocketRefused, match=f"chmod o-w {directory}"):
        check_parent(directory / "s")


def test_a_sticky_directory_gives_a_warning(directory: Path) -> None:
    directory.chmod(0o1777)
    warning = check_parent(directory / "s")
    assert warning is not None
    assert "a directory of its own is safer" in warning


def test_nothing_and_a_stale_socket_are_in_nobodys_way(directory: Path) -> None:
    path = directory / "s"
    check_path(path, take_over=False)
    leave_stale_socket(path)
    check_path(path, take_over=False)


def test_a_live_socket_is_left_alone_unless_it_is_to_be_taken_over(directory: Path) -> None:
    path = directory / "s"
    with listening(path):
        with pytest.raises(SocketRefused, match="--take-over"):
            check_path(path, take_over=False)
        check_path(path, take_over=True)


def test_a_listener_that_does_not_accept_passes_for_live(directory: Path) -> None:
    path = directory / "s"
    with listening(path) as listener:
        listener.listen(0)
        with contextlib.ExitStack() as callers:
            for _ in range(4):
                caller = callers.enter_context(socket.socket(socket.AF_UNIX))
                caller.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    caller.connect(str(path))
            assert sockets.is_live(path)


def test_a_socket_of_another_kind_passes_for_live(directory: Path) -> None:
    with listening(directory / "s", socket.SOCK_DGRAM):
        assert sockets.is_live(directory / "s")


@pytest.mark.parametrize("take_over", [False, True])
def test_a_regular_file_is_never_replaced(directory: Path, take_over: bool) -> None:
    (directory / "s").write_text("precious")
    with pytest.raises(SocketRefused, match="is not a socket"):
        check_path(directory / "s", take_over=take_over)


@pytest.mark.parametrize("take_over", [False, True])
@pytest.mark.parametrize("target", ["live", "missing"])
def test_a_symbolic_link_is_never_followed(directory: Path, target: str, take_over: bool) -> None:
    (directory / "s").symlink_to(directory / target)
    with listening(directory / "live"), pytest.raises(SocketRefused, match="is a symbolic link"):
        check_path(directory / "s", take_over=take_over)


def test_a_directory_that_is_too_deep_for_the_temporary_name_is_refused(directory: Path) -> None:
    deep = directory / ("d" * (MAX_ADDRESS - len(str(directory)) - 3))
    path = deep / "s"
    assert len(os.fsencode(path)) == MAX_ADDRESS
    with pytest.raises(SocketRefused, match="97 bytes at most"), temporary_name(path):
        pass


def test_the_longest_directory_that_is_allowed_works(directory: Path) -> None:
    deep = directory / ("d" * (MAX_ADDRESS - 10 - len(str(directory)) - 1))
    deep.mkdir()
    assert len(os.fsencode(deep)) == MAX_ADDRESS - 10
    put(deep / "s")
    assert (deep / "s").is_socket()


def test_a_placed_socket_has_its_mode_and_group(directory: Path) -> None:
    put(directory / "s", mode=0o660, group=os.getegid())
    status = (directory / "s").lstat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_gid == os.getegid()


def test_mode_and_group_are_final_before_the_socket_is_at_its_path(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    rename = Path.rename

    def look_and_rename(self: Path, target: Path) -> Path:
        status = self.lstat()
        seen.append((stat.S_IMODE(status.st_mode), status.st_gid))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", look_and_rename)
    group = 54321 if os.geteuid() == 0 else os.getegid()
    put(directory / "s", mode=0o660, group=group)
    assert seen == [(0o660, group)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_a_placed_socket_can_belong_to_any_group(directory: Path) -> None:
    put(directory / "s", mode=0o660, group=54321)
    assert (directory / "s").lstat().st_gid == 54321


def test_until_it_is_placed_a_socket_is_open_to_nobody_else(directory: Path) -> None:
    previous = os.umask(0)
    try:
        with temporary_name(directory / "s") as temporary, listening(temporary):
            assert stat.S_IMODE(temporary.lstat().st_mode) & 0o077 == 0
            assert list(directory.iterdir()) == [temporary]
            place(temporary, directory / "s", 0o660, None)
        assert list(directory.iterdir()) == [directory / "s"]
        assert os.umask(0) == 0
    finally:
        os.umask(previous)


def test_other_threads_can_still_make_directories_that_they_may_enter(directory: Path) -> None:
    # The umask belongs to the whole process, and a reload binds while endpoints make their state directories.
    with temporary_name(directory / "s"):
        thread = threading.Thread(target=lambda: (directory / "state").mkdir(mode=0o700))
        thread.start()
        thread.join()
    assert stat.S_IMODE((directory / "state").stat().st_mode) == 0o700


def test_a_name_that_was_not_placed_is_removed(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_name(directory / "s") as temporary, listening(temporary):
        raise ZeroDivisionError
    assert list(directory.iterdir()) == []


def test_a_group_that_may_not_be_given_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_permitted(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", not_permitted)
    with pytest.raises(SocketRefused, match=r"cannot put the socket at .*/s: Operation not permitted"):
        put(directory / "s", group=0)
    assert list(directory.iterdir()) == []


def test_remove_takes_away_our_own_socket_only(directory: Path) -> None:
    path = directory / "s"
    with temporary_name(path) as temporary, listening(temporary):
        first = place(temporary, path, 0o600, None)
        second = put(path)
        first.remove()
        assert path.is_socket()
        second.remove()
        assert not path.exists()
        second.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_who_may_connect_can_be_changed_in_place_and_back(directory: Path) -> None:
    placed = put(directory / "s")
    undo = placed.permit(0o660, 54321)
    status = (directory / "s").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, 54321)
    undo()
    status = (directory / "s").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o600, os.getegid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_no_group_gets_in_while_another_is_given(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = put(directory / "s", mode=0o660, group=54321)
    seen: list[int] = []
    chown = os.chown

    def look_and_change(path: Path, user: int, group: int) -> None:
        seen.append(stat.S_IMODE(path.lstat().st_mode))
        chown(path, user, group)

    monkeypatch.setattr(os, "chown", look_and_change)
    placed.permit(0o660, 54322)
    assert seen == [0o600]
    assert (directory / "s").lstat().st_gid == 54322


def test_a_change_that_is_not_permitted_leaves_all_as_it_was(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_permitted(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    placed = put(directory / "s", mode=0o660)
    monkeypatch.setattr(os, "chown", not_permitted)
    with pytest.raises(SocketRefused, match=r"cannot change who may connect to .*/s: Operation not permitted"):
        placed.permit(0o600, 54321)
    assert stat.S_IMODE((directory / "s").lstat().st_mode) == 0o660


def test_the_socket_of_another_process_is_not_touched(directory: Path) -> None:
    placed = put(directory / "s")
    put(directory / "s")
    with pytest.raises(SocketRefused, match="another process's socket by now"):
        placed.permit(0o660, None)
    (directory / "s").unlink()
    with pytest.raises(SocketRefused, match="cannot look at"):
        placed.permit(0o660, None)
