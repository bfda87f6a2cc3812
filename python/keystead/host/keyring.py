"""Brings the local KEK of a record into the store: one remote unwrap however many Decrypts wait for it. What another
plugin wrapped is read the same way.

Two clocks run. A Decrypt waits as long as its own time allows; the flight it waits for goes on in the background until
`unwrap_timeout`, so that the API server's next try finds the KEK in the store.

A flight is a task and no thread, so a member that hangs holds nothing but places, and of those never the last.

Flights are keyed by the SHA-256 of the whole record, never by its kek_id: the kek_id is public, and a mutilated
record that carries a live one must fail alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial

import structlog

from keystead import errors
from keystead._core import KekStore, Record
from keystead.host import background
from keystead.host.errands import Errand, Reading, Unwrapping
from keystead.host.members import Members
from keystead.host.verdict import is_transient
from keystead.provider import Foreign

WAITING_LIMIT = 512
"""Decrypts of one endpoint that may wait for a remote KMS at once; the next one is refused."""
FLIGHT_LIMIT = 512
"""Records of one endpoint that may be on their way at once, with or without a Decrypt that still waits."""
SHARE = 3
"""Records that the same members can open may take up to so many places for each one that is left free."""
REFUSAL_LIFE = 10.0
"""Seconds for which a definitive refusal of a record is remembered. Failures that may pass are never remembered."""
_REFUSALS = 1024

Clock = Callable[[], float]

log = structlog.get_logger("keystead.keyring")


class _Flight:
    """One errand on its way."""

    __slots__ = ("answer", "done", "errand", "error", "expires", "members")

    def __init__(self, errand: Errand, members: frozenset[str], expires: float) -> None:
        self.errand = errand
        self.members = members
        """Names of those that may open it."""
        self.expires = expires
        self.done = threading.Event()
        self.answer: bytes | bytearray | None = None
        self.error: errors.KeysteadError | None = None


class _Places:
    """A number of places, which one group never takes all if there are others. Its user holds a lock."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._of: Counter[frozenset[str]] = Counter()

    def has_room(self, group: frozenset[str], *, alone: bool) -> bool:
        """Whether the group may take one more. What it leaves free shrinks with each group that hangs, but not to 0."""
        free = self.limit - self.taken
        return free > 0 and (alone or self._of[group] < SHARE * free)

    def take(self, group: frozenset[str]) -> None:
        self.taken += 1
        self._of[group] += 1

    def leave(self, group: frozenset[str]) -> None:
        self.taken -= 1
        self._of[group] -= 1
        if not self._of[group]:
            del self._of[group]


class Keyring:
    """Unwraps for one endpoint. `members` may be replaced at any time; flights under way keep those they began with."""

    def __init__(
        self, name: str, store: KekStore, members: Members, unwrap_timeout: float, clock: Clock = time.monotonic
    ) -> None:
        self._name = name
        self._store = store
        self._members = members
        self._unwrap_timeout = unwrap_timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: dict[bytes, _Flight] = {}
        self._flying = _Places(FLIGHT_LIMIT)
        self._waiting = _Places(WAITING_LIMIT)
        self._refusals: OrderedDict[bytes, tuple[float, errors.KeysteadError]] = OrderedDict()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Decrypts that wait for a remote KMS now."""
        return self._waiting.taken

    def reconfigure(self, members: Members, unwrap_timeout: float) -> None:
        """Use other members from the next flight on, and forget what the old ones refused."""
        with self._lock:
            self._members = members
            self._unwrap_timeout = unwrap_timeout
            self._refusals.clear()

    def unwrap(self, record: Record, budget: float) -> None:
        """Return once the record's KEK is in the store, after `budget` seconds at most.

        Raises `TimedOut`, `Overloaded`, or what the members said.
        """
        self._wait(Unwrapping(self._store, record), budget)

    @property
    def reads_any(self) -> bool:
        """Whether a member is asked to read what another plugin wrote."""
        return any(member.guard.reads is not None for member in self._members.online)

    def reads(self, foreign: Foreign) -> bool:
        """Whether a member is asked to read what this seems to be."""
        return any(True for _ in self._members.for_foreign(foreign))

    def read(self, foreign: Foreign, budget: float) -> bytes | bytearray:
        """Return what another plugin wrapped, which a member reads. Raises as `unwrap` does."""
        answer = self._wait(Reading(foreign), budget)
        assert answer is not None  # noqa: S101  # a reading that has not failed has an answer
        return answer

    def _wait(self, errand: Errand, budget: float) -> bytes | bytearray | None:
        flight = self._join(errand)
        try:
            if not flight.done.wait(budget):
                raise errors.TimedOut(
                    f"the remote KMS has not answered within {budget:.1f} s; the unwrap goes on, so try again"
                )
        finally:
            with self._lock:
                self._waiting.leave(flight.members)
        if flight.error is not None:
            # Many threads raise this error, and raising writes into the object, so each raises a copy.
            raise type(flight.error)(*flight.error.args)
        return flight.answer

    def close(self) -> None:
        """Start no more flights. Those under way end by their own deadlines."""
        with self._lock:
            self._closed = True

    def _join(self, errand: Errand) -> _Flight:
        digest = errand.digest
        with self._lock:
            refusal = self._refusals.get(digest)
            if refusal is not None and self._clock() < refusal[0]:
                raise type(refusal[1])(*refusal[1].args)
            alone = len(self._members.online) < 2  # then nobody else is waited for
            flight = self._flights.get(digest)
            new = flight is None
            if flight is None:
                if self._closed:
                    raise errors.Unavailable("this endpoint is closing; try again")
                able = frozenset(guard.name for guard in errand.able(self._members))
                flight = _Flight(errand, able, time.monotonic() + self._unwrap_timeout)
                if not self._flying.has_room(able, alone=alone):
                    raise self._overloaded(self._flying, "records", able)
            if not self._waiting.has_room(flight.members, alone=alone):
                raise self._overloaded(self._waiting, "calls", flight.members)
            self._waiting.take(flight.members)
            if new:
                self._flights[digest] = flight
                self._flying.take(flight.members)
                background.start(self._fly(flight, self._members))
            return flight

    def _overloaded(self, places: _Places, what: str, group: frozenset[str]) -> errors.Overloaded:
        if places.taken >= places.limit:
            return errors.Overloaded(f"{places.limit} {what} wait for a remote KMS already; try again")
        return errors.Overloaded(
            f"too many {what} wait for {' or '.join(sorted(group))} already, and the places that are left are for "
            "other keys; try again"
        )

    async def _fly(self, flight: _Flight, members: Members) -> None:
        started = time.monotonic()
        try:
            flight.answer = await flight.errand.run(members, flight.expires)
        except errors.KeysteadError as exc:
            # Without its traceback, whose frames would keep what they hold in memory.
            flight.error = type(exc)(*exc.args)
        except BaseException as exc:  # noqa: BLE001  those who wait must hear of it
            background.aside(
                partial(log.error, "kek.unwrap_crashed", endpoint=self._name, error_class=type(exc).__name__)
            )
            flight.error = errors.Unsafe("an internal error while a record was unwrapped; see the plugin's log")
        with self._lock:
            del self._flights[flight.errand.digest]
            self._flying.leave(flight.members)
            if flight.error is not None and not is_transient(flight.error):
                self._remember(flight.errand.digest, flight.error)
        flight.done.set()
        seconds = round(time.monotonic() - started, 4)
        background.aside(partial(flight.errand.log, self._name, seconds, flight.error))

    def _remember(self, digest: bytes, error: errors.KeysteadError) -> None:
        self._refusals[digest] = (self._clock() + REFUSAL_LIFE, error)
        while len(self._refusals) > _REFUSALS:
            self._refusals.popitem(last=False)


def fetch(store: KekStore, record: Record, members: Members, deadline: float) -> None:
    """Unwrap through the first member that can, and admit the KEK; return at the deadline at the latest."""
    background.start(Unwrapping(store, record).run(members, deadline)).result()
