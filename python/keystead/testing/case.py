"""What a rule for providers works with: instances of the provider, the sandbox, the proxy, and ways to judge a call."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from keystead import errors
from keystead.provider import Capabilities, Provider, ProviderConfig, WrapContext, Wrapped
from keystead.testing.proxy import FaultProxy
from keystead.testing.quality import Quality
from keystead.testing.rules import Broken, NotApplicable, NotShown
from keystead.testing.sandbox import Sandbox

PATIENCE = 20.0
"""Seconds for a call that nothing disturbs."""
BACK = 5.0
"""Seconds within which a remote that is back must be noticed."""
BRIEF = 1.0
"""Seconds for a call that something disturbs."""
SLACK = 0.1
"""Part of its time by which a call may overrun, and seconds at the least: the host waits as long for an answer."""
TRIES = 2
"""Measurements of time before a rule is called broken: a busy machine is late now and then, a faulty adapter always."""
SPOILT = 10
"""Measurements that the machine itself may spoil before it is said to be too busy."""
SHOWN = 300
"""Characters of a message that a report quotes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one call of a provider did."""

    answer: Any
    error: BaseException | None
    seconds: float

    def __str__(self) -> str:
        if self.error is None:
            return f"an answer ({_brief(self.answer)}) after {self.seconds:.2f} s"
        return f"{describe(self.error)} after {self.seconds:.2f} s"


class Case:
    """One provider, as its author's fixture made it, and the means to try it. Close it at the end."""

    def __init__(
        self,
        provider: Provider[Any],
        sandbox: Sandbox | None = None,
        proxy: FaultProxy | None = None,
        quality: Quality | None = None,
    ) -> None:
        self.provider_type: type[Provider[Any]] = type(provider)
        self.config: ProviderConfig = provider.config
        self.sandbox = sandbox or Sandbox()
        self.quality = quality or Quality()
        self._proxy = proxy
        self._made: list[Provider[Any]] = [provider]

    @property
    def capabilities(self) -> Capabilities:
        return self.provider_type.capabilities

    def proxy(self, *, tls: bool = False) -> FaultProxy:
        """Return the proxy between the provider and its remote. Raises `NotShown` if the fixture uses none."""
        if self._proxy is None or not self._proxy.used:
            raise NotShown("the fixture `provider` does not go through the fixture `fault_proxy`")
        if tls and not self._proxy.has_tls:
            raise NotShown("the fixture `provider` uses `fault_proxy` without tls=True")
        return self._proxy

    def new(self) -> Provider[Any]:
        """Make another instance of the provider from the same configuration, as another node or a restart does."""
        made = self.provider_type(self.config)
        self._made.append(made)
        return made

    def opened(self) -> Provider[Any]:
        """Make an instance and open it."""
        made = self.new()
        must_answer("open", lambda: made.open(soon()))
        return made

    def close(self) -> None:
        """Close every instance, whatever it says: closing is judged by a rule of its own."""
        for made in self._made:
            with contextlib.suppress(Exception):
                made.close()


def soon(seconds: float = PATIENCE) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def new_kek() -> bytes:
    """Return 32 random bytes."""
    return os.urandom(32)


def new_context(cluster: str = "conformance") -> WrapContext:
    """Return a context with a random kek_id."""
    return WrapContext(os.urandom(32), cluster)


def attempt(call: Callable[[], Any]) -> Attempt:
    """Call, and keep whatever comes of it."""
    started = time.monotonic()
    try:
        answer = call()
    except Exception as exc:  # noqa: BLE001  an adapter may raise anything, and the rules judge it
        return Attempt(None, exc, time.monotonic() - started)
    return Attempt(answer, None, time.monotonic() - started)


def must_answer(what: str, call: Callable[[], T]) -> T:
    """Call, and return the answer; an error breaks the rule."""
    done = attempt(call)
    if done.error is not None:
        raise Broken(f"{what} answers", str(done)) from done.error
    answer: T = done.answer
    return answer


def must_refuse(what: str, call: Callable[[], Any], *classes: type[errors.ProviderError]) -> errors.ProviderError:
    """Call, and return the error, which must be one of `classes`; an answer breaks the rule."""
    done = attempt(call)
    if not isinstance(done.error, classes):
        raise Broken(f"{what} raises {' or '.join(one.__name__ for one in classes)}", str(done)) from done.error
    return done.error


def must_end_in_time(what: str, call: Callable[[float], Any], *classes: type[errors.ProviderError]) -> None:
    """Call with little time; it must raise one of `classes`, at most `SLACK` late. Tried again if it is a little late.

    `call` gets the deadline. Raises `NotShown` on a machine that is too busy to tell.
    """
    allowed = BRIEF + max(SLACK, BRIEF * SLACK)
    late = 0
    for _ in range(SPOILT):
        with Pace() as pace:
            done = attempt(lambda: call(soon(BRIEF)))
        if not isinstance(done.error, classes):
            raise Broken(f"{what} raises {' or '.join(one.__name__ for one in classes)}", str(done)) from done.error
        if done.seconds <= allowed:
            return
        # What this process lost meanwhile for want of a processor is no fault of the adapter.
        late += done.seconds - allowed > pace.lost
        if late >= TRIES:
            raise Broken(f"{what} ends within its deadline of {BRIEF:g} s, {allowed:g} s at most", str(done))
    raise NotShown(f"this machine is too busy to measure a second: {what} took {done.seconds:.2f} s")


def until_it_passes(call: Callable[[], Any], passes: type[errors.ProviderError]) -> Attempt:
    """Call again while an error `passes`, for `BACK` seconds and as many as the machine has lost meanwhile."""
    ends = soon(BACK)
    with Pace() as pace:
        done = attempt(call)
        while isinstance(done.error, passes) and time.monotonic() < ends + min(pace.lost, SPOILT * BACK):
            time.sleep(0.05)
            done = attempt(call)
    return done


class Pace:
    """Measures how much time a thread that only sleeps loses, by as many seconds as it is woken late."""

    TICK = 0.01

    def __init__(self) -> None:
        self.lost = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="pace")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(self.TICK):
            now = time.monotonic()
            self.lost += max(0.0, now - before - 2 * self.TICK)
            before = now


def wrapped(provider: Provider[Any], kek: bytes, context: WrapContext, version: str | None = None) -> Wrapped:
    """Wrap; an error, or an answer that is no `Wrapped`, breaks the rule."""
    answer = must_answer("wrap", lambda: provider.wrap(kek, context, version, soon()))
    if not isinstance(answer, Wrapped):
        raise Broken("wrap returns keystead.provider.Wrapped", f"an answer ({_brief(answer)})")
    return answer


def unwraps(provider: Provider[Any], made: Wrapped, kek: bytes, context: WrapContext, what: str = "unwrap") -> None:
    """Unwrap; anything but `kek` breaks the rule."""
    answer = must_answer(what, lambda: provider.unwrap(made.blob, context, made.version, soon()))
    if not is_key(answer, kek):
        raise Broken(f"{what} returns the key that was wrapped", f"another answer ({_brief(answer)})")


def recovers(
    provider: Provider[Any],
    made: Wrapped,
    kek: bytes,
    context: WrapContext,
    what: str,
    passes: type[errors.ProviderError] = errors.Unavailable,
) -> None:
    """Unwrap, again and again while an error `passes`, for as long as a remote that is back may go unnoticed."""
    done = until_it_passes(lambda: provider.unwrap(made.blob, context, made.version, soon(BACK)), passes)
    if done.error is not None:
        raise Broken(f"{what}, within {BACK:g} s", str(done)) from done.error
    if not is_key(done.answer, kek):
        raise Broken(f"{what}: the key that was wrapped", "another one")


def is_key(answer: object, kek: bytes) -> bool:
    """Whether an answer of `unwrap` is this key."""
    return isinstance(answer, bytes | bytearray) and bytes(answer) == kek


def describe(exc: BaseException) -> str:
    """Name an error with its class and the beginning of its text."""
    kind = type(exc)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    passing = " (may pass by itself)" if isinstance(exc, errors.ProviderError) and exc.transient else ""
    return f"raised {name}{passing}: {str(exc)[:SHOWN] or 'without a text'}"


def needs_capability(case: Case, name: str) -> None:
    """Leave a rule out for a provider that declares that it cannot do this."""
    if not getattr(case.capabilities, name):
        raise NotApplicable(f"capabilities.{name} is False")


@contextlib.contextmanager
def undisturbed(what: str) -> Iterator[None]:
    """Name the fault of a bench that fails by itself, which is no fault of the provider."""
    try:
        yield
    except (Broken, NotShown, NotApplicable):
        raise
    except errors.ProviderError as exc:
        raise RuntimeError(f"the bench, not the provider: {what}: {exc}") from exc


def _brief(answer: object) -> str:
    """Say what an answer is without showing key bytes."""
    if isinstance(answer, bytes | bytearray | memoryview):
        return f"{len(answer)} bytes, {type(answer).__name__}"
    if isinstance(answer, Wrapped):
        return f"Wrapped({_brief(answer.blob)}, version {answer.version!r})"
    return f"{type(answer).__name__} {str(answer)[:60]!r}" if isinstance(answer, str) else type(answer).__name__
