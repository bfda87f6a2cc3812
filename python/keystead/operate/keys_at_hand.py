"""The keys that somebody brings to a recovery: remote ones by their providers, and unwrapped ones as files."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keystead import errors
from keystead._core import Kek, Record, Recovery
from keystead.config import ConfigInvalid, Problem, read_file, single
from keystead.config.document import read as read_document
from keystead.host.guard import Guard
from keystead.provider import KEK_SIZE, ProviderConfig, WrapContext
from keystead.registry import provider_class

CALL_SECONDS = 10.0
"""Time for opening a key, and for each unwrap. Nobody waits for it but the one who typed the command."""
_FORBIDDEN_MODE = 0o077


class KeyRefused(Exception):
    """A key that was given cannot be used; the message says which and why."""


class KeysAtHand:
    """Unwraps records into a `Recovery`. Nothing is called before the first `unwrap`."""

    def __init__(self, keys: Sequence[ProviderConfig], kek_files: Iterable[Path]) -> None:
        """Read the files. Raises `KeyRefused`."""
        self.recovery = Recovery()
        self._keks = {kek.kek_id: (path, kek) for path in kek_files for kek in (_read_kek(path),)}
        self._guards = [Guard(key, partial(provider_class(key.provider), key)) for key in keys]
        self._closed: dict[str, str] = {}
        self.unavailable = False
        """Whether a remote could not be asked, so that its refusal proves nothing."""

    def __bool__(self) -> bool:
        return bool(self._keks or self._guards)

    def unwrap(self, record: Record) -> str:
        """Unwrap one record, check the result against it, and say by what. Raises `KeyRefused` with every reason."""
        reasons = []
        if record.kek_id in self._keks:
            path, kek = self._keks[record.kek_id]
            try:
                self.recovery.admit(record, kek.reveal())
                return str(path)
            except errors.NotAuthentic as exc:
                reasons.append(f"{path}: {exc}")
        for guard in self._guards:
            try:
                return self._unwrap_by(guard, record)
            except (errors.KeysteadError, KeyRefused) as exc:
                self.unavailable |= isinstance(exc, errors.ProviderError) and exc.transient
                reasons.append(str(exc))
        raise KeyRefused("; ".join(reasons) or "none of the given keys is for it")

    def close(self) -> None:
        """Close the providers."""
        for guard in self._guards:
            guard.close()

    def _unwrap_by(self, guard: Guard, record: Record) -> str:
        if guard.name in self._closed:
            raise KeyRefused(self._closed[guard.name])
        try:
            ref = guard.open(time.monotonic() + CALL_SECONDS)
        except errors.ProviderError as exc:
            # Once is enough: there may be thousands of records.
            self._closed[guard.name] = str(exc)
            raise
        wraps = [wrap for wrap in record.wraps if (wrap.scheme, wrap.ref) == (guard.scheme, ref)]
        if not wraps:
            named = ", ".join(f"{wrap.scheme} {wrap.ref}" for wrap in record.wraps)
            raise KeyRefused(f"key {guard.name} is {guard.scheme} {ref}, and the record names {named}")
        context = WrapContext(record.kek_id, record.cluster)
        kek = guard.unwrap(wraps[-1], context, time.monotonic() + CALL_SECONDS)
        try:
            self.recovery.admit(record, kek)
        except errors.NotAuthentic as exc:
            raise KeyRefused(f"key {guard.name}: what it unwrapped is not this local KEK: {exc}") from exc
        return f"key {guard.name}"


def key_of(provider: str, fields: Mapping[str, str]) -> ProviderConfig:
    """Build one key from a provider's name and its fields. Raises `ConfigInvalid`, `KeyRefused`."""
    if _only_wraps({"provider": provider}):
        raise KeyRefused(f"{provider} has the public half of its key only: see recover blobs, and give --kek-file")
    return _validated({"provider": provider, **fields})


def keys_in(path: Path) -> list[ProviderConfig]:
    """Read a file with one entry of `keys:`, a list of them, or a whole configuration. Raises `ConfigInvalid`.

    Keys that only wrap are left out: their private half is not here.
    """
    tree: Any = read_document(read_file(path), str(path)).tree
    if isinstance(tree, dict) and "keys" in tree:
        tree = tree["keys"]
    entries = tree if isinstance(tree, list) else [tree]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigInvalid([Problem("is not an entry of keys, a list of them, or a configuration", source=str(path))])
    return [_validated(entry) for entry in entries if not _only_wraps(entry)]


def _only_wraps(entry: Mapping[str, Any]) -> bool:
    """Whether a provider has a public key only. One that is not installed is left to the validation, which says so."""
    try:
        return not provider_class(str(entry.get("provider"))).capabilities.unwraps
    except errors.ConfigError:
        return False


def _validated(entry: Mapping[str, Any]) -> ProviderConfig:
    # The endpoint and the label are those of nobody: a configuration is complete only with them.
    (key,) = single(socket="unix:///run/keystead/none.sock", key=entry, cluster="recovery").keys
    return key


def _read_kek(path: Path) -> Kek:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(1024)
    except OSError as exc:
        raise KeyRefused(f"{path}: {exc.strerror}") from exc
    if mode & _FORBIDDEN_MODE:
        raise KeyRefused(f"{path} has mode {stat.S_IMODE(mode):04o}, which lets others in: chmod 0600 {path}")
    if len(content) != KEK_SIZE:
        hint = ""
        if len(content.strip()) == 44 and content.strip().endswith(b"="):
            hint = "; this looks like base64: decode it with base64 -d"
        size = "more than 1000" if len(content) == 1024 else len(content)
        raise KeyRefused(f"{path} must hold exactly {KEK_SIZE} bytes, and holds {size}{hint}")
    return Kek.from_bytes(content)
