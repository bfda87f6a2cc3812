"""The interface between Keystead and a remote KMS: all that the author of an adapter has to read.

A provider is a small synchronous class. It wraps one 32-byte key (the local KEK) under one remote key, unwraps it
again, and translates the errors of its SDK. The host owns everything else: threads, deadlines, retries with jitter,
rate limits, caching, single-flight, the prefix that names the key in each error, checks of what was answered,
metrics and logs. So a provider starts no thread, retries nothing, caches nothing and logs nothing.

Methods may be called from several threads at once, after `open` has returned. Each gets a `deadline`, a point on the
clock of `time.monotonic()`; give the SDK what is left of it and raise `Unavailable` when it is over.

Publish the class under the entry-point group `keystead.providers`; the entry point's name is what a configuration
writes after `provider:` and the scheme that records carry, 1 to 32 characters of `[a-z0-9-]`. The module is imported
to validate the configuration, so import the SDK inside `open`, not at the top.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from keystead.errors import (
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

__all__ = [
    "API_VERSION",
    "KEK_SIZE",
    "Capabilities",
    "ConfigError",
    "Foreign",
    "InvalidCiphertext",
    "KeyDisabled",
    "KeyNotFound",
    "Limits",
    "Misbehaved",
    "PermissionDenied",
    "Provider",
    "ProviderConfig",
    "ProviderError",
    "Throttled",
    "Unauthenticated",
    "Unavailable",
    "WrapContext",
    "Wrapped",
]

API_VERSION = 1
"""The version of this interface. A provider names the one it was written for in `Provider.api`."""

KEK_SIZE = 32
"""Bytes in a local KEK."""

WRAP_DOMAIN = b"keystead.dev/wrap/v1\x00"

_NAME = "[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
_VERSION = "[!-~]{1,64}"


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError("should be 1 to 63 characters of a-z, 0-9, '.' and '-', with a letter or digit at both ends")
    return value


def _version_text(value: Any) -> Any:
    """YAML takes a version such as 3 for a number."""
    return str(value) if type(value) is int else value


def _version(value: str) -> str:
    if not re.fullmatch(_VERSION, value):
        raise ValueError("should be 1 to 64 characters of printable ASCII without spaces")
    return value


class Limits(BaseModel):
    """How hard one process may press the remote with one key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: int = Field(
        default=200,
        ge=1,
        le=10_000,
        strict=True,
        description="Calls per second, 1 to 10000. As many as concurrency allows are let through before it counts. "
        "What opens, probes and rewraps is counted too, and goes first.",
    )
    concurrency: int = Field(
        default=16,
        ge=1,
        le=64,
        strict=True,
        description="Unwraps that may be under way at once, 1 to 64. More wait in line.",
    )


class ProviderConfig(BaseModel):
    """Base of a provider's part of `keys:` in the configuration; subclass it and add fields in camelCase.

    The model becomes `keystead config lint`, `schema` and `explain` by itself, so give each field a description.
    Secrets are only ever paths of files. The fields here are the host's: it acts on them, and a provider need not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_name)] = Field(
        json_schema_extra={"pattern": f"^{_NAME}$"}, description="Name of this key, used by endpoints and in messages."
    )
    provider: str = Field(description="Provider of this key: an entry point of the group keystead.providers.")
    version: Annotated[str, BeforeValidator(_version_text), AfterValidator(_version)] | None = Field(
        default=None,
        description="Version of the remote key that new wraps use, instead of its current one, to stay with it or to "
        "go back to it. Others still unwrap. Only for providers whose keys have versions.",
    )
    limits: Limits = Field(default_factory=Limits, description="Limits on calls of the remote with this key.")


ConfigT = TypeVar("ConfigT", bound=ProviderConfig)


@dataclass(frozen=True, slots=True)
class WrapContext:
    """What a wrap is bound to, besides the key: the local KEK's public id (32 bytes) and the cluster's label."""

    kek_id: bytes
    cluster: str

    @property
    def aad(self) -> bytes:
        """The context as bytes, for a KMS that takes additional authenticated data (docs/spec/format.md)."""
        label = self.cluster.encode()
        return WRAP_DOMAIN + self.kek_id + bytes([len(label)]) + label

    @property
    def mapping(self) -> dict[str, str]:
        """The context as text pairs, for a KMS that takes an encryption context."""
        return {"keystead:v": "1", "keystead:kek": self.kek_id.hex(), "keystead:cluster": self.cluster}


@dataclass(frozen=True, slots=True)
class Foreign:
    """What another KMS plugin answered to an Encrypt of kube-apiserver. No part of it begins as Keystead's do."""

    api: Literal["v1beta1", "v2"]
    ciphertext: bytes
    key_id: str = ""
    """What that plugin's Status advertised; empty in v1beta1."""
    annotations: tuple[tuple[str, bytes], ...] = ()
    """Its annotations; none in v1beta1."""


class Wrapped(NamedTuple):
    """The answer of `Provider.wrap`."""

    blob: bytes
    """The wrapped KEK, 1 to 4096 bytes, stored in every object: keep it small."""
    version: str
    """The version of the remote key that wrapped it, as the answer named it; empty if the key has no versions."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a remote KMS can do. The host and the conformance suite adapt to it; it never names a vendor."""

    binds_context: bool
    """A wrap opens only with the `WrapContext` it was made with."""
    has_versions: bool
    """The remote key has versions that the API shows."""
    authenticated_wrap: bool
    """Only a holder of credentials can make a wrap; false where a public key suffices."""
    max_blob: int
    """The largest wrap in bytes that this provider makes, 1 to 4096."""
    unwraps: bool = True
    """It unwraps here; false for a key whose private half is kept offline, for recovery only."""


class Provider(ABC, Generic[ConfigT]):
    """One remote key. Built from its configuration, then opened, used from many threads, and closed once."""

    api: ClassVar[int]
    """The `API_VERSION` that the class was written for."""
    config_type: ClassVar[type[ProviderConfig]]
    """The model of this provider's configuration."""
    capabilities: ClassVar[Capabilities]
    notice: str | None = None
    """A sentence that `config lint` and the host, at start, show as a warning: what an operator must know before.

    Set it on the class, or in `__init__` where it depends on the configuration.
    """

    reads: str | None = None
    """Name of another KMS plugin, if the configuration asks to read what it wrote with this key: see `read`."""

    def __init__(self, config: ConfigT) -> None:
        """Keep the configuration. Do nothing that can fail or block: no file, no network, no SDK."""
        self.config = config

    @abstractmethod
    def open(self, deadline: float) -> str:
        """Read credentials, make the client, and return the ref: what names the remote key for ever.

        The ref is 1 to 512 bytes of printable ASCII without spaces, the same on every node and after a change of
        credentials, region or address, and never an alias. It is stored in every record and must find the key again
        years later. Called until it succeeds, also after a failure half-way.

        Raises any `ProviderError`; `ConfigError` if no retry can help.
        """

    @abstractmethod
    def current_version(self, deadline: float) -> str | None:
        """Return the version that a new wrap should use: up to 64 bytes of printable ASCII.

        An empty string means that the key has no versions; `None` that the credentials may not look, and `wrap`
        decides. Called every minute or so. A version that is a decimal number, or begins with one that ends at a
        hyphen, is taken to be newer than one with a lower number, and is followed by itself; others are followed when
        the operator raises the epoch.
        """

    @abstractmethod
    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        """Wrap the 32 bytes of `kek` under exactly `version`, bound to `context`.

        With `version=None` the remote's current version is used. The answer names the version that was used; if the
        remote used another one than asked for, say so in the answer and let the host decide.
        """

    @abstractmethod
    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytes | bytearray:
        """Undo `wrap`, for every key version that still exists.

        Return the 32 bytes, as a `bytearray` where the SDK allows it, which the host wipes. Raise `InvalidCiphertext`
        if the remote refuses the bytes or the context. Never guess and never try another key: a wrong key is worse
        than none.
        """

    def recognises(self, foreign: Foreign) -> bool:  # noqa: ARG002
        """Whether the plugin of `reads` can have written this with this key. From the form alone, without a call.

        Strictly: what is not recognised is refused as nobody's, and what is costs a call.
        """
        return False

    def read(self, foreign: Foreign, deadline: float) -> bytes | bytearray:  # noqa: ARG002
        """Decrypt what was recognised, exactly as its plugin would, and nothing that `wrap` made.

        Only called while `reads` is set. Return the 32 bytes that kube-apiserver gave to be encrypted. Raise as
        `unwrap` does.
        """
        raise InvalidCiphertext("this provider reads no other plugin's ciphertexts")

    def keep_alive(self, deadline: float) -> None:
        """Renew the credentials if that is due. Called every minute or so while the key is open.

        A key that only decrypts may have no other call for weeks. Override this where credentials end by themselves;
        use neither the key nor its quota.
        """

    @property
    def credential_expiry(self) -> float | None:
        """Unix time at which the credentials in use end, if somebody has to act before; else `None`.

        Somebody has to for credentials that this provider cannot renew by itself, and for those whose last renewal
        failed. Short-lived ones that are renewed as planned are nobody's business. Answered from memory.
        """
        return None

    def cautions(self, deadline: float) -> Iterable[str]:  # noqa: ARG002
        """Say what about the remote key deserves a second look though it works: that one command could delete it.

        A sentence each, with what to do. Asked by `keystead doctor` alone, after `open`; whatever is raised counts as
        nothing to say. Override it where the KMS tells.
        """
        return ()

    def policy(self, clusters: Sequence[str]) -> str | None:  # noqa: ARG002
        """Return the smallest rights that this key needs, in the language of its KMS, ready to be given to its tool.

        Computed from the configuration alone, without `open`; printed by `keystead generate policy`. `clusters` are
        the labels that wraps may have, for a KMS whose policies can see the context. Ends with a newline. `None` where
        there are no policies.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Free what `open` made. May be called twice, and without `open`."""
