"""What a refusal of AWS means: the class of error that its code stands for, and the text that may be shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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

_MAX_TEXT = 400
_LONG_RUN = re.compile(r"[A-Za-z0-9+=_-]{41,}|[A-Za-z0-9+/=_-]{65,}")
"""Longer than a UUID of 36, and than a key's id with `mrk-` of 36: tokens, signatures and ciphertexts look like this.
With slashes more, since ARNs have some."""
_REQUEST_ID = re.compile(r"[0-9A-Fa-f-]{1,36}")

_CLOCK = "check this machine's clock"
_REPLACE = "the credentials are not accepted: renew or replace them"
_FOREIGN = "something else than AWS answers there"

_BY_CODE: dict[str, tuple[type[ProviderError], str]] = {
    "AccessDenied": (PermissionDenied, ""),
    "UnauthorizedOperation": (PermissionDenied, ""),
    "OptInRequired": (PermissionDenied, "the account is not signed up, or the region is not enabled for it"),
    "NotFound": (KeyNotFound, "check keyID and region, or restore the key"),
    "InvalidArn": (ConfigError, "check keyID"),
    "Disabled": (KeyDisabled, "enable the key"),
    "KMSInvalidState": (KeyDisabled, "cancel its deletion, or import its material"),
    "InvalidKeyUsage": (ConfigError, "the key's usage must be ENCRYPT_DECRYPT, and its spec SYMMETRIC_DEFAULT"),
    "UnsupportedOperation": (ConfigError, "this kind of key cannot be used"),
    "Validation": (ConfigError, ""),
    "InvalidCiphertext": (InvalidCiphertext, "damaged, or wrapped with another key or context"),
    "IncorrectKey": (InvalidCiphertext, "wrapped with another key"),
    "Throttling": (Throttled, ""),
    "ThrottledException": (Throttled, ""),
    "RequestThrottled": (Throttled, ""),
    "TooManyRequests": (Throttled, ""),
    "LimitExceeded": (Throttled, ""),
    "RequestLimitExceeded": (Throttled, ""),
    "429": (Throttled, ""),
    "ExpiredToken": (Unauthenticated, _REPLACE),
    "TokenRefreshRequired": (Unauthenticated, _REPLACE),
    "UnrecognizedClient": (Unauthenticated, _REPLACE),
    "InvalidClientTokenId": (Unauthenticated, _REPLACE),
    "InvalidToken": (Unauthenticated, _REPLACE),
    "MissingAuthenticationToken": (Unauthenticated, _REPLACE),
    "IncompleteSignature": (Unauthenticated, f"{_REPLACE}; a proxy may have changed the request"),
    "InvalidSignature": (Unauthenticated, f"{_CLOCK}, and the secret key"),
    "SignatureDoesNotMatch": (Unauthenticated, f"{_CLOCK}, and the secret key"),
    "RequestExpired": (Unauthenticated, _CLOCK),
    "RequestTimeTooSkewed": (Unauthenticated, _CLOCK),
    "KMSInternal": (Unavailable, ""),
    "KeyUnavailable": (Unavailable, ""),
    "DependencyTimeout": (Unavailable, ""),
    "InternalFailure": (Unavailable, ""),
    "InternalError": (Unavailable, ""),
    "InternalServerError": (Unavailable, ""),
    "ServiceUnavailable": (Unavailable, ""),
    "RequestTimeout": (Unavailable, ""),
    "IDPCommunicationError": (Unavailable, "STS cannot reach the provider of the token"),
}


def refusal(asked: str, response: Mapping[str, Any], secrets: Collection[str] = ()) -> ProviderError:
    """Return the error that botocore's `ClientError.response` stands for. `asked` says what was asked of whom."""
    said, about = _mapping(response.get("Error")), _mapping(response.get("ResponseMetadata"))
    code, status = str(said.get("Code", "")), about.get("HTTPStatusCode")
    text = scrub(str(said.get("Message", "")), secrets)
    error, hint = _BY_CODE.get(code) or _BY_CODE.get(_short(code)) or _by_status(code, status)
    message = f"{asked}: {_shown(code, secrets)}" + (f": {text}" if text else "") + (f" ({hint})" if hint else "")
    return error(message + request_id(about))


def request_id(metadata: object) -> str:
    """Return AWS's name of the request, for messages; empty if there is none."""
    value = _mapping(metadata).get("RequestId")
    return f" [RequestId {value}]" if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else ""


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return one short line in which no secret is left, neither of the request nor anything that looks like one."""
    if "keystead:" in text:
        return "[a text that repeats the encryption context]"
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "[removed]")
    text = _LONG_RUN.sub("[removed]", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"


def _shown(code: str, secrets: Iterable[str]) -> str:
    if code.isdigit():
        return f"HTTP {code[:3]}"
    code = scrub(code, secrets)
    return code if re.fullmatch(r"[A-Za-z.]{1,64}", code) else "a code of its own"


def _short(code: str) -> str:
    """KMS writes `ThrottlingException` where STS writes `Throttling`, and some services `ValidationError`."""
    return code.removesuffix("Exception").removesuffix("Error")


def _by_status(code: str, status: object) -> tuple[type[ProviderError], str]:
    if isinstance(status, int) and status >= 500:
        return Unavailable, ""
    # A code that is a number is botocore's own, for an answer that is not of AWS's form.
    if code.isdigit() or not code:
        return Unavailable, _FOREIGN
    return Misbehaved, ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
