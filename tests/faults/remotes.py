"""A remote KMS behind a line that a test spoils: what AWS, Google and Vault have in common here."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from faults.expected import HEALTHY
from faults.line import Line
from keystead.provider import Provider, WrapContext, Wrapped
from support.serving import Sealed, seal_as_peer

QUIET = 1.0
"""Seconds without a request after which what a start tries in the background is over; nothing follows for an hour."""


class Remote(ABC):
    """One remote KMS. `key` is its entry for `keys:`; `peer` is the provider as another node has it."""

    name: str
    key: dict[str, Any]
    peer: Provider[Any]
    peer_version: str | None = None
    """The version of the key that cold records are wrapped under; the current one unless set."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        """Ends what was started."""
        self.environment: dict[str, str] = {}
        """What the plugin's process needs."""

    def open(self) -> None:
        """Make the peer ready."""
        self._ref = self.peer.open(time.monotonic() + 10)
        self.stack.callback(self.peer.close)

    def cold(self, count: int) -> list[Sealed]:
        """Seeds under as many local KEKs of another node: each costs one unwrap."""

        def wrap(kek: bytes, context: WrapContext) -> Wrapped:
            return self.peer.wrap(kek, context, self.peer_version, time.monotonic() + 10)

        return seal_as_peer(wrap, self.name, self._ref, count)

    @abstractmethod
    def fault(self, name: str) -> AbstractContextManager[Any]:
        """Have this fault until the end of the block, which repairs it."""


class RemoteOnALine(Remote):
    """The plugin reaches it by way of `line`, and its peer directly."""

    line: Line

    def fault(self, name: str) -> AbstractContextManager[Any]:
        match name:
            case "connection refused":
                return self.line.refusing()
            case "black hole":
                return self.line.black_hole()
            case "server stopped (SIGSTOP)":
                return self.stopped()
            case "answer trickles":
                return self.line.trickling()
            case "reset within the answer":
                return self.line.resetting()
            case other if other == HEALTHY:
                return nullcontext()
        return self.own_fault(name)

    def stopped(self) -> AbstractContextManager[Any]:
        """Have a server that was stopped. One in this process cannot be; its line then does the same on the wire."""
        return self.line.silent()

    @abstractmethod
    def own_fault(self, name: str) -> AbstractContextManager[Any]:
        """Have a fault that the service itself has."""

    @abstractmethod
    def unwraps(self) -> int:
        """Count the unwraps that the service was asked for by way of the line."""

    @abstractmethod
    def requests(self) -> int:
        """Count its requests of any kind."""


def until_quiet(remote: RemoteOnALine) -> None:
    """Wait until nothing is asked of the remote any more."""
    requests = -1
    while remote.requests() != requests:
        requests = remote.requests()
        time.sleep(QUIET)
