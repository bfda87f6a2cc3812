"""Provider `local`: the remote key is a file of 32 random bytes on this node. For development and tests."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from keystead._core import AeadKey
from keystead.errors import MalformedRequest, NotAuthentic
from keystead.provider import (
    KEK_SIZE,
    Capabilities,
    ConfigError,
    InvalidCiphertext,
    KeyNotFound,
    Misbehaved,
    Provider,
    ProviderConfig,
    Unavailable,
    WrapContext,
    Wrapped,
)

KEY_SIZE = 32
_FORBIDDEN_MODE = stat.S_IRWXG | stat.S_IRWXO

Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]


class LocalConfig(ProviderConfig):
    """A key that lives in files of this node. Whoever reads the files and etcd reads every Secret."""

    provider: Literal["local"]
    keyFile: Path | None = Field(
        default=None,
        description="File of 32 random bytes, mode 0600; it is version 1. Make one with: "
        "(umask 077; head -c 32 /dev/urandom > FILE)",
    )
    keyFiles: dict[Version, Path] | None = Field(
        default=None,
        min_length=1,
        description="Several versions of the key, number to file; the highest number wraps. Instead of keyFile.",
    )

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.keyFile is None) == (self.keyFiles is None):
            raise ValueError("give either keyFile or keyFiles")
        for path in self.files.values():
            if not path.is_absolute():
                raise ValueError(f"{path} is not an absolute path")
        return self

    @property
    def files(self) -> dict[str, Path]:
        """Version to file."""
        if self.keyFiles is not None:
            return dict(self.keyFiles)
        return {"1": self.keyFile} if self.keyFile is not None else {}


class LocalProvider(Provider[LocalConfig]):
    """Wraps with XAES-256-GCM: blob = nonce[24] ciphertext[32] tag[16], 72 bytes; ref = the key's name."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = LocalConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=24 + KEK_SIZE + 16
    )
    notice: str | None = (
        "the provider 'local' keeps its key in a file on this node: it is meant for development and tests, "
        "and protects nothing from somebody who can read this node's disk"
    )

    def __init__(self, config: LocalConfig) -> None:
        super().__init__(config)
        self._keys: dict[str, AeadKey] = {}

    def open(self, deadline: float) -> str:  # noqa: ARG002  a file read is over before any deadline
        self._keys = {version: _read_key(path) for version, path in self.config.files.items()}
        return self.config.name

    def current_version(self, deadline: float) -> str:  # noqa: ARG002
        if not self._keys:
            raise Misbehaved("not open")
        return max(self._keys, key=int)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        used = version if version is not None else self.current_version(deadline)
        return Wrapped(self._key(used).seal(kek, context.aad), used)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:  # noqa: ARG002
        try:
            return self._key(version).open(blob, context.aad)
        except (NotAuthentic, MalformedRequest) as exc:
            raise InvalidCiphertext(f"version {version} did not wrap these {len(blob)} bytes: {exc}") from exc

    def close(self) -> None:
        self._keys = {}

    def _key(self, version: str) -> AeadKey:
        try:
            return self._keys[version]
        except KeyError:
            configured = ", ".join(sorted(self._keys, key=int)) or "none"
            raise KeyNotFound(f"version {version!r} has no key file; configured are {configured}") from None


def _read_key(path: Path) -> AeadKey:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for somebody who writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyNotFound(
            f"{path} does not exist; restore it, or make one: (umask 077; head -c {KEY_SIZE} /dev/urandom > {path})"
        ) from None
    except OSError as exc:
        raise Unavailable(f"cannot open {path}: {exc.strerror}") from exc
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a regular file")
        if status.st_mode & _FORBIDDEN_MODE:
            raise ConfigError(
                f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, which lets others in: chmod 0600 {path}"
            )
        key = bytearray(KEY_SIZE + 1)
        size = os.readv(descriptor, [key])
    finally:
        os.close(descriptor)
    if size != KEY_SIZE:
        key[:] = bytes(len(key))
        raise ConfigError(f"{path} must hold exactly {KEY_SIZE} bytes, and holds {status.st_size}")
    exact = key[:KEY_SIZE]
    key[:] = bytes(len(key))
    return AeadKey(exact)
