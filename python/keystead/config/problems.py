"""What is wrong with a configuration, and where: one problem a line, all of them at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from keystead.errors import ConfigError

Location: TypeAlias = tuple[str | int, ...]
"""The way from the top of the configuration to a value: names of fields and indices of lists."""

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change. `line` and `column` count from 1; 0 where there is no file."""

    message: str
    path: str = ""
    source: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigInvalid(ConfigError):
    """The configuration cannot be used. The text lists every problem, one a line, in the file's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda one: (one.source, one.line, one.column))
        super().__init__("\n".join(map(str, self.problems)))


def path_text(location: Location) -> str:
    """Write a location as `endpoints[0].localKEK.maxAge`. A name of other characters is quoted and cut short."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif PLAIN_NAME.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part[:64])}]"
    return text
