"""Reads a page of docs/operate: the files and the commands of its steps, in order, as a person would take them.

A block belongs to the headings above it. A file has its path in the paragraph above its block; commands begin with
`$ ` and go on after `> `; what is below a command is its output, in which `...` stands for any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPERATE = Path(__file__).parents[2] / "docs/operate"
BEGIN = "Before you begin"
ANY = re.compile(r"\.\.\.(?!\.)")
"""Of four dots the last three."""
BLOCK = re.compile(r"```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`(/(?:etc|usr)/[^`]+)`")


@dataclass(frozen=True)
class Command:
    """A command, and what it prints if the page shows that."""

    text: str
    output: str

    @property
    def may_fail(self) -> bool:
        """Whether the page shows that it fails."""
        return self.output.startswith(("Error", "FAIL"))

    def prints(self, seen: str) -> bool:
        """Tell whether the page shows this, or nothing; blanks count once."""
        if not self.output:
            return True
        lines = [
            r"(?:.*\n)*?" if line == "..." else f"{'.*?'.join(map(re.escape, ANY.split(line)))}\n"
            for line in _lines(self.output)
        ]
        return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in _lines(seen))) is not None


@dataclass(frozen=True)
class File:
    """A file with its content, or the lines of a manifest that matter."""

    path: str
    text: str


@dataclass(frozen=True)
class Commands:
    """The commands of one block, for one shell."""

    commands: tuple[Command, ...]


@dataclass(frozen=True)
class Step:
    """What belongs to one heading."""

    section: str
    heading: str
    blocks: tuple[File | Commands, ...]

    @property
    def everywhere(self) -> bool:
        """Whether it is for every node; if not, for the first one alone."""
        assert self.heading.endswith(("on every node", "once")) or self.heading == self.section, self.heading
        return not self.heading.endswith("once")


def read(name: str) -> list[Step]:
    """Return the steps of a page that have blocks."""
    steps = []
    for section, text in _parts((OPERATE / name).read_text(), "## "):
        for heading, part in _parts(text, "### "):
            blocks = tuple(_blocks(part))
            if blocks:
                steps.append(Step(section, heading or section, blocks))
    return steps


def _parts(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """Split a text at its headings of one level; what is above the first has an empty one."""
    inside = re.sub(BLOCK, lambda block: block[0].replace("\n#", "\n\0"), text)  # comments of scripts are no headings
    for number, part in enumerate(re.split(rf"^{mark}", inside, flags=re.MULTILINE)):
        heading, _, rest = part.partition("\n") if number else ("", "", part)
        yield heading, rest.replace("\0", "#")


def _blocks(text: str) -> Iterator[File | Commands]:
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        if language == "sh" and content.startswith("$ "):
            yield Commands(tuple(_commands(content)))
        elif found := PATH.search(text[: block.start()].rstrip().rpartition("\n\n")[2]):
            yield File(found[1], content)


def _commands(content: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        size = next((n for n, line in enumerate(lines) if n and not line.startswith("> ")), len(lines))
        yield Command("\n".join([lines[0], *(line[2:] for line in lines[1:size])]), "\n".join(lines[size:]))


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]
