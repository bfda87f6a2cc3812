"""Time, passed in so that tests need not wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a process. Spans are measured on the monotonic one, for the other may jump."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    """Unix seconds."""

    def unix(self, moment: float) -> float:
        """Say in Unix seconds, as the wall clock stands now, when the monotonic clock showed `moment`."""
        return self.wall() - (self.monotonic() - moment)
