"""Brings the local KEK of a record into the store: one remote unwrap however many Decrypts wait for it.

Two clocks run. A Decrypt waits as long as its own time allows; the flight it waits for goes on in a thread of the
keyring until `unwrap_timeout`, so that the API server's next try finds the KEK in the store.

Flights are keyed by the SHA-256 of the whole record, never by its kek_id: the kek_id is public, and a mutilated
record that carries a live one must fail alone.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog

from keystead import errors
from keystead._core import KekStore, Record
from keystead.host.members import Members
from keystead.host.verdict import combine, is_transient
from keystead.provider import WrapContext

WAITING_LIMIT = 512
"""Decrypts of one endpoint that may wait for a remote KMS at once; the next one is refused."""
FLIGHT_LIMIT = 512
"""Records of one endpoint that may be on their way at once, with or without a Decrypt that still waits."""
FLIGHT_THREADS = 64
HEDGE_DELAY = 0.4
"""Seconds without an answer after which the next member is asked too. With two members and the first one silent, a
Decrypt is answered well inside the API server's 3 s."""
REFUSAL_LIFE = 10.0
"""Seconds for which a definitive refusal of a record is remembered. Failures that may pass are never remembered."""
_REFUSALS = 1024

Clock = Callable[[], float]

log = structlog.get_logger("keystead.keyring")


class _Flight:
    """One record on its way into the store."""

    __slots__ = ("done", "error", "expires", "record")

    def __init__(self, record: Record, expires: float) -> None:
        self.record = record
        self.expires = expires
        self.done = threading.Event()
        self.error: errors.KeysteadError | None = None


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
        self._refusals: OrderedDict[bytes, tuple[float, errors.KeysteadError]] = OrderedDict()
        self._waiting = 0
        self._pool = ThreadPoolExecutor(FLIGHT_THREADS, thread_name_prefix=f"flight-{name}")

    @property
    def waiting(self) -> int:
        """Decrypts that wait for a remote KMS now."""
        return self._waiting

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
        flight = self._join(record)
        try:
            if not flight.done.wait(budget):
                raise errors.TimedOut(
                    f"the remote KMS has not answered within {budget:.1f} s; the unwrap goes on, so try again"
                )
        finally:
            with self._lock:
                self._waiting -= 1
        if flight.error is not None:
            # Many threads raise this error, and raising writes into the object, so each raises a copy.
            raise type(flight.error)(*flight.error.args)

    def close(self) -> None:
        """Start no more flights. Those under way end by their own deadlines."""
        self._pool.shutdown(wait=False)

    def _join(self, record: Record) -> _Flight:
        with self._lock:
            refusal = self._refusals.get(record.digest)
            if refusal is not None and self._clock() < refusal[0]:
                raise type(refusal[1])(*refusal[1].args)
            if self._waiting >= WAITING_LIMIT:
                raise errors.Overloaded(f"{WAITING_LIMIT} calls wait for a remote KMS already; try again")
            flight = self._flights.get(record.digest)
            if flight is None:
                if len(self._flights) >= FLIGHT_LIMIT:
                    raise errors.Overloaded(f"{FLIGHT_LIMIT} records wait for a remote KMS already; try again")
                flight = _Flight(record, time.monotonic() + self._unwrap_timeout)
                try:
                    self._pool.submit(self._fly, flight, self._members)
                except RuntimeError:
                    raise errors.Unavailable("this endpoint is closing; try again") from None
                # The flight's own end waits for this lock.
                self._flights[record.digest] = flight
            self._waiting += 1
            return flight

    def _fly(self, flight: _Flight, members: Members) -> None:
        started = time.monotonic()
        try:
            fetch(self._store, flight.record, members, flight.expires)
        except errors.KeysteadError as exc:
            # Without its traceback, whose frames would keep what they hold in memory.
            flight.error = type(exc)(*exc.args)
        except BaseException:
            flight.error = errors.Unsafe("an internal error while a record was unwrapped; see the plugin's log")
            raise
        finally:
            with self._lock:
                del self._flights[flight.record.digest]
                if flight.error is not None and not is_transient(flight.error):
                    self._remember(flight.record.digest, flight.error)
            flight.done.set()
            log.info(
                "kek.unwrapped" if flight.error is None else "kek.unwrap_failed",
                endpoint=self._name,
                kek_id=flight.record.kek_id.hex()[:16],
                seconds=round(time.monotonic() - started, 4),
                error=str(flight.error) if flight.error is not None else None,
            )

    def _remember(self, digest: bytes, error: errors.KeysteadError) -> None:
        self._refusals[digest] = (self._clock() + REFUSAL_LIFE, error)
        while len(self._refusals) > _REFUSALS:
            self._refusals.popitem(last=False)


def fetch(store: KekStore, record: Record, members: Members, deadline: float) -> None:
    """Unwrap through the first member that can, and admit the KEK.

    Members are asked in turn; the next one as soon as one fails, or when nobody has answered for `HEDGE_DELAY`.
    """
    if store.holds(record):
        return
    context = WrapContext(record.kek_id, record.cluster)
    waiting_members = list(members.for_record(record))
    if not waiting_members:
        raise errors.NoConfiguredMember(
            "none of the keys of this record is a member of this endpoint: "
            + ", ".join(dict.fromkeys(f"{wrap.scheme} {wrap.ref}" for wrap in record.wraps))
            + "; add the key as a member with stage decrypt"
        )
    failures: list[errors.KeysteadError] = []
    pending: set[Future[bytes | bytearray]] = set()
    while waiting_members or pending:
        if waiting_members:
            try:
                pending.add(waiting_members.pop(0).start_unwrap(record, context, deadline))
            except errors.Unavailable as exc:
                # A key that a reload has just closed counts as one that failed.
                failures.append(exc)
                continue
        patience = HEDGE_DELAY if waiting_members else max(0.0, deadline - time.monotonic())
        done, pending = wait(pending, timeout=patience, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                store.admit(record, future.result())
                return
            except errors.KeysteadError as exc:
                failures.append(exc)
        if pending and not waiting_members and time.monotonic() >= deadline:
            failures.append(errors.TimedOut("the remote KMS has not answered within the time limit of an unwrap"))
            break
    raise combine(failures)
