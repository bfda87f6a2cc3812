"""The configuration, the files that it names, and the state directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keystead import errors
from keystead.config import Configuration, Problem
from keystead.host.state import StateDir
from keystead.operate.doctor.book import Finding, found
from keystead.operate.doctor.machine import Machine
from keystead.provider import ProviderConfig

PUBLIC = frozenset({"caFile", "certFile"})
"""Fields of files that are no secret."""
_OTHERS = stat.S_IRWXO
_FOREIGN_WRITE = stat.S_IWGRP | stat.S_IWOTH
FUTURE = 300.0
"""Seconds by which clocks of nodes that share a state may differ."""


def configuration(
    source: Path | None, problems: list[Problem], warnings: list[Problem], machine: Machine
) -> Iterator[Finding]:
    """What lint says, and who may write the file. `source` is `None` for a configuration that is no file."""
    name = str(source or "the configuration")
    for problem in problems:
        yield found(1, "fail", name, located(problem))
    for warning in warnings:
        yield found(2, "warn", name, located(warning))
    if source is None or not source.exists():
        return
    status = source.stat()
    if status.st_uid not in (0, machine.uid):
        yield found(3, "fail", name, f"it belongs to user {status.st_uid}")
    elif status.st_mode & _FOREIGN_WRITE:
        yield found(3, "fail", name, f"mode {stat.S_IMODE(status.st_mode):04o}")
    yield from _directory(source.parent)


def located(problem: Problem) -> str:
    """A problem without the name of its file, which is the subject already."""
    where = f"line {problem.line}: " if problem.line else ""
    return f"{where}{problem.path}: {problem.message}" if problem.path else f"{where}{problem.message}"


def named_files(key: ProviderConfig) -> dict[str, Path]:
    """Every file that an entry of keys names, by its field."""
    return dict(_paths(key.model_dump(by_alias=True), ""))


def _paths(value: Any, field: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(inner, f"{field}.{name}" if field else str(name))


def of_key(key: ProviderConfig) -> Iterator[Finding]:
    """The files of one key, and the directories that they are in."""
    directories: set[Path] = set()
    for field, path in named_files(key).items():
        subject = f"key {key.name}, {field}"
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
        except OSError as exc:
            yield found(4, "fail", subject, f"{path}: {exc.strerror}")
            continue
        directories.add(path.parent)
        secret = field.rpartition(".")[2] not in PUBLIC
        if mode & _FOREIGN_WRITE or (secret and mode & _OTHERS):
            yield found(5, "fail", subject, f"{path} has mode {stat.S_IMODE(mode):04o}")
    for directory in sorted(directories):
        yield from _directory(directory)


def _directory(path: Path) -> Iterator[Finding]:
    # Also for a sticky one: there others may not remove the file, but may make it first on a node that is new.
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        yield found(6, "fail", str(path), f"mode {stat.S_IMODE(mode):04o}")


def state(config: Configuration, machine: Machine) -> Iterator[Finding]:
    """The state directory, and the record of each endpoint in it."""
    path = config.state_dir
    if path is None:
        return
    there = path if path.exists() else _first_that_exists(path)
    mode = there.stat().st_mode
    if not stat.S_ISDIR(mode):
        yield found(7, "fail", str(path), f"{there} is not a directory")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield found(7, "fail", str(path), f"user {machine.uid} may not write to {there}")
    elif there == path and mode & stat.S_IWOTH:
        yield found(7, "fail", str(path), f"mode {stat.S_IMODE(mode):04o} lets others write")
    if machine.forgets(there):
        yield found(8, "warn", str(path), "it is in memory (tmpfs)")
    for endpoint in config.endpoints:
        yield from _record(config, endpoint.name, machine)


def _record(config: Configuration, endpoint: str, machine: Machine) -> Iterator[Finding]:
    assert config.state_dir is not None  # noqa: S101  the caller has looked
    directory = StateDir(config.state_dir / endpoint)
    try:
        stored = directory.read()
    except (OSError, errors.KeysteadError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else str(exc)
        yield found(9, "fail", f"endpoint {endpoint}", f"{directory.path / 'current'}: {said}")
        return
    if stored is None:
        return
    record = stored.record
    if record.cluster not in (config.cluster, *config.accept_clusters):
        yield found(9, "fail", f"endpoint {endpoint}", f"it is of cluster {record.cluster!r}, not {config.cluster!r}")
    ahead = record.created - machine.now()
    if ahead > FUTURE:
        yield found(11, "fail", f"endpoint {endpoint}", f"its record was made {ahead / 60:.0f} minutes from now")


def clock(machine: Machine) -> Iterator[Finding]:
    """Whether something keeps the clock."""
    kept = machine.clock_is_kept()
    if kept is None:
        yield found(10, "unknown", "clock", "the kernel does not tell")
    elif not kept:
        yield found(10, "warn", "clock", "not synchronised")


def _first_that_exists(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())
