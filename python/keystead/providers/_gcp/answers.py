"""What a failed call means: the class of error that the service's status or its text stands for.

gRPC and REST give the same statuses, but REST hides most of them: there the name stands in the body, and several
share one HTTP code.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

from keystead.provider import (
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

_MAX_TEXT = 400
_KEY = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[A-Za-z0-9_-]+(?:/cryptoKeys/[A-Za-z0-9_-]+)?")
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{41,}")
"""Longer than a UUID of 36 and than the name of a permission's part: keys, ciphertexts and parts of tokens."""
_TOKEN = re.compile(r"\b(?:ya29|eyJ)[A-Za-z0-9+/=_.-]{8,}")

_BY_STATUS: dict[str, tuple[type[ProviderError], str]] = {
    "UNAVAILABLE": (Unavailable, ""),
    "INTERNAL": (Unavailable, ""),
    "ABORTED": (Unavailable, ""),
    "UNKNOWN": (Unavailable, ""),
    "CANCELLED": (Unavailable, ""),
    "DEADLINE_EXCEEDED": (Unavailable, ""),
    "RESOURCE_EXHAUSTED": (Throttled, "a quota of the project, or too many requests"),
    "UNAUTHENTICATED": (Unauthenticated, "check credentialsFile or the machine's service account, and the clock"),
    "PERMISSION_DENIED": (PermissionDenied, ""),
    "NOT_FOUND": (KeyNotFound, "check keyName; a key of Cloud KMS cannot be deleted, but its versions can"),
    "FAILED_PRECONDITION": (KeyDisabled, ""),
}

_BY_HTTP = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    504: "DEADLINE_EXCEEDED",
}

_STATES = (
    ("DESTROY_SCHEDULED", "restore the version and enable it before it is destroyed"),
    ("DESTROYED", "the version is gone for ever, and so is what only it wrapped"),
    ("DISABLED", "enable the version"),
    ("PENDING_GENERATION", "the version is being made"),
)


UNTRUSTED = "check caFile, endpoint and the server's certificate"


class Damaged(Exception):
    """A checksum says that a request or an answer was changed on its way; the text says which."""


def state_hint(text: str) -> str:
    """Say what to do about a version whose state stands in `text`."""
    return next((hint for state, hint in _STATES if state in text), "")


def refusal(asked: str, exc: BaseException, secrets: Iterable[bytes], *, decrypts: bool) -> ProviderError | Damaged:
    """Return the error that a `GoogleAPICallError` stands for; `asked` says what was asked of whom."""
    status, text = _status(exc)
    message = f"{asked}: {status}"
    if said := scrub(text, secrets):
        message += f": {said}"
    if status == "INVALID_ARGUMENT":
        if "crc32c" in text.lower() or "checksum" in text.lower():
            return Damaged("that a checksum of the request did not match")
        if decrypts:
            return InvalidCiphertext(f"{message} (damaged, or wrapped with another key or context)")
    if "API has not been used" in text:
        return PermissionDenied(message)
    error, hint = _BY_STATUS.get(status, (Misbehaved, ""))
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = UNTRUSTED
    if error is KeyDisabled:
        hint = state_hint(text)
    return error(f"{message} ({hint})" if hint else message)


def _status(exc: BaseException) -> tuple[str, str]:
    """Return the canonical name of the status, and what the service says."""
    grpc_status = getattr(exc, "grpc_status_code", None)
    response: Any = getattr(exc, "response", None)
    if not hasattr(response, "status_code"):
        return (grpc_status.name if grpc_status is not None else "UNKNOWN"), str(getattr(exc, "message", "") or "")
    code = int(response.status_code)
    try:
        problem = response.json()["error"]
        name, text = problem.get("status"), str(problem.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "UNAVAILABLE", f"HTTP {code}, not from Cloud KMS: {response.text}"
    if not isinstance(name, str) or not re.fullmatch(r"[A-Z_]{2,24}", name):
        name = _BY_HTTP.get(code, "UNAVAILABLE" if code >= 500 else f"HTTP {code}")
    return name, text


def scrub(text: str, secrets: Iterable[bytes] = ()) -> str:
    """Return one short line in which no secret is left, neither of the request nor anything that looks like one."""
    for secret in secrets:
        for spelling in _spellings(secret):
            text = text.replace(spelling, "[removed]")
    # Names of keys are long runs too, and the reader needs them.
    names: list[str] = _KEY.findall(text)
    parts = [_LONG_RUN.sub("[removed]", _TOKEN.sub("[removed]", part)) for part in _KEY.split(text)]
    text = parts[0] + "".join(name + part for name, part in zip(names, parts[1:], strict=True))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"


def _spellings(secret: bytes) -> Iterable[str]:
    if len(secret) >= 4:
        yield secret.decode("utf-8", "replace")
        yield secret.decode("latin-1")
        yield repr(secret)[2:-1]
        yield secret.hex()
        yield base64.b64encode(secret).decode().rstrip("=")
        yield base64.urlsafe_b64encode(secret).decode().rstrip("=")
