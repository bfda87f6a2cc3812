"""What is in etcd, from a snapshot on disk: the one thing that inventory, recover and retire-check look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from keystead._core import Snapshot, SnapshotError, Tally

PREFIX = "/registry/"
"""Where kube-apiserver keeps its objects, unless it has another --etcd-prefix."""
_CHECKED_AT_ONCE = 64 << 20
_COUNTED_AT_ONCE = 10_000

Progress = Callable[[str, float], None]
"""Told what is being done, and which part of it is."""


class Unreadable(Exception):
    """The store cannot be read, so that nothing can be said about it; the message says why."""


class Entry(NamedTuple):
    """One object as it is in etcd."""

    key: bytes
    value: bytes
    mod_revision: int
    create_revision: int


class Store(Protocol):
    """Objects as of one revision."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why what it says may not be all that was in etcd."""
        ...

    @property
    def revision(self) -> int:
        """The revision, once it was read."""
        ...

    def entries(self, progress: Progress) -> Iterator[Entry]:
        """Every object once, in any order. Raises `Unreadable`, also on the way: then what came before is not all."""
        ...

    def tally(self, prefix: str, progress: Progress) -> Tally:
        """Count what is below a prefix. Raises `Unreadable`."""
        ...


class SnapshotStore:
    """A file that `etcdctl snapshot save` wrote, or a copy of a member's database."""

    def __init__(self, path: Path) -> None:
        """Look at the file. Raises `Unreadable`."""
        self._path = path
        self.revision = 0
        self._checked = False
        snapshot = self._open()
        self.warnings = tuple(_doubts(snapshot))

    @property
    def name(self) -> str:
        return str(self._path)

    def entries(self, progress: Progress) -> Iterator[Entry]:
        try:
            snapshot = self._checked_file(progress)
            latest = snapshot.latest()
            for number, (key, value, modified, created) in enumerate(latest):
                if number % _COUNTED_AT_ONCE == 0:
                    progress("read", latest.done / snapshot.size)
                yield Entry(key, value, modified, created)
            self.revision = latest.revision
        except (SnapshotError, OSError) as exc:
            raise self._unreadable(exc) from exc

    def tally(self, prefix: str, progress: Progress) -> Tally:
        tally = Tally(prefix.encode())
        try:
            snapshot = self._checked_file(progress)
            latest = snapshot.latest()
            while latest.count_into(tally, _COUNTED_AT_ONCE) == _COUNTED_AT_ONCE:
                progress("counted", latest.done / snapshot.size)
            self.revision = latest.revision
        except (SnapshotError, OSError) as exc:
            raise self._unreadable(exc) from exc
        return tally

    def _open(self) -> Snapshot:
        try:
            return Snapshot(self._path)
        except (SnapshotError, OSError) as exc:
            raise self._unreadable(exc) from exc

    def _checked_file(self, progress: Progress) -> Snapshot:
        snapshot = self._open()
        done = 0
        while done < snapshot.size:
            done = snapshot.check(_CHECKED_AT_ONCE)
            progress("checked", done / snapshot.size)
        return snapshot

    def _unreadable(self, exc: Exception) -> Unreadable:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        return Unreadable(f"{self._path}: {reason}")


def _doubts(snapshot: Snapshot) -> Iterator[str]:
    if not snapshot.has_checksum:
        yield (
            "this file has no checksum, so it is a copy of a member's database: if etcd ran while it was copied, it "
            "may mix two states. etcdctl snapshot save makes one that can be checked"
        )
    if snapshot.may_lack_a_transaction:
        yield "one of its first two pages is damaged: what etcd wrote last may be missing"
