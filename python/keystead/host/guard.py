"""The host's face of one configured key: it runs the provider's calls and distrusts their answers.

Each call has a thread of the key's own and a deadline that holds even if the provider ignores it, so one hung KMS
blocks nobody else. What fails in a way that may pass is tried once more if time is left. Every error leaves with the
key's name in front and one of the classes of `keystead.errors`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from keystead import errors
from keystead._core import ROLE_ONLINE, Record, Wrap
from keystead.host.limits import Bucket
from keystead.host.observer import Observer
from keystead.provider import KEK_SIZE, Provider, ProviderConfig, WrapContext, Wrapped

_HOUSEKEEPING_CALLS = 2
_MAX_REF = 512
_MAX_VERSION = 64
_GRACE = 0.1
"""Seconds that a provider may overrun its deadline, to raise its own error, which says more than ours."""

RETRY_NEEDS = 0.8
"""Seconds that must be left of a deadline for a second attempt to be worth its load on the remote."""
RETRY_PAUSE = (0.05, 0.15)
"""Seconds before it, at random, so that the nodes of a cluster do not come back in step."""

T = TypeVar("T")

log = structlog.get_logger("keystead.guard")


class Guard:
    """One key of the configuration, shared by all endpoints that have it as a member. Safe to use from many threads."""

    def __init__(
        self, key: ProviderConfig, make: Callable[[], Provider[Any]], observer: Observer | None = None
    ) -> None:
        provider = make()
        self.name = key.name
        self.scheme = key.provider
        self.notice = provider.notice
        self.failing = False
        """Whether the last call failed in a way that may pass: then other members are asked before this one."""
        self._provider = provider
        self._observer = observer
        self._limits = key.limits
        self._pinned = key.version
        self._bucket = Bucket(key.limits.rate, key.limits.concurrency, time.monotonic())
        self._counting = threading.Lock()
        self._ref: str | None = None
        self._opening = threading.Lock()
        self._opened: Future[str] | None = None
        # Unwraps have threads apart from the rest, so that a flood of them cannot delay opening and minting.
        self._unwraps = ThreadPoolExecutor(key.limits.concurrency, thread_name_prefix=f"unwrap-{key.name}")
        self._housekeeping = ThreadPoolExecutor(_HOUSEKEEPING_CALLS, thread_name_prefix=f"key-{key.name}")

    @property
    def ref(self) -> str | None:
        """What names the remote key in records; `None` until the key is open."""
        return self._ref

    def start_open(self, deadline: float) -> Future[str]:
        """Open the provider unless it is open or opening; the future ends with the ref or a `ProviderError`."""
        with self._opening:
            if self._opened is None or (self._opened.done() and self._ref is None):
                self._opened = self._submit(self._housekeeping, "open", deadline)
            return self._opened

    def open(self, deadline: float) -> str:
        """Open the provider unless it is open, and return the ref."""
        ref = self._ref
        return ref if ref is not None else self._wait(self.start_open(deadline), deadline)

    def current_version(self, deadline: float) -> str | None:
        """Ask which version a new wrap should use, unless the configuration says it."""
        if self._pinned is not None:
            return self._pinned
        version = self._wait(self._submit(self._housekeeping, "current_version", deadline), deadline)
        return None if version is None else self._checked_version(version)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        """Wrap, and check the form of the answer; whether it unwraps again is the caller's to try."""
        pending = self._submit(self._housekeeping, "wrap", deadline, kek, context, version)
        answer = self._wait(pending, deadline)
        if not isinstance(answer, Wrapped):
            raise self._misbehaved(f"wrap returned {type(answer).__name__} instead of Wrapped")
        self._checked_version(answer.version)
        limit = self._provider.capabilities.max_blob
        blob: object = answer.blob  # whatever the adapter says: that it is bytes is still to be seen
        if not isinstance(blob, bytes) or not 1 <= len(blob) <= limit:
            raise self._misbehaved(f"wrap returned a blob that is not 1 to {limit} bytes")
        if version is not None and answer.version != version:
            raise self._misbehaved(f"wrap used version {answer.version!r}, asked was {version!r}")
        return answer

    def unwrap(self, wrap: Wrap, context: WrapContext, deadline: float) -> bytes | bytearray:
        """Unwrap in a housekeeping thread, for a mint or a probe."""
        pending = self._submit(self._housekeeping, "unwrap", deadline, wrap.blob, context, wrap.version)
        kek: bytes | bytearray = self._wait(pending, deadline)
        return kek

    def start_unwrap(self, record: Record, context: WrapContext, deadline: float) -> Future[bytes | bytearray]:
        """Start to unwrap a record for a Decrypt, opening the key first if need be.

        The future ends with the 32 bytes, `NoConfiguredMember` if the record does not name this key, or a
        `ProviderError`; it may be late.
        """
        return self._start(self._unwraps, self._unwrap_record, record, context, deadline)

    def close(self) -> None:
        """Close the provider. Calls that still run end by themselves."""
        self._unwraps.shutdown(wait=False)
        self._housekeeping.shutdown(wait=False)
        self._ref = None
        try:
            self._provider.close()
        except Exception as exc:  # noqa: BLE001  a vendor may raise anything
            # The other keys are still to be closed, and nobody waits for this one.
            log.warning("key.close_failed", key=self.name, error=type(exc).__name__)

    def _unwrap_record(self, record: Record, context: WrapContext, deadline: float) -> bytes | bytearray:
        ref = self.open(deadline)
        wraps = [
            wrap for wrap in record.wraps if wrap.role == ROLE_ONLINE and (wrap.scheme, wrap.ref) == (self.scheme, ref)
        ]
        if not wraps:
            raise errors.NoConfiguredMember(f"key {self.name} is {self.scheme} {ref}, which this record does not name")
        # A record names a key twice only if it was wrapped under two of its versions; the last is the newest.
        wrap = wraps[-1]
        answer: bytes | bytearray = self._call("unwrap", deadline, wrap.blob, context, wrap.version, in_line=True)
        return answer

    def _submit(self, pool: ThreadPoolExecutor, operation: str, deadline: float, *args: object) -> Future[Any]:
        return self._start(pool, self._call, operation, deadline, *args)

    def _start(self, pool: ThreadPoolExecutor, work: Callable[..., T], *args: object) -> Future[T]:
        try:
            return pool.submit(work, *args)
        except RuntimeError:
            raise errors.Unavailable(f"key {self.name}: closed by a reload; try again") from None

    def _call(self, operation: str, deadline: float, *args: object, in_line: bool = False) -> Any:
        """Call a method of the provider, and once more if that may help. `in_line` calls wait for the rate limit."""
        if time.monotonic() >= deadline:
            raise errors.Unavailable(
                f"key {self.name}: {operation}: too many calls before this one; limits.concurrency is "
                f"{self._limits.concurrency}"
            )
        self._wait_for_turn(operation, deadline, in_line=in_line)
        try:
            return self._observed(operation, deadline, *args)
        except errors.ProviderError as exc:
            if not exc.transient or deadline - time.monotonic() < RETRY_NEEDS:
                raise
            failure = exc
        # No library for retries: those at hand log the arguments of what they repeat, which are keys here.
        time.sleep(random.uniform(*RETRY_PAUSE))  # noqa: S311  jitter is no secret
        try:
            self._wait_for_turn(operation, deadline, in_line=in_line)
        except errors.Throttled:
            raise failure from None
        return self._observed(operation, deadline, *args)

    def _wait_for_turn(self, operation: str, deadline: float, *, in_line: bool) -> None:
        """Keep to the rate. Opening, minting and probing go first, so that no flood of Decrypts can starve them."""
        now = time.monotonic()
        with self._counting:
            if not in_line:
                self._bucket.take(now)
                return
            wait = self._bucket.reserve(now, deadline)
        if wait is None:
            raise errors.Throttled(
                f"key {self.name}: {operation}: not sent, for limits.rate of {self._limits.rate} calls per second is "
                "used up for as long as this call has time"
            )
        time.sleep(wait)

    def _observed(self, operation: str, deadline: float, *args: object) -> Any:
        started = time.monotonic()
        failure: errors.ProviderError | None = None
        try:
            return self._attempt(operation, deadline, *args)
        except errors.ProviderError as exc:
            failure = exc
            raise
        finally:
            self.failing = failure is not None and failure.transient
            if self._observer is not None:
                self._observer.called(self.name, self.scheme, operation, time.monotonic() - started, failure)

    def _attempt(self, operation: str, deadline: float, *args: object) -> Any:
        method: Callable[..., Any] = getattr(self._provider, operation)
        try:
            answer = method(*args, deadline)
        except errors.ProviderError as exc:
            raise self._prefixed(operation, exc) from None
        except BaseException as exc:  # noqa: BLE001  the thread is ours, and a Rust panic is no Exception
            # The text of an exception that nobody classified may hold anything, so only its type is passed on, and no
            # cause that a traceback would show.
            raise self._misbehaved(
                f"{operation} raised {type(exc).__name__}, which the adapter should translate"
            ) from None
        if operation == "unwrap":
            return self._checked_kek(answer)
        if operation == "open":
            self._ref = self._checked_ref(answer)
        return answer

    def _wait(self, pending: Future[T], deadline: float) -> T:
        try:
            return pending.result(timeout=max(0.0, deadline - time.monotonic()) + _GRACE)
        except TimeoutError:
            pending.cancel()
            raise errors.Unavailable(f"key {self.name}: no answer within the time limit") from None

    def _prefixed(self, operation: str, exc: errors.ProviderError) -> errors.ProviderError:
        known = next((base for base in type(exc).__mro__ if base.__module__ == errors.__name__), errors.ProviderError)
        if known is errors.ProviderError:
            return self._misbehaved(f"{operation} raised {type(exc).__name__}, which names no class of error")
        prefixed: errors.ProviderError = known(f"key {self.name}: {operation}: {exc}")
        return prefixed

    def _checked_ref(self, ref: object) -> str:
        if not isinstance(ref, str) or not 1 <= len(ref) <= _MAX_REF or not _is_printable(ref):
            raise self._misbehaved(f"open returned a ref that is not 1 to {_MAX_REF} printable ASCII characters")
        return ref

    def _checked_version(self, version: object) -> str:
        if not isinstance(version, str) or len(version) > _MAX_VERSION or not _is_printable(version):
            raise self._misbehaved(f"a version is not a string of up to {_MAX_VERSION} printable ASCII characters")
        return version

    def _checked_kek(self, kek: object) -> bytes | bytearray:
        if not isinstance(kek, bytes | bytearray):
            raise self._misbehaved(f"unwrap returned {type(kek).__name__} instead of bytes")
        if len(kek) != KEK_SIZE:
            raise self._misbehaved(f"unwrap returned {len(kek)} bytes instead of {KEK_SIZE}")
        return kek

    def _misbehaved(self, what: str) -> errors.Misbehaved:
        return errors.Misbehaved(f"key {self.name}: {what}")


def _is_printable(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)
