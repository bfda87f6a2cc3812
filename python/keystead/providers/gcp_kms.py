"""Provider `gcp-kms`: a symmetric key of Google Cloud KMS.

The local KEK is made here and sent to Encrypt with the context as additional authenticated data. A wrap asks for one
version by number, since the service may take hours to agree everywhere on which version is primary.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from keystead.provider import (
    Capabilities,
    ConfigError,
    Foreign,
    KeyDisabled,
    Misbehaved,
    PermissionDenied,
    Provider,
    ProviderConfig,
    Unavailable,
    WrapContext,
    Wrapped,
)
from keystead.providers._gcp.answers import scrub, state_hint
from keystead.providers._gcp.config import KEY_NAME, GcpKmsConfig

if TYPE_CHECKING:
    from keystead.providers._gcp.service import Service

SAFE_DELAY = 7 * 86400.0
"""Seconds to notice that a version is to be destroyed, and to restore it."""
MAX_FOREIGN = 1024
"""Bytes of another plugin's ciphertext: the most that kube-apiserver stores for KMS v2."""
_NUMBER = r"[1-9][0-9]{0,9}"


class GcpKmsProvider(Provider[GcpKmsConfig]):
    """The blob is the service's ciphertext, a little over 100 bytes; ref = the key's name."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = GcpKmsConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=1024
    )

    def __init__(self, config: GcpKmsConfig) -> None:
        super().__init__(config)
        self.reads = config.compat.reader if config.compat is not None else None
        self._service: Service | None = None

    def open(self, deadline: float) -> str:
        self.close()
        try:
            from keystead.providers._gcp.service import Service
        except ModuleNotFoundError as exc:
            raise ConfigError(f"{exc.name} is not installed: install keystead[gcp]") from None

        self._service = Service(self.config)
        # The right to look at the key is not needed to use it; a key of another purpose then fails at the first wrap.
        with contextlib.suppress(PermissionDenied):
            self._key(deadline)
        return self.config.keyName

    def current_version(self, deadline: float) -> str | None:
        try:
            primary = self._key(deadline).primary
        except PermissionDenied:
            return None
        if not primary.name:
            raise KeyDisabled(f"{self.config.keyName} has no primary version: make one and set it as primary")
        version = self._version_in(primary.name)
        if primary.state.name != "ENABLED":
            raise KeyDisabled(
                f"version {version} of {self.config.keyName} is primary and {primary.state.name}: make another version "
                f"primary, or {state_hint(primary.state.name) or 'enable it'}"
            )
        return version

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        name = self.config.keyName
        if version is not None:
            if not re.fullmatch(_NUMBER, version):
                raise ConfigError(f"{version[:64]!r} is not a version of a key: those are 1, 2, 3 and so on")
            name += f"/cryptoKeyVersions/{version}"
        answer = self._opened().encrypt(name, kek, context.aad, deadline)
        return Wrapped(answer.ciphertext, self._version_in(answer.name))

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:  # noqa: ARG002
        # The ciphertext names its version, and the service authenticates that too.
        answer = self._opened().decrypt(self.config.keyName, blob, context.aad, deadline)
        return bytearray(answer.plaintext)

    def recognises(self, foreign: Foreign) -> bool:
        # k8s-cloudkms-plugin stores the service's ciphertext as it is, whose form is the service's own affair. Its
        # key_id is the name of the key's version, then a colon and its --key-suffix if it has one.
        if not 1 <= len(foreign.ciphertext) <= MAX_FOREIGN or foreign.annotations:
            return False
        form = re.escape(self.config.keyName) + rf"(/cryptoKeyVersions/{_NUMBER})?(:.*)?"
        return foreign.api == "v1beta1" or re.fullmatch(form, foreign.key_id) is not None

    def read(self, foreign: Foreign, deadline: float) -> bytearray:
        # Without additional data, so that nothing that `wrap` made can be opened here.
        answer = self._opened().decrypt(self.config.keyName, foreign.ciphertext, b"", deadline)
        return bytearray(answer.plaintext)

    def keep_alive(self, deadline: float) -> None:
        if self._service is not None:
            self._service.tokens.keep_alive(deadline)

    @property
    def credential_expiry(self) -> float | None:
        return self._service.tokens.expiry if self._service is not None else None

    def cautions(self, deadline: float) -> Iterator[str]:
        after = self._key(deadline).destroy_scheduled_duration
        if after and after.total_seconds() < SAFE_DELAY:
            yield (
                f"a version that somebody destroys is gone after {after.total_seconds() / 3600:.0f} h, which cannot "
                "be changed: make the next one with --destroy-scheduled-duration=30d, and deny "
                "cloudkms.cryptoKeyVersions.destroy"
            )

    def policy(self, clusters: Sequence[str]) -> str:  # noqa: ARG002  # conditions cannot see the context
        _, project, _, location, _, ring, _, key = self.config.keyName.split("/")
        bind = (
            f"gcloud kms keys add-iam-policy-binding {key} \\\n"
            f"  --project={project} --location={location} --keyring={ring} \\\n"
            '  --member="serviceAccount:$SERVICE_ACCOUNT" --role=roles/cloudkms.'
        )
        return (
            f"# Key {self.config.name}: both roles on this key alone. SERVICE_ACCOUNT is the e-mail address that the\n"
            "# plugin has; the second role lets it see rotations.\n"
            f"{bind}cryptoKeyEncrypterDecrypter\n{bind}viewer\n"
        )

    def close(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            service.close()

    def _opened(self) -> Service:
        service = self._service
        if service is None:
            raise Unavailable("not open")
        return service

    def _key(self, deadline: float) -> Any:
        """Return what the service tells about the key, if it is one that can be used here.

        The state of its primary version is not looked at: others may still be needed to unwrap.
        """
        key = self._opened().key(self.config.keyName, deadline)
        self._check_spelling(key.name)
        if key.purpose.name != "ENCRYPT_DECRYPT":
            raise ConfigError(
                f"{self.config.keyName} has the purpose {key.purpose.name}; create a key with the purpose "
                "ENCRYPT_DECRYPT (gcloud: --purpose=encryption)"
            )
        return key

    def _version_in(self, name: str) -> str:
        """Return the number in the name of a version of our key."""
        key, _, number = name.partition("/cryptoKeyVersions/")
        self._check_spelling(key)
        if not re.fullmatch(_NUMBER, number):
            raise Misbehaved(f"Cloud KMS answered for {self.config.keyName} without the version of the key")
        return number

    def _check_spelling(self, name: str) -> None:
        """Refuse an answer about another key, and a spelling that the service does not use itself.

        Records find their key by its name, so all nodes have to write the same one; a project has a number too.
        """
        asked = self.config.keyName
        if name == asked:
            return
        if re.fullmatch(KEY_NAME, name) and name.split("/")[2:] == asked.split("/")[2:]:
            raise ConfigError(f"Cloud KMS calls {asked} {name}: write that in keyName")
        raise Misbehaved(f"Cloud KMS was asked about {asked} and answered about {scrub(name) or 'no key'}")
