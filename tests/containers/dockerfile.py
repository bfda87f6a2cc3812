"""A Dockerfile as a list of stages and instructions: as much of the form as ours use, and an error for the rest."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, continuation lines joined."""

    keyword: str
    text: str

    @property
    def flags(self) -> list[str]:
        """`--from=build` and the like, which stand between the keyword and its words."""
        match = re.match(r"(?:--\S+\s+)*", self.text)
        assert match is not None
        return match[0].split()

    @property
    def words(self) -> list[str]:
        """The words, of the form of a shell or of JSON, without flags."""
        bare = self.text[len(" ".join(self.flags)) :].strip()
        return list(json.loads(bare)) if bare.startswith("[") else shlex.split(bare)

    @property
    def commands(self) -> list[str]:
        """The commands of a RUN, one by one."""
        return [command.strip() for command in self.text.split("&&")]


@dataclass
class Stage:
    """What begins with FROM."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, keyword: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]


@dataclass(frozen=True)
class Dockerfile:
    """The lines of comment, the arguments before the first FROM, and the stages."""

    comments: list[str]
    arguments: dict[str, str]
    stages: list[Stage]

    @property
    def instructions(self) -> list[Instruction]:
        return [instruction for stage in self.stages for instruction in stage.instructions]


def read(path: Path) -> Dockerfile:
    """Read a file. Instructions have to be in capitals, as in all ours."""
    comments, arguments, stages = [], {}, []
    lines = path.read_text().splitlines()
    while lines:
        line = lines.pop(0)
        if line.startswith("#"):
            comments.append(line)
        elif line.strip():
            while line.endswith("\\"):
                line = line[:-1].rstrip() + " " + lines.pop(0).strip()
            keyword, _, text = line.partition(" ")
            assert re.fullmatch("[A-Z]+", keyword), line
            instruction = Instruction(keyword, text.strip())
            if keyword == "FROM":
                base, _, name = instruction.text.partition(" AS ")
                stages.append(Stage(base, name))
            elif stages:
                stages[-1].instructions.append(instruction)
            else:
                assert keyword == "ARG", line
                argument, _, value = instruction.text.partition("=")
                arguments[argument] = value
    return Dockerfile(comments, arguments, stages)
