"""The keys of one endpoint, and how a record's wraps find them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass

from keystead import errors
from keystead._core import ROLE_ONLINE, Record
from keystead.host.guard import Guard
from keystead.provider import Foreign


@dataclass(frozen=True, slots=True)
class Member:
    """A key's part in an endpoint. An active member wraps new local KEKs; any online member unwraps."""

    guard: Guard
    active: bool
    online: bool = True
    """False for a recovery key, which only wraps: it is never asked to unwrap, and its health is not known."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of one endpoint, in the order of the configuration, which is the order of preference."""

    all: tuple[Member, ...]

    @property
    def online(self) -> tuple[Member, ...]:
        """The members that unwrap."""
        return tuple(member for member in self.all if member.online)

    @property
    def active(self) -> tuple[Guard, ...]:
        """The online keys that a new local KEK is wrapped under."""
        return tuple(member.guard for member in self.online if member.active)

    @property
    def recovery(self) -> tuple[Guard, ...]:
        """The recovery keys that a new local KEK is wrapped under."""
        return tuple(member.guard for member in self.all if member.active and not member.online)

    def refs(self) -> list[tuple[str, str]] | None:
        """The (scheme, ref) pairs of all members that unwrap; `None` while one of them is not open yet."""
        pairs = [(member.guard.scheme, member.guard.ref) for member in self.online]
        known = [(scheme, ref) for scheme, ref in pairs if ref is not None]
        return known if len(known) == len(pairs) else None

    def open(self, deadline: float) -> dict[str, errors.ProviderError]:
        """Open every member that is not open, all at once; return why, by name, for each that does not."""
        pending: list[Future[str]] = []
        for member in self.all:
            with contextlib.suppress(errors.ProviderError):
                pending.append(member.guard.start_open(deadline))
        wait(pending, timeout=max(0.0, deadline - time.monotonic()))
        closed: dict[str, errors.ProviderError] = {}
        for member in self.all:
            try:
                member.guard.open(deadline)
            except errors.ProviderError as exc:
                closed[member.guard.name] = exc
        return closed

    def twins(self) -> str | None:
        """Name two members that are one remote key: one wrap of a record could not tell them apart."""
        seen: dict[tuple[str, str], str] = {}
        for member in self.all:
            guard = member.guard
            if guard.ref is not None:
                first = seen.setdefault((guard.scheme, guard.ref), guard.name)
                if first != guard.name:
                    return f"the keys {first} and {guard.name} are both {guard.scheme} {guard.ref}: remove one of them"
        return None

    def for_record(self, record: Record) -> Iterator[Guard]:
        """The members that may unwrap this record: those it names, and those of its schemes that are not open yet.

        In the order of the configuration, but those that failed a moment ago last.

        A record selects among configured members. It can never make the plugin call a key that it merely names.
        """
        online = [wrap for wrap in record.wraps if wrap.role == ROLE_ONLINE]
        for guard in self._by_health():
            if any(wrap.scheme == guard.scheme and guard.ref in (None, wrap.ref) for wrap in online):
                yield guard

    def for_foreign(self, foreign: Foreign) -> Iterator[Guard]:
        """The members that are to read what another plugin wrote, if its form is that plugin's."""
        return (guard for guard in self._by_health() if guard.recognises(foreign))

    def _by_health(self) -> list[Guard]:
        return sorted((member.guard for member in self.online), key=lambda guard: guard.failing)
