"""What a server's answer means: the class of error that its text or status stands for.

Vault and OpenBao give different causes one status (400 for a missing key, a wrong context and a version that is
switched off; 403 for a dead token and a policy), so the text is looked at before the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    ProviderError,
    Throttled,
    Unauthenticated,
    Unavailable,
)

_MAX_TEXT = 300
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_.:-]{41,}")
"""Longer than a UUID of 36: tokens, JWTs and ciphertexts look like this, and no sentence does."""
_SHORT_TOKEN = re.compile(r"\b(?:hvs|hvb|hvr|s|b|r)\.[A-Za-z0-9_-]{16,}")

_LAG = "this server has not seen the rotation yet, or the key was deleted and created anew"

_BY_TEXT: tuple[tuple[str, type[ProviderError], str], ...] = (
    ("message authentication failed", InvalidCiphertext, "damaged, or wrapped with another key or context"),
    ("version is too new", Unavailable, _LAG),
    ("higher than the latest key version", Unavailable, _LAG),
    ("disallowed by policy (too old)", KeyDisabled, ""),
    ("less than the minimum encryption key version", KeyDisabled, ""),
    ("no such key version", KeyDisabled, ""),
    ("soft-deleted key", KeyDisabled, "restore the key"),
    ("encryption key not found", KeyNotFound, "check mount and transitKey, or restore the key"),
    ("no handler for route", KeyNotFound, "no secrets engine is mounted there: check mount and namespace"),
    ("namespace not found", KeyNotFound, "check namespace"),
    ("invalid ciphertext", InvalidCiphertext, "not what this engine wrapped"),
    ("missing 'context'", ConfigError, "the key is derived; create one without derived=true"),
    ("non-AEAD cipher suite", ConfigError, "the key's type cannot bind the context; use aes256-gcm96"),
    ("HTTP request to an HTTPS server", ConfigError, "write https:// in the address"),
    ("is sealed", Unavailable, "unseal the server"),
)

_BY_STATUS: dict[int, tuple[type[ProviderError], str]] = {
    401: (Unauthenticated, ""),
    403: (PermissionDenied, ""),
    404: (KeyNotFound, "check mount, transitKey and namespace, or restore the key"),
    408: (Unavailable, ""),
    412: (Unavailable, "a replica that lags"),
    429: (Throttled, ""),
    472: (Unavailable, "a disaster-recovery secondary, which serves nobody"),
    473: (Unavailable, "a performance standby"),
    501: (Unavailable, "the server is not initialised: initialise it"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer whose text has no secret in it any more."""

    request: str
    """What was asked of whom, for messages."""
    status: int
    body: Mapping[str, Any] | None
    """The JSON object; `None` for anything else. Its values may be secret."""
    text: str
    """What the server says is wrong."""

    @property
    def ok(self) -> bool:
        """The server did it, and said so as Vault does."""
        return self.status in (200, 204) and (self.body is not None or self.status == 204)

    def section(self, name: str) -> Mapping[str, Any]:
        """Return the object `name` of the body, which is empty if there is none."""
        value = (self.body or {}).get(name)
        return value if isinstance(value, Mapping) else {}

    def misbehaved(self, what: str) -> Misbehaved:
        """Say that a successful answer cannot be right."""
        request_id = (self.body or {}).get("request_id")
        known = isinstance(request_id, str) and re.fullmatch(r"[0-9a-fA-F-]{1,36}", request_id)
        return Misbehaved(f"{self.request} answered {what}" + (f" (request_id {request_id})" if known else ""))


def refusal(answer: Answer) -> ProviderError | None:
    """Return the error that an answer stands for; `None` if it is a success."""
    if answer.ok:
        return None
    for text, error, hint in _BY_TEXT:
        if text in answer.text:
            return error(_message(answer, hint))
    if answer.body is None and answer.status not in (401, 429):
        return Unavailable(_message(answer, "not JSON: something else than Vault or OpenBao answers there"))
    if answer.status == 503 and answer.body is not None and answer.body.get("sealed") is True:
        return Unavailable(_message(answer, "the server is sealed: unseal it"))
    if answer.status in _BY_STATUS:
        error, hint = _BY_STATUS[answer.status]
        return error(_message(answer, hint))
    if answer.status >= 500:
        return Unavailable(_message(answer, ""))
    return Misbehaved(_message(answer, ""))


def _message(answer: Answer, hint: str) -> str:
    said = f": {answer.text}" if answer.text else ""
    return f"{answer.request}: HTTP {answer.status}{said}" + (f" ({hint})" if hint else "")


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return one short line in which no secret is left, neither of the request nor anything that looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "[removed]")
    text = _LONG_RUN.sub("[removed]", _SHORT_TOKEN.sub("[removed]", text))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"
