"""The files of one endpoint on disk, without secrets.

`<stateDir>/<endpoint>/current` keeps a local KEK across restarts: a record, in which it is wrapped, and its key_id. It
is the high-water mark too: a file of a higher epoch is never replaced by one of a lower, so of two processes that
overlap in a restart the older cannot undo the newer. `staged` beside it says which keys have decrypted here before they
were active, for a rollout whose every step is a restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from keystead import errors
from keystead._core import StateFile, key_id_epoch

MAX_SIZE = 64 * 1024


class StateDir:
    """The state of one endpoint on disk. `path` is its own directory, made when first written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._current = path / "current"
        self._staged = path / "staged"

    def read(self) -> StateFile | None:
        """Return what is on disk, or `None` if there is nothing yet.

        Raises `OSError`, and `MalformedRequest` for a file that is not one of ours; `set_aside` moves that away.
        """
        try:
            with self._current.open("rb") as file:
                return StateFile.parse(file.read(MAX_SIZE))
        except FileNotFoundError:
            return None

    def write(self, state: StateFile) -> None:
        """Replace the file so that a crash at any moment leaves the old content or the new one.

        Raises `OSError`, and `StateAhead` if another process has written a higher epoch.
        """
        self._make()
        with self._locked():
            with contextlib.suppress(errors.MalformedRequest):
                present = self.read()
                if present is not None and key_id_epoch(present.key_id) > key_id_epoch(state.key_id):
                    raise StateAhead(present.key_id)
            self._replace(self._current, state.encoded)

    def read_staged(self) -> dict[tuple[str, str], bool]:
        """Return which keys decrypted here before they were active, and whether for a whole soak.

        A file that cannot be read says nothing, which costs a soak and no more. Raises `OSError`.
        """
        try:
            rows = json.loads(self._staged.read_bytes()[:MAX_SIZE])
            return {(str(scheme), str(ref)): bool(soaked) for scheme, ref, soaked in rows}
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def write_staged(self, staged: Mapping[tuple[str, str], bool]) -> None:
        """Replace what `read_staged` returns. Raises `OSError`."""
        self._make()
        rows = [[scheme, ref, soaked] for (scheme, ref), soaked in sorted(staged.items())]
        with self._locked():
            self._replace(self._staged, json.dumps(rows).encode())

    def _make(self) -> None:
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_directory(self.path.parent)

    def _replace(self, path: Path, content: bytes) -> None:
        # Written to the end and synced under another name first: rename is what makes it visible, all at once.
        temporary = path.with_name(f"{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _sync_directory(self.path)

    def set_aside(self) -> Path:
        """Rename a file that cannot be parsed, so that it can be looked at and is not written over."""
        aside = self.path / "current.unreadable"
        self._current.replace(aside)
        return aside

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class StateAhead(errors.KeysteadError):
    """Another process has written a state of a higher epoch; its key_id is the only argument."""

    @property
    def key_id(self) -> str:
        """The key_id on disk."""
        return str(self.args[0])


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
