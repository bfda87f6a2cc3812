"""A remote key that several nodes share, and what each node sees of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from keystead import errors
from support.fakes import FakeProvider

_ABOUT_VALUES = ("wrap", "unwrap")


class Remote:
    """A key in a KMS: its versions, and whether it answers at all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.versions = {"1": os.urandom(32)}
        self.error: errors.ProviderError | None = None
        """What every call gets, from every node."""
        self.age = 0.0
        """Seconds since the last version was made."""

    @property
    def newest(self) -> int:
        return len(self.versions)

    def rotate(self) -> None:
        self.versions[str(self.newest + 1)] = os.urandom(32)
        self.age = 0.0


class View(FakeProvider):
    """A remote key as one node sees it: through a replica that lags, and with permissions of its own."""

    def __init__(self, remote: Remote, *, permitted: bool) -> None:
        super().__init__(remote.name, limits={"rate": 10_000})
        self.remote = remote
        self.versions = remote.versions
        self.permitted = permitted
        self.knows = 0
        """The newest version that the replica has."""
        self.follow()

    def follow(self) -> None:
        """Let the replica have everything, and name the newest version as current."""
        self.knows = self.remote.newest
        self.current = str(self.knows)

    @contextlib.contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        if self.remote.error is not None:
            # A new one each time: who keeps it must not keep the frames of the time before.
            raise type(self.remote.error)(*self.remote.error.args)
        if not self.permitted and operation in _ABOUT_VALUES:
            raise errors.PermissionDenied(f"{operation} is not allowed here")
        with super()._call(operation):
            yield

    def _key(self, version: str) -> bytes:
        if int(version) > self.knows:
            raise errors.KeyNotFound(f"this replica has no version {version}")
        return super()._key(version)
