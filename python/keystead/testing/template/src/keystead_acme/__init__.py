"""Acme KMS for Keystead."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from keystead.provider import (
    Capabilities,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    Provider,
    ProviderConfig,
    ProviderError,
    Throttled,
    Unauthenticated,
    Unavailable,
    WrapContext,
    Wrapped,
)

if TYPE_CHECKING:
    from keystead_acme.toy_sdk import Client

# What the service calls a failure, and what an operator will do about it. Anything else is Unavailable.
ERRORS: dict[str, type[ProviderError]] = {
    "invalid_ciphertext": InvalidCiphertext,
    "unauthenticated": Unauthenticated,
    "denied": PermissionDenied,
    "not_found": KeyNotFound,
    "disabled": KeyDisabled,
    "throttled": Throttled,
    "bad_answer": Misbehaved,
}


class AcmeConfig(ProviderConfig):
    """A key of Acme KMS."""

    provider: Literal["acme"]
    address: str = Field(pattern=r"^https?://[^/]+$", description="Where Acme KMS is: https://host:port.")
    key: str = Field(description="Identifier of the key; not an alias.")
    tokenFile: Path = Field(description="File with the access token. Read again when the service refuses the token.")
    caFile: Path | None = Field(default=None, description="CA of the service, if it is not a public one.")


class AcmeProvider(Provider[AcmeConfig]):
    """Wraps with the encrypt call of Acme KMS, bound to the context."""

    api = 1
    config_type = AcmeConfig
    capabilities = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=128)

    def __init__(self, config: AcmeConfig) -> None:
        super().__init__(config)
        self._client: Client | None = None

    def open(self, deadline: float) -> str:
        # The SDK is imported here and not at the top: checking a configuration must not need it.
        from keystead_acme.toy_sdk import Client

        self._client = Client(self.config.address, self._token(), self.config.caFile)
        self._call(deadline, lambda client, timeout: client.describe(self.config.key, timeout))
        return self.config.key

    def current_version(self, deadline: float) -> str | None:
        answer = self._call(deadline, lambda client, timeout: client.describe(self.config.key, timeout))
        return str(answer["version"])

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        if version is not None and not version.isdecimal():
            raise KeyNotFound(f"{version[:64]!r} is no version of {self.config.key}")
        number = int(version) if version is not None else None
        blob, used = self._call(
            deadline, lambda client, timeout: client.encrypt(self.config.key, kek, context.aad, number, timeout)
        )
        return Wrapped(blob, str(used))  # the version that the answer names, not the one that was asked for

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        kek, used = self._call(
            deadline, lambda client, timeout: client.decrypt(self.config.key, blob, context.aad, timeout)
        )
        if str(used) != version:
            raise InvalidCiphertext(f"version {used} wrapped these bytes, and not {version[:64]}")
        return bytearray(kek)

    def close(self) -> None:
        self._client = None

    def _call(self, deadline: float, call: Callable[[Client, float], Any]) -> Any:
        """Call the SDK, once more if the token was renewed meanwhile, and translate its errors: the one place."""
        from keystead_acme.toy_sdk import SdkError

        client = self._client
        if client is None:
            raise Unavailable("not open")
        try:
            try:
                return call(client, _left(deadline))
            except SdkError as exc:
                if exc.code != "unauthenticated" or not client.renew(self._token()):
                    raise
                return call(client, _left(deadline))
        except SdkError as exc:
            # The texts of this SDK are known to hold no secret. If those of yours may, leave them out.
            raise ERRORS.get(exc.code, Unavailable)(str(exc)) from None

    def _token(self) -> str:
        try:
            return self.config.tokenFile.read_text().strip()
        except OSError as exc:
            raise Unauthenticated(f"cannot read {self.config.tokenFile}: {exc.strerror}") from None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Unavailable("no time left")
    return left
