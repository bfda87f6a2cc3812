"""When a key may become active: the part of a rollout that one node can enforce by itself. Pure.

A node that writes under a key which another node cannot use makes that node's reads fail. Nodes do not know of each
other, so the operator brings a new key to all nodes as `decrypt` first (R1), and the plugin holds it back until this
node has had it so for a while (R2) and has used it itself (R3). `docs/spec/rollout.md` has the proof.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass

PROOF_LIFE = 300.0
"""Seconds for which an own round trip with a key says that it works."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that is configured as active and is not in the record in use."""

    name: str
    soak_left: float | None
    """Seconds; `None` if this node never had it as `decrypt`."""
    proof_age: float | None
    """Seconds since its last wrap and unwrap here; `None` if there was none."""
    error: str | None = None
    """Why there was none lately."""


def soak_left(staged_since: float | None, soak: float, now: float) -> float | None:
    """Return the seconds that are left of a soak; `None` for a key that was never `decrypt` here."""
    if soak <= 0:
        return 0.0
    return None if staged_since is None else max(0.0, staged_since + soak - now)


def hold(candidates: Collection[Candidate], wall: float) -> str | None:
    """Say why these keys may not become active yet, and the way out; `None` if they may. `wall` is in Unix seconds."""
    for key in candidates:
        if key.soak_left is None:
            return (
                f"key {key.name} is active here without having been decrypt before: apply stage decrypt on every node "
                f"first, until keystead status shows it PROVEN on all of them"
            )
        if key.soak_left > 0:
            # Rounded up to the minute, so that the text stays the same while it is waited for.
            until = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(math.ceil((wall + key.soak_left) / 60) * 60))
            return (
                f"key {key.name} has not been decrypt on this node for long enough, and others may still lack it: wait "
                f"until {until}, when it becomes active by itself"
            )
        if key.proof_age is None or key.proof_age > PROOF_LIFE:
            said = key.error or "nothing was tried yet"
            return f"key {key.name} has not wrapped and unwrapped on this node in the last 5 min: mend this: {said}"
    return None
