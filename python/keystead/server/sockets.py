"""Puts a listening unix socket at its path: with its mode and owner before anybody can connect, and never over
something that is not ours to replace.

The server binds a temporary name beside the path, gets its mode and owner there, and is renamed onto the path. A
process that stops removes the path only while it is still its own: the one that took it over keeps it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keystead.errors import KeysteadError

MAX_ADDRESS = 107
"""Bytes of a socket path: sun_path is 108 with its final NUL (unix(7))."""
_PROBE_TIMEOUT = 1.0


class SocketRefused(KeysteadError):
    """The socket cannot or must not be put at this path; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A socket file that this process put in place."""

    path: Path
    inode: tuple[int, int]

    def permit(self, mode: int, group: int | None) -> Callable[[], None]:
        """Change who may connect; return what undoes it. Raises `SocketRefused`, with everything as it was."""
        before = self._status()
        _permit(self.path, mode, os.getegid() if group is None else group)
        return lambda: _permit(self.path, stat.S_IMODE(before.st_mode), before.st_gid)

    def _status(self) -> os.stat_result:
        try:
            status = self.path.lstat()
        except OSError as exc:
            raise SocketRefused(f"cannot look at {self.path}: {exc.strerror}; restart the plugin") from exc
        if (status.st_dev, status.st_ino) != self.inode:
            raise SocketRefused(f"{self.path} is another process's socket by now; stop this process")
        return status

    def remove(self) -> None:
        """Unlink the path if it is still our socket. Never fails: it is the last thing a process does."""
        with contextlib.suppress(OSError):
            if _inode(self.path) == self.inode:
                self.path.unlink()


def check_parent(path: Path) -> str | None:
    """Refuse a directory where anybody may replace the socket; return a warning for a sticky one."""
    parent = path.parent
    try:
        mode = parent.stat().st_mode
    except FileNotFoundError:
        raise SocketRefused(
            f"{parent} does not exist; create it (a static pod: hostPath with type DirectoryOrCreate)"
        ) from None
    except OSError as exc:
        raise SocketRefused(f"cannot look at {parent}: {exc.strerror}") from exc
    if not stat.S_ISDIR(mode):
        raise SocketRefused(f"{parent} is not a directory")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise SocketRefused(f"anybody may write to {parent} and replace the socket there: chmod o-w {parent}")
    if mode & stat.S_IWOTH:
        return f"anybody may create files in {parent}; a directory of its own is safer"
    return None


def check_path(path: Path, *, take_over: bool) -> None:
    """Refuse a path that holds anything but nothing, a stale socket, or with `take_over` a live one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise SocketRefused(f"cannot look at {path}: {exc.strerror}") from exc
    if stat.S_ISLNK(mode):
        raise SocketRefused(f"{path} is a symbolic link; remove it, or configure the path that it points to")
    if not stat.S_ISSOCK(mode):
        raise SocketRefused(f"{path} exists and is not a socket; remove it, or configure another path")
    if not take_over and is_live(path):
        raise SocketRefused(f"another process listens on {path}; stop it, or start with --take-over to replace it")


def is_live(path: Path) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A listener with a full queue, or one that we may not reach, is alive as far as we may judge.
            return True
    return True


@contextlib.contextmanager
def temporary_name(path: Path) -> Iterator[Path]:
    """A free name in the same directory to bind first; removed if it was not renamed away.

    While it is open, files are created without any access for group and others. The owner keeps all: other threads
    may be making directories meanwhile, and the umask is the process's.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    if len(os.fsencode(temporary)) > MAX_ADDRESS:
        raise SocketRefused(f"{path} is too long: its directory may have {MAX_ADDRESS - 10} bytes at most")
    previous = os.umask(0o077)
    try:
        yield temporary
    finally:
        os.umask(previous)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def place(temporary: Path, path: Path, mode: int, group: int | None) -> Placed:
    """Give a bound socket its owner and mode, and rename it onto the path, in this order."""
    try:
        if group is not None:
            os.chown(temporary, -1, group)
        temporary.chmod(mode)
        inode = _inode(temporary)
        temporary.rename(path)
    except OSError as exc:
        raise SocketRefused(f"cannot put the socket at {path}: {exc.strerror}") from exc
    return Placed(path, inode)


def _permit(path: Path, mode: int, group: int) -> None:
    before = path.lstat()
    try:
        if before.st_gid != group:
            # Neither group gets in while one of the two is new and the other old.
            path.chmod(mode & stat.S_IRWXU)
            os.chown(path, -1, group)
        path.chmod(mode)
    except OSError as exc:
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(before.st_mode))
        raise SocketRefused(f"cannot change who may connect to {path}: {exc.strerror}") from exc


def _inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
