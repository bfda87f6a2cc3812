"""What the suite may do to a remote KMS, besides calling the provider: the part that only its owner can write.

Each method that a subclass overrides turns some rules from "not shown" into tried ones. A real sandbox of a cloud, a
server started for the tests and a fake in memory are all the same to the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from keystead.provider import WrapContext, Wrapped
from keystead.testing.rules import NotShown


class Sandbox:
    """Override what your sandbox can do. Context managers undo at their end what they did at their start."""

    published: bool = True
    """Whether the provider is installed under an entry point; false only for one that lives in a test."""

    def secrets(self) -> Sequence[str]:
        """Return what must appear in no log and no message: tokens, passwords, secret keys."""
        return ()

    def rotate(self) -> None:
        """Make a new version of the remote key the current one, and keep the old one for unwrapping."""
        raise _missing(self.rotate)

    def version_disabled(self, version: str) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Disable one version of the remote key."""
        raise _missing(self.version_disabled)

    def key_disabled(self) -> AbstractContextManager[Any]:
        """Disable the remote key."""
        raise _missing(self.key_disabled)

    def key_missing(self) -> AbstractContextManager[Any]:
        """Delete the remote key, or make it look so."""
        raise _missing(self.key_missing)

    def access_denied(self) -> AbstractContextManager[Any]:
        """Take the right to wrap and unwrap from credentials that stay valid."""
        raise _missing(self.access_denied)

    def credentials_expired(self) -> AbstractContextManager[Any]:
        """Make the credentials that the provider uses invalid."""
        raise _missing(self.credentials_expired)

    def throttled(self) -> AbstractContextManager[Any]:
        """Make the remote refuse calls because of a rate limit."""
        raise _missing(self.throttled)

    def out_of_order(self) -> AbstractContextManager[Any]:
        """Make the remote answer with an internal error, or that it is sealed or in maintenance."""
        raise _missing(self.out_of_order)

    def wrong_answers(self) -> AbstractContextManager[Any]:
        """Make the remote answer an unwrap with success and a key of the wrong size."""
        raise _missing(self.wrong_answers)

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:  # noqa: ARG002
        """Wrap under another remote key than the one that the provider is configured for."""
        raise _missing(self.foreign_wrap)

    def calls(self) -> int:
        """Return how many requests the remote has seen so far, of every kind."""
        raise _missing(self.calls)


def _missing(method: Callable[..., Any]) -> NotShown:
    return NotShown(f"the sandbox does not offer it: override Sandbox.{method.__name__}")
