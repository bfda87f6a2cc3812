"""Each remote key, tried from this node as the plugin would: opened, wrapped under, unwrapped with.

It makes a handful of calls and changes nothing. The providers' own words are shown; which check they belong to follows
from the class of the error and from the step at which it came.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keystead import errors
from keystead._core import ROLE_ONLINE, Kek, Record, Wrap
from keystead.host.guard import Guard
from keystead.operate.doctor.book import Finding, found
from keystead.provider import Provider, ProviderConfig, WrapContext

CALL_SECONDS = 10.0
"""Time for each step with one key."""
CONNECT_SECONDS = 3.0
SLOW = 2.0
"""Seconds: the plugin answers the API server within 2.5."""
SOON = 7 * 86400.0
_BY_CLASS: dict[type[errors.ProviderError], int] = {
    errors.Unavailable: 30,
    errors.Unauthenticated: 32,
    errors.KeyNotFound: 33,
    errors.KeyDisabled: 34,
    errors.Throttled: 41,
    errors.ConfigError: 42,
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be shown of one key."""

    wraps: bool
    """It is an active member of an endpoint."""
    unwraps: bool
    """It is an online member of an endpoint."""
    records: Sequence[Record]
    """What is stored, of the endpoints that it is a member of."""
    cluster: str


def of_key(key: ProviderConfig, provider_class: type[Provider[Any]], trial: Trial, now: float) -> Iterator[Finding]:
    """Try one key, as far as it goes; what could not be tried for that is unknown."""
    built: list[Provider[Any]] = []

    def make() -> Provider[Any]:
        built.append(provider_class(key))
        return built[-1]

    guard = Guard(key, make)
    with closing(guard):
        yield from _try(guard, key, trial)
        expiry = built[-1].credential_expiry
        if expiry is not None and expiry - now < SOON:
            level, text = ("warn", f"{(expiry - now) / 3600:.0f} hours are left") if expiry > now else ("fail", "ended")
            yield found(38, "fail" if level == "fail" else "warn", f"key {key.name}", text)
        if guard.ref is not None:
            for caution in _cautions(built[-1]):
                yield found(39, "warn", f"key {key.name}", caution)


def _try(guard: Guard, key: ProviderConfig, trial: Trial) -> Iterator[Finding]:
    subject = f"key {key.name}"
    try:
        ref = guard.open(time.monotonic() + CALL_SECONDS)
    except errors.ProviderError as exc:
        yield _finding(subject, exc, denied=32, connection=lambda: _connection(key))
        for number in (35, 36):
            if (number == 35 and trial.wraps) or (number == 36 and trial.unwraps):
                yield found(number, "unknown", subject, "the key is not open")
        return
    made = None
    kek = Kek.generate()
    context = WrapContext(kek.kek_id, trial.cluster)
    if trial.wraps:
        try:
            deadline = time.monotonic() + CALL_SECONDS
            answer = guard.wrap(kek.reveal(), context, guard.current_version(deadline), deadline)
            made = Wrap(guard.scheme, ref, answer.version, ROLE_ONLINE, answer.blob)
        except errors.ProviderError as exc:
            yield _finding(subject, exc, denied=35)
    if trial.unwraps:
        yield from _unwraps(guard, subject, trial, (made, kek, context) if made is not None else None)


def _unwraps(
    guard: Guard, subject: str, trial: Trial, fresh: tuple[Wrap, Kek, WrapContext] | None
) -> Iterator[Finding]:
    """Unwrap what was made just now, and what is stored: that is what a restart will ask for."""
    tried = False
    if fresh is not None:
        made, kek, context = fresh
        tried = True
        yield from _unwrap(guard, subject, made, context, kek.equals)
    for record in trial.records:
        for wrap in record.wraps:
            if (wrap.scheme, wrap.ref, wrap.role) == (guard.scheme, guard.ref, ROLE_ONLINE):
                tried = True
                context = WrapContext(record.kek_id, record.cluster)
                stored = f"{subject}, the stored record{f' under version {wrap.version}' if wrap.version else ''}"
                yield from _unwrap(guard, stored, wrap, context, partial(_is_of, record))
    if not tried:
        yield found(36, "unknown", subject, "nothing here is wrapped under it: it decrypts only")


def _is_of(record: Record, kek: bytes | bytearray) -> bool:
    return Kek.from_bytes(kek).kek_id == record.kek_id


def _unwrap(
    guard: Guard, subject: str, wrap: Wrap, context: WrapContext, right: Callable[[bytes | bytearray], bool]
) -> Iterator[Finding]:
    started = time.monotonic()
    try:
        kek = guard.unwrap(wrap, context, started + CALL_SECONDS)
    except errors.ProviderError as exc:
        yield _finding(subject, exc, denied=36)
        return
    if not right(kek):
        yield found(37, "fail", subject, "other bytes came back than were wrapped")
    taken = time.monotonic() - started
    if taken > SLOW:
        yield found(40, "warn", subject, f"an unwrap took {taken:.1f} s")


def _finding(
    subject: str, exc: errors.ProviderError, *, denied: int, connection: Callable[[], Finding | None] = lambda: None
) -> Finding:
    text = str(exc).removeprefix(f"{subject.partition(',')[0]}: ")
    if isinstance(exc, errors.PermissionDenied):
        return found(denied, "fail", subject, text)
    if isinstance(exc, errors.Unavailable):
        return connection() or found(31 if _speaks_of_tls(text) else 30, "fail", subject, text)
    return found(_BY_CLASS.get(type(exc), 37), "fail", subject, text)


def _speaks_of_tls(text: str) -> bool:
    # Behind SDKs without an address of ours: their words for it are all that there is.
    return "certificate" in text.lower()


def addresses(key: ProviderConfig) -> list[str]:
    """Every http or https address that an entry of keys has, but for its proxy."""
    return [
        text
        for field, text in _texts(key.model_dump(by_alias=True), "")
        if text.startswith(("https://", "http://")) and field != "proxy"
    ]


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, field)


def _connection(key: ProviderConfig) -> Finding | None:
    """Connect to each address ourselves, to say at which step it fails; `None` if nothing more is learnt."""
    dump = key.model_dump(by_alias=True)
    if dump.get("proxy"):
        return None
    ca = next((path for field, path in _files(dump) if field == "caFile"), None)
    server_name = next((text for field, text in _texts(dump, "") if field == "serverName"), None)
    for address in addresses(key):
        parts = urlsplit(address)
        host = parts.hostname or ""
        subject = f"key {key.name}, {host}"
        try:
            with socket.create_connection((host, parts.port or 443), CONNECT_SECONDS) as plain:
                if parts.scheme == "https":
                    context = ssl.create_default_context(cafile=ca)
                    with context.wrap_socket(plain, server_hostname=server_name or host):
                        pass
        except ssl.SSLError as exc:
            return found(31, "fail", subject, getattr(exc, "verify_message", "") or exc.reason or str(exc))
        except socket.gaierror as exc:
            return found(30, "fail", subject, f"its name does not resolve: {exc.strerror}")
        except OSError as exc:
            return found(30, "fail", subject, f"cannot connect to port {parts.port or 443}: {exc.strerror or exc}")
    return None


def _files(value: Any, field: str = "") -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _files(inner, str(name))


def _cautions(provider: Provider[Any]) -> list[str]:
    """Ask in a thread: a vendor's code may hang, and it is no more than advice."""
    said: list[str] = []

    def ask() -> None:
        try:
            said.extend(map(str, provider.cautions(time.monotonic() + CALL_SECONDS)))
        except Exception as exc:  # noqa: BLE001  advice that cannot be had is not a fault of the key
            del exc

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CALL_SECONDS)
    return list(said)
