"""Which local KEK an endpoint is to go on with: what is on disk, what is to be there, and what an operator placed.

A disk that is full, read-only, lost or damaged stops nobody: the record stays in memory and goes into every ciphertext,
and is written as soon as that works.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import structlog

from keystead import errors
from keystead._core import StateFile, key_id_epoch
from keystead.host.observer import Observer
from keystead.host.state import MAX_SIZE, StateAhead, StateDir

log = structlog.get_logger("keystead.endpoint")


class Ledger:
    """The records of one endpoint that have a name. For its own thread, but for the properties."""

    def __init__(self, endpoint: str, state_dir: StateDir | None, observer: Observer) -> None:
        self._endpoint = endpoint
        self._state_dir = state_dir
        self._observer = observer
        self._disk: StateFile | None = None
        self._unsaved: StateFile | None = None
        self._staged: dict[tuple[str, str], bool] | None = None
        self._trouble: str | None = None

    @property
    def kept(self) -> StateFile | None:
        """What this run has used last, or the one before; the high-water mark."""
        return self._unsaved if self._unsaved is not None else self._disk

    @property
    def saved(self) -> bool:
        """Whether nothing is left to be written."""
        return self._unsaved is None

    @property
    def path(self) -> Path | None:
        """The file that holds it; `None` without a state directory."""
        return self._state_dir.path / "current" if self._state_dir is not None else None

    def load(self) -> StateFile | None:
        """Return what is kept, from the disk if need be."""
        if self.kept is None:
            self._disk = self._read()
        return self.kept

    def keep(self, state: StateFile) -> bool:
        """Write it before anybody uses it; return whether it may be used: not if another process is ahead of it."""
        self._unsaved = state
        self.save()
        kept = self.kept
        return kept is None or key_id_epoch(kept.key_id) <= key_id_epoch(state.key_id)

    def save(self) -> None:
        """Write what is not on disk yet."""
        if self._unsaved is None:
            return
        if self._state_dir is None:
            self._disk, self._unsaved = self._unsaved, None
            return
        try:
            self._state_dir.write(self._unsaved)
        except StateAhead as exc:
            log.error(
                "state.ahead", endpoint=self._endpoint, on_disk=exc.key_id, msg="another process runs a higher epoch"
            )
            self._disk, self._unsaved = self._read(), None
        except OSError as exc:
            self._complain("state.persist_failed", exc)
            self._observer.persisted(self._endpoint, False)
        else:
            self._disk, self._unsaved, self._trouble = self._unsaved, None, None
            self._observer.persisted(self._endpoint, True)

    def check(self) -> None:
        """Write the file again if somebody has deleted or damaged it while the process ran."""
        if self._state_dir is None or self._disk is None or self._unsaved is not None:
            return
        try:
            present = self._state_dir.read()
        except errors.MalformedRequest as exc:
            self._set_aside("state.unreadable", exc)
        except OSError as exc:
            self._complain("state.unreadable", exc)
            return
        else:
            if present is not None:
                return
            log.warning("state.lost", endpoint=self._endpoint, path=str(self.path), msg="it is written again")
        self._unsaved = self._disk

    def give_up(self, state: StateFile, error: errors.KeysteadError) -> None:
        """Put a record aside that no key will ever open, so that a new KEK is minted."""
        if self._state_dir is not None and state is self._disk and self._set_aside("state.refused", error):
            self._disk = None

    def staged(self) -> Mapping[tuple[str, str], bool]:
        """Which keys have decrypted here before they were active, and whether for a whole soak."""
        if self._staged is None:
            try:
                self._staged = self._state_dir.read_staged() if self._state_dir is not None else {}
            except OSError as exc:
                # It is asked for again: what is on a disk that comes back must not be forgotten, nor written over.
                self._complain("state.unreadable", exc)
                return {}
        return self._staged

    def stage(self, staged: dict[tuple[str, str], bool]) -> None:
        """Remember that for the next process."""
        if self._staged is None or staged == self._staged:
            return
        if self._state_dir is not None:
            try:
                self._state_dir.write_staged(staged)
            except OSError as exc:
                self._complain("state.persist_failed", exc)
                return
        self._staged = staged

    def _read(self) -> StateFile | None:
        if self._state_dir is None:
            return None
        try:
            return self._state_dir.read()
        except errors.MalformedRequest as exc:
            self._set_aside("state.unreadable", exc)
        except OSError as exc:
            self._complain("state.unreadable", exc)
        return None

    def _set_aside(self, event: str, error: Exception) -> bool:
        moved_to: str | None = None
        if self._state_dir is not None:
            with contextlib.suppress(OSError):
                moved_to = str(self._state_dir.set_aside())
        log.error(event, endpoint=self._endpoint, moved_to=moved_to, error=str(error))
        return moved_to is not None

    def _complain(self, event: str, error: OSError) -> None:
        """Log a trouble once, not at each attempt."""
        text = f"{error.strerror}: {error.filename}"
        if text != self._trouble:
            log.error(event, endpoint=self._endpoint, error=text)
        self._trouble = text


def read_record_file(path: Path) -> StateFile:
    """Read a record that an operator placed, in the form of `current`.

    Raises `ConfigError` if it cannot be read, is none of ours, or can be written by everybody.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise errors.ConfigError(f"recordFile {path} can be written by everybody: chmod o-w")
            return StateFile.parse(file.read(MAX_SIZE))
    except OSError as exc:
        raise errors.ConfigError(f"recordFile {path}: {exc.strerror}") from None
    except errors.MalformedRequest as exc:
        raise errors.ConfigError(f"recordFile {path}: {exc}") from None
