"""YAML text to plain values that remember their line and column.

The reader takes a small, unambiguous part of YAML 1.2: mappings, lists and scalars of the core schema. Anchors,
aliases, tags and further documents are refused, since a configuration of a page needs none of them and each has
surprised or harmed somebody (an alias bomb fits in a kilobyte). ruamel.yaml does the parsing; the values are made
here, because its constructors stop at the first duplicate and lose the places that a message should name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from keystead.config.problems import ConfigInvalid, Location, Problem, path_text

Node: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | None"
Mark: TypeAlias = tuple[int, int]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
"""Levels of nesting. The parser needs quadratic time for deeper ones, and no configuration has ten."""

EMPTY = "is empty; it needs at least keys and endpoints"

NULL = re.compile(r"|~|null|Null|NULL")
TRUE = re.compile(r"true|True|TRUE")
FALSE = re.compile(r"false|False|FALSE")
INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
OCTAL = re.compile(r"0o[0-7]{1,40}")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,40}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(slots=True)
class Document:
    """A configuration as values, before anything is known of their meaning."""

    name: str
    tree: Node
    values: dict[Location, Mark] = field(default_factory=dict)
    keys: dict[Location, Mark] = field(default_factory=dict)
    scalars: dict[Location, str] = field(default_factory=dict)
    """How a scalar that is not text was spelled: `0600` for 600."""

    def problem(self, location: Location, message: str, *, at_key: bool = False) -> Problem:
        """Place a message: at the value, at the name of its field, or at the closest thing around it that exists."""
        mark = self.keys.get(location) if at_key else None
        for end in range(len(location), -1, -1):
            mark = mark or self.values.get(location[:end])
        line, column = mark or (0, 0)
        return Problem(message, path_text(location), self.name, line, column)


def read(text: str, name: str) -> Document:
    """Parse one YAML document. Raises `ConfigInvalid` with what is not YAML, or not the part of it that is used."""
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise ConfigInvalid([Problem(f"is larger than {MAX_BYTES} bytes", source=name)])
    reader = _Reader(text, name)
    document = reader.read()
    if reader.problems:
        raise ConfigInvalid(reader.problems)
    return document


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.document = Document(name, None)
        self.problems: list[Problem] = []
        self.events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)

    def read(self) -> Document:
        try:
            self._document()
        except MarkedYAMLError as exc:
            self._report(_syntax(exc), exc.problem_mark or exc.context_mark)
        except ReaderError as exc:
            line = self.text.count("\n", 0, exc.position) + 1
            column = exc.position - self.text.rfind("\n", 0, exc.position)
            message = f"character U+{ord(self.text[exc.position]):04X} is not allowed in YAML"
            self.problems.append(Problem(message, source=self.document.name, line=line, column=column))
        return self.document

    def _document(self) -> None:
        next(self.events)
        start = next(self.events)
        if isinstance(start, StreamEndEvent):
            self._report(EMPTY)
            return
        if start.version not in (None, (1, 2)):
            self._report("is read as YAML 1.2; take the %YAML line away", start.start_mark)
        self.document.tree = self._node(next(self.events), ())
        if self.document.tree is None and not self.problems:
            self._report(EMPTY)
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                self._report("holds several YAML documents; a configuration is one", event.start_mark)
                return

    def _node(self, event: Any, location: Location) -> Node:
        self.document.values[location] = _position(event.start_mark)
        if len(location) > MAX_DEPTH:
            self._report(f"is nested more than {MAX_DEPTH} levels deep", event.start_mark)
            raise ConfigInvalid(self.problems)
        if event.anchor is not None:
            self._report("anchors and aliases are not supported; write the value out", event.start_mark, location)
        if isinstance(event, AliasEvent):
            return None
        if event.tag is not None:
            self._report("tags are not supported; write the plain value", event.start_mark, location)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(location)
        if isinstance(event, MappingStartEvent):
            return self._mapping(location)
        value = _scalar(event)
        if not isinstance(value, str):
            self.document.scalars[location] = event.value
        return value

    def _sequence(self, location: Location) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            items.append(self._node(event, (*location, len(items))))
        return items

    def _mapping(self, location: Location) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                self._report("the name of a field has to be text", event.start_mark, location)
                raise ConfigInvalid(self.problems)
            here = (*location, event.value)
            if event.anchor is not None or event.tag is not None:
                self._report("anchors and tags are not supported; write the plain name", event.start_mark, here)
            if first := self.document.keys.get(here):
                self._report(f"is given twice; the first is in line {first[0]}", event.start_mark, here)
            self.document.keys.setdefault(here, _position(event.start_mark))
            fields[event.value] = self._node(next(self.events), here)
            if fields[event.value] is None:
                # A value that is not there has no place of its own: the parser marks what comes after it.
                self.document.values[here] = _position(event.start_mark)
        return fields

    def _report(self, message: str, mark: Any = None, location: Location = ()) -> None:
        line, column = _position(mark) if mark is not None else (0, 0)
        self.problems.append(Problem(message, path_text(location), self.document.name, line, column))


def _position(mark: Any) -> Mark:
    return mark.line + 1, mark.column + 1


def _scalar(event: ScalarEvent) -> Node:
    """Apply the core schema of YAML 1.2 to a plain scalar; a quoted one is text. So `yes`, `0x` and dates are text."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if NULL.fullmatch(text):
        return None
    if TRUE.fullmatch(text) or FALSE.fullmatch(text):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        return int(text)
    if OCTAL.fullmatch(text) or HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    return float(text) if FLOAT.fullmatch(text) else text


def _syntax(exc: MarkedYAMLError) -> str:
    """Say what the parser said, without its excerpt of the file."""
    what = ", ".join(part for part in (exc.context, exc.problem) if part)
    hint = "; indent with spaces" if "\\t" in what else ""
    return f"is not YAML: {what}{hint}"
