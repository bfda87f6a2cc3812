"""The REST calls of Key Vault and Managed HSM, which share one interface, and what their errors mean."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

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
from keystead_azure.config import VERSION_ID, AzureConfig
from keystead_azure.http import Answer, Http
from keystead_azure.tokens import Entra, Token, Tokens

API_VERSION = "7.4"
"""Of 2023: the oldest that all clouds serve today with AES in Managed HSM."""
_SAID = 300
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{41,}")
"""Longer than a UUID: no sentence has it, and tokens and ciphertexts do."""
_OFF = re.compile(r"disabled|expired|not yet valid|KeyNotYetValid", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key: when it was made, as Unix time, and its name. As text `CREATED-ID`, or `ID` alone.

    Names are random. With the time in front Keystead can tell which of two versions is the newer one.
    """

    id: str
    created: int | None = None

    @classmethod
    def parse(cls, text: str) -> KeyVersion:
        found = re.fullmatch(rf"(?:([0-9]{{1,12}})-)?({VERSION_ID})", text)
        if found is None:
            raise KeyNotFound(f"{text[:64]!r} is no version of a key: a version has 32 hexadecimal digits")
        return cls(found[2], int(found[1]) if found[1] is not None else None)

    def __str__(self) -> str:
        return self.id if self.created is None else f"{self.created}-{self.id}"


class Vault:
    """One key. Safe to use from many threads."""

    def __init__(self, config: AzureConfig) -> None:
        self._key = config.keyName
        self._http = Http(config.address or f"https://{config.host}", config.caFile)
        self.tokens = Tokens(Entra(config.auth, f"https://{config.domain}", config.caFile).get)

    def __repr__(self) -> str:
        return f"Vault({self._http}, {self._key})"

    def describe(self, deadline: float) -> tuple[KeyVersion, Mapping[str, Any]]:
        """Return the current version, and the public part of the key with its type and operations."""
        body = self._call("GET", "", None, deadline)
        key, attributes = body.get("key"), body.get("attributes")
        if not isinstance(key, dict) or not isinstance(attributes, dict):
            raise Misbehaved(f"GET {self._key}: an answer without a key and its attributes")
        created = attributes.get("created")
        if attributes.get("enabled") is False:
            raise KeyDisabled(f"GET {self._key}: its current version is disabled")
        return KeyVersion(_version_in(key), created if type(created) is int and 0 < created < 10**12 else None), key

    def operate(self, operation: str, version: str, deadline: float, **given: str | bytes) -> Mapping[str, Any]:
        """Have one version do something; an empty one stands for the current version. Bytes are sent in base64url."""
        sent = {name: encoded(one) if isinstance(one, bytes) else one for name, one in given.items()}
        return self._call("POST", f"/{version}/{operation}", sent, deadline)

    def _call(self, method: str, path: str, sent: Mapping[str, str] | None, deadline: float) -> Mapping[str, Any]:
        asked = f"/keys/{quote(self._key, safe='')}{path}"
        token = self.tokens.current(deadline)
        answer = self._ask(method, asked, sent, token, deadline)
        if answer.status == 401 and self.tokens.refused(token):
            answer = self._ask(method, asked, sent, self.tokens.current(deadline), deadline)
        if answer.status == 200 and answer.body is not None:
            return answer.body
        raise refusal(f"{method} {asked}", answer)

    def _ask(self, method: str, asked: str, sent: Mapping[str, str] | None, token: Token, deadline: float) -> Answer:
        headers = {"Authorization": f"Bearer {token.text}", "Content-Type": "application/json"}
        content = None if sent is None else json.dumps(sent).encode()
        return self._http.ask(method, f"{asked}?api-version={API_VERSION}", deadline, headers, content)


def refusal(what: str, answer: Answer) -> ProviderError:
    """Return the error that an answer stands for."""
    error = (answer.body or {}).get("error")
    error = error if isinstance(error, dict) else {}
    inner = error.get("innererror")
    inner_code = inner.get("code", "") if isinstance(inner, dict) else ""
    said = _LONG_RUN.sub("[removed]", f"{error.get('code', '')} {inner_code}: {error.get('message', '')}")
    text = f"{what}: HTTP {answer.status}: {' '.join(said.split())[:_SAID]}"
    if answer.status == 401:
        return Unauthenticated(text)
    if answer.status == 429:
        return Throttled(text)
    if answer.body is None or answer.status >= 500 or answer.status in (200, 408):
        return Unavailable(f"{text} (not what Key Vault answers)" if answer.body is None else text)
    if answer.status in (403, 409) and _OFF.search(said):
        return KeyDisabled(f"{text} (enable that version of the key)")
    if answer.status == 403:
        return PermissionDenied(text)
    if answer.status in (404, 409):
        return KeyNotFound(f"{text} (check vault, keyName and version; recover a key that was deleted)")
    if answer.status == 400:
        # Which operation it was tells a damaged wrap from a key that cannot do it.
        return InvalidCiphertext(text) if what.endswith(READS) else ConfigError(text)
    return Misbehaved(text)


READS = ("/decrypt", "/unwrapkey", "/verify")
"""Operations on what is stored. Key Vault has one status, 400, for bytes that it does not accept."""


def of_version(answer: Mapping[str, Any], wanted: str) -> str:
    """Return the version that an answer says did it; raise `Misbehaved` if it is another than was asked for."""
    used = _version_in(answer)
    if wanted and used != wanted:
        raise Misbehaved(f"version {wanted} was asked, and {used} answered")
    return used


def encoded(value: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(answer: Mapping[str, Any], name: str) -> bytes:
    """Return the bytes of a field of an answer."""
    value = answer.get(name)
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        raise Misbehaved(f"an answer without {name} in base64url")
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        raise Misbehaved(f"an answer without {name} in base64url") from None


def _version_in(answer: Mapping[str, Any]) -> str:
    found = re.search(rf"/({VERSION_ID})$", str(answer.get("kid")))
    if found is None:
        raise Misbehaved("an answer without kid, which names the key's version")
    return found[1]


def unexpected(name: str, key: Mapping[str, Any], wanted: str, operations: tuple[str, ...]) -> ConfigError | None:
    """Say why a key cannot be used; `None` if it can. `wanted` is a pattern for its type."""
    kind, allowed = str(key.get("kty")), key.get("key_ops")
    if not re.fullmatch(wanted, kind):
        return ConfigError(f"key {name} is of the type {kind}, and {wanted.replace('|', ' or ')} is needed")
    missing = [one for one in operations if isinstance(allowed, list) and one not in allowed]
    return ConfigError(f"key {name} may not {', '.join(missing)}: add to its key_ops") if missing else None
