"""A fake remote key for a process of its own, as slow as a file says: {"unwrap": seconds, "open": seconds}."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from keystead.provider import ProviderConfig
from support.fakes import FakeProvider
from support.serving import shared_key


class PacedConfig(ProviderConfig):
    """Names the file, which may come and go."""

    provider: Literal["fake"]
    paceFile: Path  # noqa: N815  spelled as in YAML


class PacedProvider(FakeProvider):
    """The key of `shared_key`, under the same ref."""

    config_type: ClassVar[type[ProviderConfig]] = PacedConfig

    def __init__(self, config: PacedConfig) -> None:
        peer = shared_key()
        super().__init__(config.name, str(peer.ref))
        self.versions = peer.versions
        self._pace_file = config.paceFile

    @contextlib.contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        with contextlib.suppress(FileNotFoundError):
            self.delay = json.loads(self._pace_file.read_text())
        with super()._call(operation):
            yield
