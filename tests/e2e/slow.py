"""A remote KMS that is slow or away when a scenario wants it to be: the provider `slow`, from slow_provider/."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .plugin import command, local_key

PROVIDER = Path(__file__).parent / "slow_provider"


def program() -> list[str]:
    """Return the program to test, in an environment where the provider `slow` is installed."""
    path = os.pathsep.join([str(PROVIDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    return ["env", f"PYTHONPATH={path}", *command()]


class Remote:
    """The remote of every key of a scenario. At first each call takes no time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "remote"
        self.answers_after(0)

    def key(self, name: str) -> dict[str, Any]:
        """Make a key unless it is there, and return its entry for `keys:`."""
        return {**local_key(self._directory, name), "provider": "slow", "remote": str(self._file)}

    def answers_after(self, seconds: float) -> None:
        """Let every call take this long."""
        self._say(str(seconds))

    def goes_away(self) -> None:
        """Let every call fail as if nobody listened there."""
        self._say("away")

    def _say(self, what: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(what)
        new.replace(self._file)
