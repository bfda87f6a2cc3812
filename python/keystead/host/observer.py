"""Where the host reports what a metric shows. It knows no metrics library: the server implements this."""

from __future__ import annotations

from typing import Protocol

from keystead.errors import KeysteadError


class Observer(Protocol):
    """One process's counters. Called from any thread; it must not block and must not raise."""

    def persisted(self, endpoint: str, ok: bool) -> None:
        """The state file was written, or could not be."""

    def minted(self, endpoint: str) -> None:
        """A new local KEK is in use."""

    def cold(self, endpoint: str, seconds: float, error: KeysteadError | None) -> None:
        """A Decrypt has waited for a remote unwrap."""

    def called(self, key: str, provider: str, operation: str, seconds: float, error: KeysteadError | None) -> None:
        """A method of a provider has returned or raised."""

    def stuck(self, key: str, count: int) -> None:
        """So many calls of a key's provider have not ended although their time is over."""
