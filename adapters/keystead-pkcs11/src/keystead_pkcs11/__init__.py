"""Provider `pkcs11`: an AES key in a PKCS#11 token, which it never leaves.

The KEK is encrypted in the token with AES-GCM, bound to the context. A nonce of 96 random bits is made here: fewer than
2^32 wraps under one key keep it safe (NIST SP 800-38D section 8.3), and a cluster makes a few each month.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field

from keystead.provider import (
    KEK_SIZE,
    Capabilities,
    ConfigError,
    InvalidCiphertext,
    KeyNotFound,
    Provider,
    ProviderConfig,
    Unavailable,
    WrapContext,
    Wrapped,
)

if TYPE_CHECKING:
    from keystead_pkcs11.token import Token

NONCE, TAG = 12, 16
BLOB = NONCE + KEK_SIZE + TAG


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("should be an absolute path")
    return path


File = Annotated[Path, AfterValidator(_absolute)]


class Pkcs11Config(ProviderConfig):
    """An AES-256 key in a PKCS#11 token."""

    provider: Literal["pkcs11"]
    module: File = Field(description="The PKCS#11 library of the token. Its code runs inside Keystead.")
    tokenLabel: str = Field(min_length=1, max_length=32, description="Label of the token.")
    tokenSerial: str | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Serial number of the token, where several have the label. Each node may have another.",
    )
    keyLabel: str = Field(
        min_length=1,
        max_length=64,
        description="Label of the AES keys. Their CKA_ID is a number, the version; the highest one wraps.",
    )
    pinFile: File = Field(description="File with the user PIN. Read at each login.")
    lineage: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
        description="First part of the key's name in records, to tell two tokens apart that have equal labels. It can "
        "never be changed.",
    )


class Pkcs11Provider(Provider[Pkcs11Config]):
    """The blob is nonce[12] ciphertext[32] tag[16], 60 bytes; ref = `[lineage/]token/key`, percent-encoded labels."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[Pkcs11Config]] = Pkcs11Config
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=BLOB
    )

    def __init__(self, config: Pkcs11Config) -> None:
        super().__init__(config)
        self._token: Token | None = None

    def open(self, deadline: float) -> str:
        self.close()
        try:
            from keystead_pkcs11.token import Token
        except ModuleNotFoundError as exc:
            raise ConfigError(f"{exc.name} is not installed: pip install 'python-pkcs11>=0.10'") from None
        token = Token(self.config.module, self.config.tokenLabel, self.config.pinFile, self.config.tokenSerial)
        try:
            token.versions(self.config.keyLabel, deadline)
        except BaseException:
            token.close()
            raise
        self._token = token
        labels = [quote(label, safe="") for label in (self.config.tokenLabel, self.config.keyLabel)]
        return "/".join([self.config.lineage, *labels] if self.config.lineage else labels)

    def current_version(self, deadline: float) -> str | None:
        return str(max(self._opened().versions(self.config.keyLabel, deadline)))

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        used = version if version is not None else self.current_version(deadline)
        number, nonce = _number(used), os.urandom(NONCE)
        sealed = self._opened().encrypt(self.config.keyLabel, number, nonce, bytes(kek), context.aad, deadline)
        return Wrapped(nonce + sealed, str(number))

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        token = self._opened()
        if len(blob) != BLOB:
            raise InvalidCiphertext(f"a wrap has {BLOB} bytes, and this one {len(blob)}")
        nonce, sealed = blob[:NONCE], blob[NONCE:]
        return bytearray(token.decrypt(self.config.keyLabel, _number(version), nonce, sealed, context.aad, deadline))

    def close(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            token.close()

    def _opened(self) -> Token:
        if self._token is None:
            raise Unavailable("not open")
        return self._token


def _number(version: str | None) -> int:
    if version is None or not (version.isascii() and version.isdecimal()) or len(version) > 20:
        raise KeyNotFound(f"{str(version)[:64]!r} is no version: a version is the number in a key's CKA_ID")
    return int(version)
