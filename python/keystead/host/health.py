"""What Status says of the remote keys: a small machine over the outcomes of round trips. Pure: clocks are passed in.

Outage and refusal differ. While the remote is merely away, nothing needs it: the local KEK is in memory and every
ciphertext carries its record. So Status stays `ok` for a grace period, for red health takes API servers out of
service. A definitive refusal by every key turns it red after three probes, for somebody has decided it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum

from keystead import errors

FAILURES_TO_GO_DOWN = 3
SUCCESSES_TO_COME_UP = 2
DENIALS = (errors.PermissionDenied, errors.KeyDisabled, errors.KeyNotFound)
"""Somebody has decided that this key may not be used; waiting does not help."""


class State(Enum):
    """State of an endpoint. All but the first and the last are about its active online keys."""

    INIT = "init"
    """There is no local KEK in use."""
    OK = "ok"
    DEGRADED = "degraded"
    """Some are down."""
    LOST = "lost"
    """All are down, for less than the grace period."""
    LOST_LONG = "lost-long"
    DENIED = "denied"
    """All are down, and all refuse."""
    UNSAFE = "unsafe"
    """What was sealed did not open."""


@dataclass(frozen=True, slots=True)
class KeyHealth:
    """What is known of one key. A value: `after` makes the next one. Times are monotonic seconds."""

    up: bool = True
    since: float | None = None
    """When it went down or came up, or was first heard of."""
    failures: int = 0
    """Without a success between them."""
    denials: int = 0
    """Refusals at the end of these."""
    successes: int = 0
    """Without a failure between them."""
    failing_since: float = 0.0
    last_success: float | None = None
    error: errors.KeysteadError | None = None
    """What it failed with last, until it is up again."""

    @property
    def failing(self) -> bool:
        """Whether the last outcome was a failure, or it is still down: time to look more often."""
        return self.failures > 0 or not self.up

    def after(self, error: errors.KeysteadError | None, now: float) -> KeyHealth:
        """Take one outcome of a round trip, of a probe or of real traffic: an error, or `None` for success."""
        return self._succeeded(now) if error is None else self._failed(error, now)

    def _succeeded(self, now: float) -> KeyHealth:
        successes = self.successes + 1
        up = self.up or successes >= SUCCESSES_TO_COME_UP
        return replace(
            self,
            up=up,
            since=now if self.since is None or up is not self.up else self.since,
            failures=0,
            # One success does not take back a refusal: it may have come from a replica that has not heard of it.
            denials=0 if up else self.denials,
            successes=successes,
            last_success=now,
            error=None if up else self.error,
        )

    def _failed(self, error: errors.KeysteadError, now: float) -> KeyHealth:
        failures = self.failures + 1
        # Wrong bytes are no matter of luck: a key that returned them is not used again before it has proven itself.
        up = self.up and failures < FAILURES_TO_GO_DOWN and not isinstance(error, errors.Misbehaved)
        return replace(
            self,
            up=up,
            since=now if self.since is None or up is not self.up else self.since,
            failures=failures,
            denials=self.denials + 1 if isinstance(error, DENIALS) else 0,
            successes=0,
            failing_since=now if self.failures == 0 else self.failing_since,
            error=error,
        )


def state_of(keys: Collection[KeyHealth], now: float, grace: float, *, ready: bool = True, safe: bool = True) -> State:
    """Return the state at monotonic time `now`.

    `keys` are the active online ones, `grace` is in seconds, `ready` tells whether there is a local KEK, `safe` whether
    what it seals opens.
    """
    if not safe:
        return State.UNSAFE
    if not ready:
        return State.INIT
    if all(key.up for key in keys):
        return State.OK
    if any(key.up for key in keys):
        return State.DEGRADED
    if all(key.denials >= FAILURES_TO_GO_DOWN for key in keys):
        return State.DENIED
    return State.LOST if lost_for(keys, now) < grace else State.LOST_LONG


def healthz(state: State, keys: Collection[KeyHealth], now: float) -> str:
    """`ok`, or a short text without secrets that names the reason. `INIT` has a text that its caller knows better."""
    match state:
        case State.DENIED:
            return f"remote denies key: {_reasons(keys)}"
        case State.LOST_LONG:
            return f"remote unreachable for {lost_for(keys, now) / 60:.0f} min: {_reasons(keys)}"
        case State.UNSAFE:
            return "self-test failed"
        case State.INIT:
            return "starting"
        case _:
            return "ok"


def lost_for(keys: Collection[KeyHealth], now: float) -> float:
    """Seconds since the key that failed last began to fail."""
    return now - max(key.failing_since for key in keys)


def _reasons(keys: Collection[KeyHealth]) -> str:
    return "; ".join(str(key.error) for key in keys)
