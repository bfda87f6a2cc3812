"""Provider `age-x25519`: an age key pair whose private half is kept offline. For recovery only: it wraps, in this
process, and never unwraps.

The wrap is an age file of the 32 bytes, so that nothing but the tool `age` and the private key is needed to open it.
"""

from __future__ import annotations

import contextlib
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from keystead.provider import Capabilities, ConfigError, Provider, ProviderConfig, Unavailable, WrapContext, Wrapped

MAX_BLOB = 1024
"""A wrap has 245 to 415 bytes: age puts a stanza of random length beside that of the recipient."""
_RECIPIENT = r"age1[02-9ac-hj-np-z]{58}"


def _recipient(value: str) -> str:
    if value.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError(
            "is a private key, which must never be here: keep it offline, make a new pair since this one has been on "
            "this machine, and write the public half, age1…"
        )
    if not re.fullmatch(_RECIPIENT, value):
        raise ValueError(
            "should be one X25519 recipient of age: age1 and 58 lower-case characters, as age-keygen prints it. Keys "
            "of SSH, of plugins and hybrid ones are not supported"
        )
    with contextlib.suppress(ModuleNotFoundError):  # then its checksum is looked at when the key is opened
        _parse(value)
    return value


def _parse(recipient: str) -> Any:
    from pyrage import RecipientError, x25519

    try:
        return x25519.Recipient.from_str(recipient)
    except RecipientError:
        raise ValueError("is no recipient of age: a character is wrong, for its checksum does not fit") from None


class AgeX25519Config(ProviderConfig):
    """An age key pair that is kept offline, for recovery. Keystead has its public half only."""

    provider: Literal["age-x25519"]
    recipient: Annotated[str, AfterValidator(_recipient)] = Field(
        json_schema_extra={"pattern": f"^{_RECIPIENT}$"},
        description="The public half of the key pair, age1…, as age-keygen prints it.",
    )


class AgeX25519Provider(Provider[AgeX25519Config]):
    """The blob is an age file; ref = the recipient. Anybody can make a wrap, and nobody here can open one."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[AgeX25519Config]] = AgeX25519Config
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=False, has_versions=False, authenticated_wrap=False, max_blob=MAX_BLOB, unwraps=False
    )

    def __init__(self, config: AgeX25519Config) -> None:
        super().__init__(config)
        self._parsed: Any = None

    def open(self, deadline: float) -> str:  # noqa: ARG002  # nothing is asked of anybody
        try:
            self._parsed = _parse(self.config.recipient)
        except ModuleNotFoundError as exc:
            raise ConfigError(f"{exc.name} is not installed: install keystead[age]") from None
        except ValueError as exc:
            raise ConfigError(f"recipient {exc}") from None
        return self.config.recipient

    def current_version(self, deadline: float) -> str:  # noqa: ARG002
        return ""

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:  # noqa: ARG002
        if version:
            raise ConfigError("keys of age have no versions: remove the version")
        if self._parsed is None:
            raise Unavailable("not open")
        from pyrage import encrypt

        return Wrapped(encrypt(bytes(kek), [self._parsed]), "")

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytes:  # noqa: ARG002
        raise ConfigError(
            f"the private key of {self.config.recipient} is kept offline, so this key cannot unwrap here: give it the "
            "role recovery, and open its wraps by hand with age"
        )

    def close(self) -> None:
        self._parsed = None
