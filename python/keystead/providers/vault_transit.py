"""Provider `vault-transit`: a key of the Transit engine of HashiCorp Vault or OpenBao.

The local KEK is made here and sent to `transit/encrypt` with the context as `associated_data`. Transit's own data
keys are not used, since Vault ignores `associated_data` for them, and so is `context`, which binds nothing unless the
key is derived.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from keystead.provider import (
    Capabilities,
    ConfigError,
    Foreign,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    Provider,
    ProviderConfig,
    ProviderError,
    Unavailable,
    WrapContext,
    Wrapped,
)
from keystead.providers._vault.answers import Answer, refusal
from keystead.providers._vault.config import VaultTransitConfig
from keystead.providers._vault.credentials import Credentials

if TYPE_CHECKING:
    from keystead.providers._vault.http import Transport

AEAD_TYPES = frozenset({"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"})
"""Types of key that bind `associated_data`."""
OLDEST_VAULT = (1, 13)
"""The first Vault that has `associated_data`; OpenBao began later, and its numbers with 2.0."""
OPENBAO_NAMESPACES = (2, 3)
"""The first OpenBao with namespaces."""
FLOORS = ("min_decryption_version", "min_encryption_version")
MAX_FOREIGN = 1024
"""Bytes of another plugin's ciphertext: the most that kube-apiserver stores for KMS v2."""
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]+={0,2}")


class VaultTransitProvider(Provider[VaultTransitConfig]):
    """The blob is Transit's own text, `vault:v1:…`, about 90 bytes; ref = `[lineage/][namespace/]mount/key`."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = VaultTransitConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=128
    )

    def __init__(self, config: VaultTransitConfig) -> None:
        super().__init__(config)
        self.notice = config.notice
        self.reads = config.compat.reader if config.compat is not None else None
        self._transport: Transport | None = None
        self._credentials: Credentials | None = None

    def open(self, deadline: float) -> str:
        self.close()
        try:
            from keystead.providers._vault.http import Transport
        except ModuleNotFoundError as exc:
            raise ConfigError(f"{exc.name} is not installed: install keystead[vault]") from None

        self._transport = Transport(self.config.servers, self.config.namespace, self.config.tls, self.config.proxy)
        _check_server(self._transport, self.config.namespace, deadline)
        self._credentials = Credentials(self.config.auth, self._transport)
        # The right to read the key is not needed to use it; a key of the wrong kind then fails at the first wrap.
        with contextlib.suppress(PermissionDenied):
            self._key(deadline)
        return self.config.ref

    def current_version(self, deadline: float) -> str | None:
        try:
            key = self._key(deadline)
        except PermissionDenied:
            return None
        return str(key["latest_version"])

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        body: dict[str, Any] = {"plaintext": _text(kek), "associated_data": _text(context.aad)}
        if version is not None:
            body["key_version"] = _number(version)
        try:
            answer = self._call("encrypt", deadline, body)
        except KeyDisabled as exc:
            raise self._unusable(version or "latest", exc, deadline) from None
        _distrust_warnings(answer)
        data = answer.section("data")
        ciphertext, used = data.get("ciphertext"), data.get("key_version")
        match = _CIPHERTEXT.fullmatch(ciphertext) if isinstance(ciphertext, str) else None
        if match is None or type(used) is not int or match[1] != str(used):
            raise answer.misbehaved("without a ciphertext and the version of the key that made it")
        return Wrapped(match[0].encode(), match[1])

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        match = _CIPHERTEXT.fullmatch(blob.decode("ascii", "replace"))
        if match is None or match[1] != version:
            raise InvalidCiphertext(f"these {len(blob)} bytes are not what version {version} of a transit key wrapped")
        return self._decrypt({"ciphertext": match[0], "associated_data": _text(context.aad)}, version, deadline)

    def recognises(self, foreign: Foreign) -> bool:
        # vault-kubernetes-kms stores Transit's answer as it is. Its key_id is the latest version of the key, or in its
        # first releases the time at which that was made: a number either way, and not always that of the ciphertext.
        if len(foreign.ciphertext) > MAX_FOREIGN or foreign.annotations:
            return False
        if not _CIPHERTEXT.fullmatch(foreign.ciphertext.decode("ascii", "replace")):
            return False
        return foreign.api == "v1beta1" or re.fullmatch("[1-9][0-9]{0,19}", foreign.key_id) is not None

    def read(self, foreign: Foreign, deadline: float) -> bytearray:
        match = _CIPHERTEXT.fullmatch(foreign.ciphertext.decode("ascii", "replace"))
        if match is None:
            raise InvalidCiphertext("this is not what a transit key encrypted")
        # Without associated data, so that nothing that `wrap` made can be opened here.
        return self._decrypt({"ciphertext": match[0]}, match[1], deadline)

    def _decrypt(self, body: Mapping[str, str], version: str, deadline: float) -> bytearray:
        try:
            answer = self._call("decrypt", deadline, body)
        except KeyDisabled as exc:
            raise self._unusable(version, exc, deadline) from None
        _distrust_warnings(answer)
        plaintext = answer.section("data").get("plaintext")
        try:
            if isinstance(plaintext, str):
                return bytearray(base64.b64decode(plaintext, validate=True))
        except (binascii.Error, ValueError):
            pass
        raise answer.misbehaved("without a plaintext in base64")

    def keep_alive(self, deadline: float) -> None:
        if self._credentials is not None:
            self._credentials.keep_alive(deadline)

    @property
    def credential_expiry(self) -> float | None:
        return self._credentials.expiry if self._credentials is not None else None

    def cautions(self, deadline: float) -> Iterator[str]:
        key = self._key(deadline)
        at = f"{self.config.mount}/keys/{self.config.transitKey}"
        if key.get("deletion_allowed") is True:
            yield f"{at} has deletion_allowed: write deletion_allowed=false to {at}/config"
        for setting in ("exportable", "allow_plaintext_backup"):
            if key.get(setting) is True:
                yield f"{at} is {setting}: who may read it has the key; that cannot be taken back, so move to a new key"

    def policy(self, clusters: Sequence[str]) -> str:  # noqa: ARG002  # policies cannot see associated_data
        mount, key = self.config.mount, self.config.transitKey
        namespace = f" in the namespace {self.config.namespace}" if self.config.namespace else ""
        return (
            f"# Key {self.config.name}: a policy of Vault or OpenBao{namespace}. Give it to the plugin's role\n"
            "# together with `default`. Never add `create`: a typing error in transitKey would then make a new key.\n"
            f'path "{mount}/encrypt/{key}" {{ capabilities = ["update"] }}\n'
            f'path "{mount}/decrypt/{key}" {{ capabilities = ["update"] }}\n'
            f'path "{mount}/keys/{key}"    {{ capabilities = ["read"] }}\n'
        )

    def close(self) -> None:
        transport, self._transport, self._credentials = self._transport, None, None
        if transport is not None:
            transport.close()

    def _call(self, operation: str, deadline: float, body: Mapping[str, Any] | None = None) -> Answer:
        """Do `encrypt` or `decrypt` with a body, or read `keys`, which a policy need not allow."""
        credentials = self._credentials
        if credentials is None:
            raise Unavailable("not open")
        path = f"{self.config.mount}/{operation}/{self.config.transitKey}"
        if body is None:
            return credentials.request("GET", path, deadline, optional=True)
        return credentials.request("POST", path, deadline, body=body)

    def _key(self, deadline: float) -> Mapping[str, Any]:
        """Return what the server tells about the key, if it is one that can be used here.

        Reading never creates the key. Encrypting would, for a token with the capability `create`, after a typing
        error in `transitKey`.
        """
        answer = self._call("keys", deadline)
        key = answer.section("data")
        kind = str(key.get("type"))
        if kind not in AEAD_TYPES:
            shown = kind if re.fullmatch(r"[a-z0-9_-]{1,24}", kind) else "of its own"
            raise ConfigError(
                f"{self.config.path} has type {shown}, which cannot bind the context; "
                f"create one of {', '.join(sorted(AEAD_TYPES))}"
            )
        if key.get("derived") is not False:
            raise ConfigError(f"{self.config.path} is a derived key; create one without derived=true")
        if key.get("supports_encryption") is False:
            raise ConfigError(f"{self.config.path} does not support encryption")
        if key.get("soft_deleted") is True:
            raise KeyDisabled(f"{self.config.path} is soft-deleted: restore it")
        latest, oldest = key.get("latest_version"), key.get("min_encryption_version", 0)
        if type(latest) is not int or type(oldest) is not int or latest < 1:
            raise answer.misbehaved("without the versions of the key")
        if latest < oldest:
            raise Unavailable(
                f"{answer.request}: latest_version {latest} is below min_encryption_version {oldest}: "
                "this server has not seen the rotation yet"
            )
        return key

    def _unusable(self, version: str, refused: KeyDisabled, deadline: float) -> ProviderError:
        """Say which setting switches the version off, as far as the key may be read: there is one text for two."""
        path = self.config.path
        try:
            key = self._key(deadline)
        except KeyDisabled as exc:
            return exc
        except ProviderError:
            key = {}
        floor = key.get("min_available_version", 0)
        if version.isdecimal() and type(floor) is int and int(version) < floor:
            return KeyNotFound(
                f"version {version} of {path} was trimmed (min_available_version is {floor}); "
                "only a backup of the transit key has it"
            )
        floors = ", ".join(f"{name} is {key[name]}" for name in FLOORS if type(key.get(name)) is int)
        return KeyDisabled(
            f"version {version} of {path} is switched off{f' ({floors})' if floors else ''}: to restore it, "
            f"lower min_decryption_version, and to wrap also min_encryption_version, to {version} at "
            f"{self.config.mount}/keys/{self.config.transitKey}/config; {refused}"
        )


def _check_server(transport: Transport, namespace: str | None, deadline: float) -> None:
    """Refuse a server that would silently ignore what the configuration asks for."""
    answer = transport.request("GET", "sys/health?standbyok=true&perfstandbyok=true", deadline, in_namespace=False)
    error = refusal(answer)
    if isinstance(error, Misbehaved | PermissionDenied | KeyNotFound):
        return  # something in front of the server keeps this path closed; the calls that follow will tell
    if error is not None:
        raise error
    about = answer.body or {}
    number = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})\.[A-Za-z0-9.+-]{1,24}", str(about.get("version")))
    if number is None:
        return
    version, name = (int(number[1]), int(number[2])), number[0]
    if version < OLDEST_VAULT:
        raise ConfigError(f"the server's version is {name}; binding the context needs Vault 1.13 or OpenBao")
    if namespace is None:
        return
    enterprise = about.get("enterprise")
    if enterprise is False or (enterprise is None and version < OPENBAO_NAMESPACES and "+ent" not in name):
        raise ConfigError(
            f"namespace is {namespace!r}, but the server (version {name}) has no namespaces and would use the root: "
            "remove namespace"
        )


def _distrust_warnings(answer: Answer) -> None:
    """Take a warning for a failure: the server says in one that it ignored `associated_data`."""
    if warnings := (answer.body or {}).get("warnings"):
        count = len(warnings) if isinstance(warnings, list) else 1
        ignored = "ignored" in str(warnings) and "associated_data" in str(warnings)
        raise answer.misbehaved(
            "that it ignored associated_data, so the wrap would be bound to nothing"
            if ignored
            else f"with {count} warnings, where none is expected"
        )


def _text(secret: bytes) -> str:
    return base64.b64encode(secret).decode()


def _number(version: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise ConfigError(f"{version[:64]!r} is not a version of a transit key: those are 1, 2, 3 and so on")
    return int(version)
