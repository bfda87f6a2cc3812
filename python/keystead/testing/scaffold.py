"""Makes a package for a new provider of a working one in `template/`, by putting another name for `acme`.

A file in the package remembers what was made, so that a later release can bring its fixes: a file that its owner has
not touched is replaced, and beside one that he has, the new one is laid.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from keystead import __version__

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 32
RECORD = ".keystead-template.json"
_NOT_OURS = ("__pycache__", ".pyc")


class ScaffoldError(Exception):
    """Nothing was written; the text says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one file."""

    path: str
    what: str


def create(name: str, directory: Path) -> list[str]:
    """Write a new package into `directory`, which must be empty or not exist, and return the paths."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ScaffoldError(
            f"{name[:40]!r} cannot be a provider's name: it has 1 to {MAX_NAME} characters of a-z, 0-9 and -, begins "
            "with a letter and does not end with a dash"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ScaffoldError(f"{directory} exists and is not an empty directory")
    made = dict(render(name))
    for path, content in made.items():
        _write(directory / path, content)
    _remember(directory, name, made)
    return sorted(made)


def update(directory: Path) -> list[Change]:
    """Bring a package that was made by `create` to the template of this release, and return what changed."""
    name, known = _remembered(directory)
    made = dict(render(name))
    changes = []
    for path, content in sorted(made.items()):
        place = directory / path
        here = place.read_text() if place.is_file() else None
        if here == content or _hash(content) == known.get(path):
            continue  # it is as it should be, or the template has nothing new
        if here is None and path in known:
            changes.append(Change(path, "left out, as you removed it"))
        elif here is None:
            _write(place, content)
            changes.append(Change(path, "added"))
        elif _hash(here) == known.get(path):
            _write(place, content)
            changes.append(Change(path, "replaced"))
        else:
            _write(place.with_name(f"{place.name}.new"), content)
            changes.append(Change(path, f"kept, as you changed it; the new one is {place.name}.new"))
    _remember(directory, name, made)
    return changes


def render(name: str) -> Iterator[tuple[str, str]]:
    """Yield path and content of each file of the package for a provider `name`."""
    camel = "".join(part.capitalize() for part in name.split("-"))
    module = name.replace("-", "_")

    names = {"keystead_acme": f"keystead_{module}", "Acme": camel, "acme": name}

    def named(text: str) -> str:
        return re.sub("keystead_acme|Acme|acme", lambda found: names[found[0]], text)

    for path, content in _template(files("keystead.testing") / "template", PurePosixPath()):
        yield named(str(path)), named(content)


def _template(folder: Traversable, at: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for entry in folder.iterdir():
        if entry.name.endswith(_NOT_OURS):
            continue
        # Names with a dot in front are left out by tools that build packages.
        path = at / re.sub(r"^dot-", ".", entry.name)
        if entry.is_dir():
            yield from _template(entry, path)
        else:
            yield path, entry.read_text()


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _remember(directory: Path, name: str, made: dict[str, str]) -> None:
    record = {"name": name, "keystead": __version__, "files": {path: _hash(made[path]) for path in sorted(made)}}
    (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _remembered(directory: Path) -> tuple[str, dict[str, str]]:
    try:
        record = json.loads((directory / RECORD).read_text())
        name, known = record["name"], dict(record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ScaffoldError(
            f"{directory / RECORD} cannot be read: only a package that `keystead provider new` made can be updated"
        ) from None
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ScaffoldError(f"{directory / RECORD} has no name of a provider")
    return name, known


def _hash(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
