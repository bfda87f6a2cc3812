"""A provider for tests: the key files of `local`, behind a remote that is as slow as a file says, or away.

The file is read anew for each call, so a test changes the remote without a reload.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from keystead.provider import ProviderConfig, Unavailable, WrapContext, Wrapped
from keystead.providers.local import LocalConfig, LocalProvider


class SlowConfig(LocalConfig):
    """A key as of `local`, and the file that says how its remote is."""

    provider: Literal["slow"]  # type: ignore[assignment]
    remote: Path = Field(description="File with the seconds that each call takes, or with the word away.")


class SlowProvider(LocalProvider):
    """Does what `local` does, later or not at all."""

    config_type: ClassVar[type[ProviderConfig]] = SlowConfig

    def open(self, deadline: float) -> str:
        self._travel(deadline)
        return super().open(deadline)

    def current_version(self, deadline: float) -> str:
        self._travel(deadline)
        return super().current_version(deadline)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        self._travel(deadline)
        return super().wrap(kek, context, version, deadline)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        self._travel(deadline)
        return super().unwrap(blob, context, version, deadline)

    def _travel(self, deadline: float) -> None:
        """Take the time that the remote needs, but no longer than the caller has."""
        assert isinstance(self.config, SlowConfig)
        says = self.config.remote.read_text().strip()
        if says == "away":
            raise Unavailable("connect to 192.0.2.1:443: connection refused")
        left = deadline - time.monotonic()
        time.sleep(max(0.0, min(float(says), left)))
        if float(says) > left:
            raise Unavailable("no answer from 192.0.2.1:443 within the time limit")
