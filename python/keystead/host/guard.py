"""The host's face of one configured key: it runs the provider's calls and distrusts their answers.

Each call has a thread of the key's own and a deadline that holds even if the provider ignores it, so one hung KMS
blocks nobody else. What fails in a way that may pass is tried once more if time is left. Every error leaves with the
key's name in front and one of the classes of `keystead.errors`.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from keystead import errors
from keystead._core import ROLE_ONLINE, Record, Wrap
from keystead.host import background
from keystead.host.answers import Answers
from keystead.host.caller import Caller
from keystead.host.lane import Lane, LaneClosedError
from keystead.host.observer import Observer
from keystead.provider import Foreign, Provider, ProviderConfig, WrapContext, Wrapped

_HOUSEKEEPING_CALLS = 2
_GRACE = 0.1
"""Seconds that a provider may overrun its deadline, to raise its own error, which says more than ours."""
CLOSING_SECONDS = 1.0
"""Seconds that a provider has to close."""

HUNG_LIMIT = 3
"""Calls given up without a single return between, after which the provider is built and opened anew."""

T = TypeVar("T")

log = structlog.get_logger("keystead.guard")


@dataclass(eq=False, slots=True)
class _Instance:
    """One object of the provider's class."""

    provider: Provider[Any]
    opened: Future[str] | None = None
    is_open: bool = False
    hung: int = 0
    """Calls given up since one returned."""
    is_lost: bool = False
    """It hangs, and another one is to take its place."""


class Guard:
    """One key of the configuration, shared by all endpoints that have it as a member. Safe to use from many threads."""

    def __init__(
        self, key: ProviderConfig, make: Callable[[], Provider[Any]], observer: Observer | None = None
    ) -> None:
        """`make` builds the provider, and builds it again if the one in use hangs for good."""
        self.name = key.name
        self.scheme = key.provider
        self.pinned = key.version
        """The version that the configuration asks for."""
        self.unwrapped = 0
        """How many records it has unwrapped for Decrypts, rightly: who looks twice sees that it works."""
        self._make = make
        self._instance = _Instance(make())
        self.notice = self._instance.provider.notice
        self.reads = self._instance.provider.reads
        """The plugin whose ciphertexts this key reads too, if any."""
        self._answers = Answers(key.name)
        self._caller = Caller(key, self._answers, observer)
        self._checks: dict[str, Callable[[Any], Any]] = {
            "unwrap": self._answers.kek,
            "read": self._answers.seed,
            "open": lambda ref: self._answers.ref(ref, self._ref),
        }
        self._ref: str | None = None
        self._opening = threading.Lock()
        self._closed = False
        self._credential_expiry: float | None = None
        self._not_renewed: errors.ProviderError | None = None
        # Unwraps have threads apart from the rest, so that a flood of them cannot delay minting and probing, and
        # opening has one that no call which waits for it can take.
        self._unwraps = Lane(f"unwrap-{key.name}", key.limits.concurrency, self._caller.count_stuck)
        self._housekeeping = Lane(f"key-{key.name}", _HOUSEKEEPING_CALLS, self._caller.count_stuck)
        self._opens = Lane(f"open-{key.name}", 1, self._caller.count_stuck)

    @property
    def failing(self) -> bool:
        """Whether the last call failed in a way that may pass: then other members are asked before this one."""
        return self._caller.failing

    @property
    def ref(self) -> str | None:
        """What names the remote key in records; `None` until the key is open."""
        return self._ref

    def start_open(self, deadline: float) -> Future[str]:
        """Open the provider unless it is open or opening; the future ends with the ref or a `ProviderError`."""
        with self._opening:
            if self._instance.is_lost:
                self._build_anew()
            instance = self._instance
            if instance.opened is None or (instance.opened.done() and not instance.is_open):
                instance.opened = self._submit(self._opens, instance, "open", deadline)
            return instance.opened

    def open(self, deadline: float) -> str:
        """Open the provider unless it is open, and return the ref."""
        instance, ref = self._instance, self._ref
        if ref is not None and instance.is_open and not instance.is_lost:
            return ref
        return self._wait(self.start_open(deadline), "open", deadline)

    def current_version(self, deadline: float) -> str | None:
        """Ask which version a new wrap should use, unless the configuration says it."""
        if self.pinned is not None:
            return self.pinned
        version = self._housekeep("current_version", deadline)
        return None if version is None else self._answers.version(version)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        """Wrap, and check the form of the answer; whether it unwraps again is the caller's to try."""
        answer = self._housekeep("wrap", deadline, kek, context, version)
        return self._answers.wrapped(answer, version, self._instance.provider.capabilities.max_blob)

    def unwrap(self, wrap: Wrap, context: WrapContext, deadline: float) -> bytes | bytearray:
        """Unwrap in a housekeeping thread, for a mint or a probe."""
        kek: bytes | bytearray = self._housekeep("unwrap", deadline, wrap.blob, context, wrap.version)
        return kek

    def start_unwrap(self, record: Record, context: WrapContext, deadline: float) -> Future[bytes | bytearray]:
        """Start to unwrap a record for a Decrypt, opening the key first if need be.

        The future ends with the 32 bytes, `NoConfiguredMember` if the record does not name this key, or a
        `ProviderError`; it may be late.
        """
        instance = self._instance
        return self._start(
            self._unwraps, instance, "unwrap", deadline, partial(self._unwrap_record, record, context, deadline)
        )

    def recognises(self, foreign: Foreign) -> bool:
        """Whether the configuration asks to read another plugin's ciphertexts, and this seems to be one."""
        provider = self._instance.provider
        try:
            return self.reads is not None and provider.recognises(foreign) is True
        except Exception:  # noqa: BLE001  a vendor may raise anything
            return False

    def start_read(self, foreign: Foreign, deadline: float) -> Future[bytes | bytearray]:
        """Start to decrypt what was recognised, opening the key first if need be.

        The future ends with the 32 bytes or a `ProviderError`; it may be late.
        """

        def read() -> bytes | bytearray:
            self.open(deadline)
            seed: bytes | bytearray = self._call(self._instance, "read", deadline, foreign, in_line=True)
            return seed

        return self._start(self._unwraps, self._instance, "read", deadline, read)

    @property
    def credential_expiry(self) -> float | None:
        """Unix time at which the credentials end, as of the last call, if somebody has to act before."""
        return self._credential_expiry

    def keep_alive(self, deadline: float) -> errors.ProviderError | None:
        """Have credentials renewed that no other call renews. Return what is wrong with them, if anything is."""
        if self._ref is None:
            return None
        failure: errors.ProviderError | None = None
        try:
            self._housekeep("keep_alive", deadline)
        except errors.ProviderError as exc:
            failure = exc
        if str(failure) != str(self._not_renewed):
            if failure is not None:
                log.warning("key.not_renewed", key=self.name, error=str(failure))
            else:
                log.info("key.renewed", key=self.name)
        self._not_renewed = failure
        return failure

    def close(self) -> None:
        """Close the provider. Calls that still run end by themselves."""
        with self._opening:
            instance = self._instance
            self._closed = True
            self._ref, instance.opened, instance.is_open = None, None, False
            closing = self._close_provider(instance)
            for lane in (self._opens, self._unwraps, self._housekeeping):
                lane.close()
        self._caller.close()
        with contextlib.suppress(TimeoutError, errors.Unavailable):
            closing.result(timeout=CLOSING_SECONDS)

    def _unwrap_record(self, record: Record, context: WrapContext, deadline: float) -> bytes | bytearray:
        ref = self.open(deadline)
        wraps = [
            wrap for wrap in record.wraps if wrap.role == ROLE_ONLINE and (wrap.scheme, wrap.ref) == (self.scheme, ref)
        ]
        if not wraps:
            raise errors.NoConfiguredMember(f"key {self.name} is {self.scheme} {ref}, which this record does not name")
        # A record names a key twice only if it was wrapped under two of its versions; the last is the newest.
        wrap = wraps[-1]
        answer: bytes | bytearray = self._call(
            self._instance, "unwrap", deadline, wrap.blob, context, wrap.version, in_line=True
        )
        return answer

    # Threads.

    def _housekeep(self, operation: str, deadline: float, *args: object) -> Any:
        # Opened before it takes a place in the lane.
        self.open(deadline)
        return self._wait(
            self._submit(self._housekeeping, self._instance, operation, deadline, *args), operation, deadline
        )

    def _submit(self, lane: Lane, instance: _Instance, operation: str, deadline: float, *args: object) -> Future[Any]:
        work = partial(self._call, instance, operation, deadline, *args)
        return self._start(lane, instance, operation, deadline, work)

    def _start(
        self, lane: Lane, instance: _Instance, operation: str, deadline: float, work: Callable[[], T]
    ) -> Future[T]:
        try:
            return lane.submit(deadline, work, partial(self._note_hang, instance, operation))
        except LaneClosedError:
            raise errors.Unavailable(f"key {self.name}: closed by a reload; try again") from None
        except RuntimeError:
            raise errors.Unavailable(f"key {self.name}: the system has no more threads; try again") from None

    def _wait(self, pending: Future[T], operation: str, deadline: float) -> T:
        try:
            return pending.result(timeout=max(0.0, deadline - time.monotonic()) + _GRACE)
        except TimeoutError:
            pending.cancel()
            raise self._no_answer(operation) from None

    def _no_answer(self, operation: str) -> errors.Unavailable:
        return errors.Unavailable(f"key {self.name}: {operation}: no answer within the time limit")

    def _note_hang(self, instance: _Instance, operation: str) -> errors.Unavailable:
        """Take note of a call that was given up. One that opens is not repeated beside the first."""
        instance.hung += 1
        instance.is_lost = instance.is_lost or operation == "open" or instance.hung >= HUNG_LIMIT
        background.aside(
            partial(
                log.error,
                "key.hangs",
                key=self.name,
                operation=operation,
                stuck=self._caller.stuck,
                msg="a call has not ended although its time is over; its thread is left to itself",
            )
        )
        return self._no_answer(operation)

    def _build_anew(self) -> None:
        """Put a new object in the place of one that hangs, whose locks and connections nobody may ever free."""
        lost = self._instance
        try:
            self._instance = _Instance(self._make())
        except Exception as exc:  # noqa: BLE001  a vendor may raise anything
            raise self._answers.failure("building anew", exc) from None
        log.warning("key.built_anew", key=self.name, msg="the provider hangs, and is built and opened again")
        with contextlib.suppress(errors.Unavailable):
            self._close_provider(lost)

    def _close_provider(self, instance: _Instance) -> Future[None]:
        deadline = time.monotonic() + CLOSING_SECONDS
        return self._start(self._housekeeping, instance, "close", deadline, partial(self._close_now, instance))

    def _close_now(self, instance: _Instance) -> None:
        try:
            instance.provider.close()
        except BaseException as exc:  # noqa: BLE001  a vendor may raise anything, and nobody waits for this key
            log.warning("key.close_failed", key=self.name, error=type(exc).__name__)

    # Calls.

    def _call(self, instance: _Instance, operation: str, deadline: float, *args: object, in_line: bool = False) -> Any:
        """Call a method of the provider, in a thread of a lane."""
        method: Callable[..., Any] = getattr(instance.provider, operation)

        def once() -> Any:
            try:
                return method(*args, deadline)
            finally:
                instance.hung = 0
                self._credential_expiry = _expiry_of(instance.provider)

        check = self._checks.get(operation, _taken)
        answer = self._caller.call(operation, once, check, deadline, in_line=in_line)
        return self._take_up(instance, answer) if operation == "open" else answer

    def _take_up(self, instance: _Instance, ref: str) -> str:
        """Use what has just opened, be it late, unless another one is in its place by now."""
        with self._opening:
            if instance is self._instance and not self._closed:
                self._ref, instance.is_open, instance.is_lost = ref, True, False
                return ref
        self._close_now(instance)
        raise self._no_answer("open")


def _taken(answer: Any) -> Any:
    return answer


def _expiry_of(provider: Provider[Any]) -> float | None:
    try:
        expiry: object = provider.credential_expiry
    except Exception:  # noqa: BLE001  a vendor may raise anything, and this is for information only
        return None
    return float(expiry) if isinstance(expiry, int | float) and math.isfinite(expiry) else None
