"""Providers `azure-managed-hsm` and `azure-key-vault`: AES keys and RSA keys of Azure.

**Managed HSM** has AES-256-GCM: one call wraps, and the wrap is bound to its context. blob = nonce[12] ciphertext[32]
tag[16]; the HSM makes the nonce.

**Key Vault** has RSA only. RSA-OAEP proves nothing about who wrapped: the public key suffices, so whoever can write to
etcd could plant a local KEK that he knows. So a wrap is signed as well, by the same version of the key, together with
its context; both is done by the vault, and both needs credentials. blob = RSA-OAEP-256[n] signature[n], n the modulus
in bytes, 256 to 512. The signature is checked before anything is unwrapped.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from keystead.provider import (
    KEK_SIZE,
    Capabilities,
    ConfigError,
    Foreign,
    InvalidCiphertext,
    Misbehaved,
    PermissionDenied,
    Provider,
    ProviderConfig,
    Unavailable,
    WrapContext,
    Wrapped,
)
from keystead_azure import akv
from keystead_azure.config import AzureConfig, KeyVaultConfig, ManagedHsmConfig

if TYPE_CHECKING:
    from keystead_azure.vault import KeyVersion, Vault

NONCE, TAG = 12, 16
GCM_BLOB = NONCE + KEK_SIZE + TAG
RSA_SIZES = (256, 384, 512)
"""Bytes of the moduli that Key Vault makes."""
SIGNED = b"keystead.dev/azure-key-vault/v1\x00"
"""What a signature is for, in front of the context and the RSA-OAEP ciphertext."""

ConfigT = TypeVar("ConfigT", bound=AzureConfig)


class AzureProvider(Provider[ConfigT], Generic[ConfigT]):
    """What both kinds of keys have in common."""

    kinds: ClassVar[str]
    operations: ClassVar[tuple[str, ...]]

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self._vault: Vault | None = None

    def open(self, deadline: float) -> str:
        from keystead_azure.vault import Vault, unexpected

        vault = Vault(self.config)
        try:
            _, key = vault.describe(deadline)
        except PermissionDenied:
            pass  # to look at a key is a right of its own, without which everything else works
        else:
            if (problem := unexpected(self.config.keyName, key, self.kinds, self.operations)) is not None:
                raise problem
        self._vault = vault
        return self.config.ref

    def current_version(self, deadline: float) -> str | None:
        try:
            found, _ = self._opened().describe(deadline)
        except PermissionDenied:
            return None
        return str(found)

    def keep_alive(self, deadline: float) -> None:
        self._opened().tokens.keep_alive(deadline)

    @property
    def credential_expiry(self) -> float | None:
        vault = self._vault
        return vault.tokens.expiry if vault is not None else None

    def close(self) -> None:
        self._vault = None

    def _opened(self) -> Vault:
        if self._vault is None:
            raise Unavailable("not open")
        return self._vault

    def _wanted(self, version: str | None, deadline: float) -> KeyVersion:
        """Return the version to use, with an empty id for the current one if nobody may say which that is."""
        from keystead_azure.vault import KeyVersion

        text = version if version is not None else self.current_version(deadline)
        return KeyVersion.parse(text) if text is not None else KeyVersion("")


class ManagedHsmProvider(AzureProvider[ManagedHsmConfig]):
    """An AES-256 key in a Managed HSM: A256GCM with the context as additional authenticated data."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = ManagedHsmConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=GCM_BLOB
    )
    kinds: ClassVar[str] = "oct-HSM"
    operations: ClassVar[tuple[str, ...]] = ("encrypt", "decrypt")

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        from keystead_azure.vault import decoded, of_version

        vault, wanted = self._opened(), self._wanted(version, deadline)
        answer = vault.operate("encrypt", wanted.id, deadline, alg="A256GCM", value=bytes(kek), aad=context.aad)
        used = of_version(answer, wanted.id)
        blob = decoded(answer, "iv") + decoded(answer, "value") + decoded(answer, "tag")
        if len(blob) != GCM_BLOB:
            raise Misbehaved(f"A256GCM of {len(kek)} bytes has {len(blob)} bytes with iv and tag, not {GCM_BLOB}")
        return Wrapped(blob, str(wanted) if wanted.id else used)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        from keystead_azure.vault import KeyVersion, decoded, of_version

        vault, wanted = self._opened(), KeyVersion.parse(version)
        if len(blob) != GCM_BLOB:
            raise InvalidCiphertext(f"a wrap has {GCM_BLOB} bytes, and this one {len(blob)}")
        answer = vault.operate(
            "decrypt",
            wanted.id,
            deadline,
            alg="A256GCM",
            value=bytes(blob[NONCE:-TAG]),
            iv=bytes(blob[:NONCE]),
            tag=bytes(blob[-TAG:]),
            aad=context.aad,
        )
        of_version(answer, wanted.id)
        return bytearray(decoded(answer, "value"))


class KeyVaultProvider(AzureProvider[KeyVaultConfig]):
    """An RSA key in a vault: RSA-OAEP-256, signed with PS256."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = KeyVaultConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=2 * max(RSA_SIZES)
    )
    kinds: ClassVar[str] = "RSA|RSA-HSM"
    operations: ClassVar[tuple[str, ...]] = ("wrapKey", "unwrapKey", "sign", "verify")

    def __init__(self, config: KeyVaultConfig) -> None:
        super().__init__(config)
        self.reads = config.compat.reader if config.compat is not None else None

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        from keystead_azure.vault import decoded, of_version

        vault, wanted = self._opened(), self._wanted(version, deadline)
        self._part_from_compat(wanted.id)
        answer = vault.operate("wrapkey", wanted.id, deadline, alg="RSA-OAEP-256", value=bytes(kek))
        used, sealed = of_version(answer, wanted.id), decoded(answer, "value")
        self._part_from_compat(used)
        answer = vault.operate("sign", used, deadline, alg="PS256", value=_digest(context, sealed))
        of_version(answer, used)
        signature = decoded(answer, "value")
        if len(sealed) not in RSA_SIZES or len(signature) != len(sealed):
            raise Misbehaved(f"{len(sealed)} bytes of RSA-OAEP-256 and a signature of {len(signature)}")
        return Wrapped(sealed + signature, str(wanted) if wanted.id else used)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        from keystead_azure.vault import KeyVersion, decoded, of_version

        vault, wanted = self._opened(), KeyVersion.parse(version)
        half = len(blob) // 2
        if half not in RSA_SIZES or len(blob) != 2 * half:
            raise InvalidCiphertext(
                f"a wrap has twice {', '.join(map(str, RSA_SIZES))} bytes, and this one {len(blob)}"
            )
        sealed, signature = bytes(blob[:half]), bytes(blob[half:])
        answer = vault.operate(
            "verify", wanted.id, deadline, alg="PS256", digest=_digest(context, sealed), value=signature
        )
        if answer.get("value") is not True:
            raise InvalidCiphertext(f"version {wanted.id} did not sign this wrap in this context")
        answer = vault.operate("unwrapkey", wanted.id, deadline, alg="RSA-OAEP-256", value=sealed)
        of_version(answer, wanted.id)
        return bytearray(decoded(answer, "value"))

    def recognises(self, foreign: Foreign) -> bool:
        compat = self.config.compat
        return compat is not None and akv.recognises(foreign, self.config.key_url(compat.keyVersion))

    def read(self, foreign: Foreign, deadline: float) -> bytearray:
        from keystead_azure.vault import decoded, of_version

        vault, compat = self._opened(), self.config.compat
        if compat is None:
            raise InvalidCiphertext("compat was taken away")
        algorithm, sealed = akv.parts(foreign)
        answer = vault.operate("decrypt", compat.keyVersion, deadline, alg=algorithm, value=sealed)
        of_version(answer, compat.keyVersion)
        return bytearray(akv.seed(foreign, decoded(answer, "value")))

    def _part_from_compat(self, version: str) -> None:
        """RSA-OAEP binds nothing, so a wrap of ours under this version could be read as a seed of the other plugin."""
        compat = self.config.compat
        if compat is not None and compat.keyVersion == version:
            raise ConfigError(
                f"version {version} is read for {compat.reader}, so that nothing new may be wrapped under it: make a "
                "new version of the key, which that plugin does not notice"
            )


def _digest(context: WrapContext, sealed: bytes) -> bytes:
    """What is signed. The context says itself how long it is, so no two pairs give the same bytes."""
    return hashlib.sha256(SIGNED + context.aad + sealed).digest()
