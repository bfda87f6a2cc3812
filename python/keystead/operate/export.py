"""Writes decrypted objects to files that nobody else can read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keystead import errors
from keystead._core import Record, stored_value
from keystead.operate.keys_at_hand import KeyRefused, KeysAtHand
from keystead.operate.objects import Stored, decode, to_yaml
from keystead.operate.places import Place
from keystead.operate.store import Entry, Progress, Store

Form = Literal["yaml", "json"]
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST = 200
"""Bytes of a part of a path. Names of Kubernetes have 253, and file systems take 255 with the ending."""
MAX_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are wanted; an empty collection means all."""

    prefix: str
    resources: Collection[str] = ()
    namespaces: Collection[str] = ()
    names: Collection[str] = ()

    def __contains__(self, place: Place) -> bool:
        return (
            (not self.resources or place.resource in self.resources)
            and (not self.namespaces or place.namespace in self.namespaces)
            and (not self.names or place.name in self.names)
        )


@dataclass(slots=True)
class Export:
    """What was written, and what was not."""

    written: int = 0
    kept_as_stored: dict[str, int] = field(default_factory=dict)
    """Objects that were written as they are stored, by the reason."""
    not_encrypted: int = 0
    """Selected objects that no key protects: an etcd without Keystead shows them."""
    foreign: int = 0
    """Selected objects that somebody else encrypted."""
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, key: bytes, reason: str) -> None:
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append((key.decode(errors="backslashreplace"), reason))


def export(
    store: Store, selection: Selection, keys: KeysAtHand, directory: Path, form: Form, progress: Progress
) -> Export:
    """Decrypt what is selected into `directory`, which is made here and must be new or empty.

    Raises `FileExistsError` if it is not, `OSError` for what cannot be written, `Unreadable`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(0, "is not empty", str(directory))
    result = Export()
    opener = _Opener(keys)
    for entry in store.entries(progress):
        place = Place.of(entry.key, selection.prefix)
        if place is None or place not in selection:
            continue
        holder, _ = stored_value(entry.value)
        if holder.kind == "plaintext":
            result.not_encrypted += 1
        elif holder.problem:
            result.fail(entry.key, holder.problem)
        elif holder.record is None:
            result.foreign += 1
        else:
            try:
                content = opener.open(holder.record, entry)
            except (KeyRefused, errors.KeysteadError) as exc:
                result.fail(entry.key, str(exc))
            else:
                _write(directory, place, content, form, result)
    return result


class _Opener:
    """Opens objects, and asks for each record once, however many objects are under it."""

    def __init__(self, keys: KeysAtHand) -> None:
        self._keys = keys
        self._refused: dict[Record, str] = {}

    def open(self, record: Record, entry: Entry) -> bytes:
        if record in self._refused:
            raise KeyRefused(self._refused[record])
        if not self._keys.recovery.holds(record):
            try:
                self._keys.unwrap(record)
            except KeyRefused as exc:
                self._refused[record] = str(exc)
                raise
        return self._keys.recovery.open(entry.key, entry.value)


def _write(directory: Path, place: Place, content: bytes, form: Form, result: Export) -> None:
    decoded = decode(content)
    if isinstance(decoded, Stored):
        name, output = f"{_safe(place.name)}.stored", decoded.content
        result.kept_as_stored[decoded.reason] = result.kept_as_stored.get(decoded.reason, 0) + 1
    else:
        text = to_yaml(decoded.tree) if form == "yaml" else json.dumps(decoded.tree, indent=2)
        name, output = f"{_safe(place.name)}.{form}", text.encode()
    folder = directory
    for part in (place.resource, place.namespace):
        if part:
            folder /= _safe(part)
            folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(output)
    result.written += 1


def _safe(part: str) -> str:
    """Spell a part of a key as a part of a path. Whoever writes to etcd chooses it, so it may be `..`."""
    escaped = "".join(
        character if character in _SAFE else "".join(f"%{byte:02x}" for byte in character.encode(errors="replace"))
        for character in part
    )
    if escaped.startswith("."):
        escaped = f"%2e{escaped[1:]}"
    if len(escaped) <= _LONGEST:
        return escaped or "%"
    return f"{escaped[:_LONGEST]}~{hashlib.sha256(part.encode(errors='replace')).hexdigest()[:16]}"
