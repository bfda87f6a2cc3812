"""What Status says of the remote keys: a small machine over the outcomes of probes, with the clock passed in.

Outage and refusal differ. While the remote is merely away, nothing needs it: the local KEK is in memory and every
ciphertext carries its record. So Status stays `ok` for a grace period, for red health takes API servers out of
service. A definitive refusal of every key turns it red after three probes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from keystead import errors

FAILURES_TO_GO_DOWN = 3
SUCCESSES_TO_COME_UP = 2
_DENIALS = (errors.PermissionDenied, errors.KeyDisabled, errors.KeyNotFound)


class State(Enum):
    """State of the active members of an endpoint."""

    OK = "ok"
    DEGRADED = "degraded"
    LOST = "lost"
    LOST_LONG = "lost-long"
    DENIED = "denied"


@dataclass
class _KeyHealth:
    up: bool = True
    failures: int = 0
    denials: int = 0
    successes: int = 0
    failing_since: float = 0.0
    error: errors.KeysteadError | None = None


class Health:
    """Health of one endpoint. Not safe for concurrent use: its endpoint's own thread calls it."""

    def __init__(self) -> None:
        self._keys: dict[str, _KeyHealth] = {}

    def track(self, names: Iterable[str]) -> None:
        """Watch exactly these keys; what is known of those that stay is kept."""
        self._keys = {name: self._keys.get(name, _KeyHealth()) for name in names}

    def observe(self, name: str, error: errors.KeysteadError | None, now: float) -> None:
        """Take one outcome of a round trip at monotonic time `now`: an error, or `None` for success."""
        key = self._keys[name]
        if error is None:
            key.failures = key.denials = 0
            key.successes += 1
            if key.successes >= SUCCESSES_TO_COME_UP:
                key.up, key.error = True, None
            return
        if key.failures == 0:
            key.failing_since = now
        key.successes = 0
        key.failures += 1
        key.denials = key.denials + 1 if isinstance(error, _DENIALS) else 0
        key.error = error
        if key.failures >= FAILURES_TO_GO_DOWN:
            key.up = False

    @property
    def failing(self) -> bool:
        """Whether the last outcome of any key was a failure, or a key is still down: time to probe more often."""
        return any(key.failures > 0 or not key.up for key in self._keys.values())

    def state(self, now: float, grace: float) -> State:
        """The state at monotonic time `now`, with `grace` in seconds."""
        keys = self._keys.values()
        up = [key.up for key in keys]
        if all(up):
            return State.OK
        if any(up):
            return State.DEGRADED
        if all(key.denials >= FAILURES_TO_GO_DOWN for key in keys):
            return State.DENIED
        return State.LOST if self._lost_for(now) < grace else State.LOST_LONG

    def healthz(self, now: float, grace: float) -> str:
        """`ok`, or a short text without secrets that names the reason."""
        match self.state(now, grace):
            case State.DENIED:
                return f"remote denies key: {self._reasons()}"
            case State.LOST_LONG:
                return f"remote unreachable for {self._lost_for(now) / 60:.0f} min: {self._reasons()}"
            case _:
                return "ok"

    def down(self) -> dict[str, str]:
        """The keys that are down, with the last error."""
        return {name: str(key.error) for name, key in self._keys.items() if not key.up}

    def _lost_for(self, now: float) -> float:
        return now - max(key.failing_since for key in self._keys.values())

    def _reasons(self) -> str:
        return "; ".join(str(key.error) for key in self._keys.values())
