"""Provider `aws-kms`: a symmetric key of AWS KMS.

The local KEK is made here and wrapped by `Encrypt` with the context as encryption context, which KMS authenticates and
CloudTrail shows. `Decrypt` names the key, so that a wrap of another key is refused although KMS could open it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from keystead.provider import (
    Capabilities,
    ConfigError,
    Foreign,
    InvalidCiphertext,
    KeyDisabled,
    PermissionDenied,
    Provider,
    Unavailable,
    WrapContext,
    Wrapped,
)
from keystead.providers._aws.config import AwsKmsConfig

if TYPE_CHECKING:
    from keystead.providers._aws.kms import Answer, Kms

MAX_BLOB = 1024
"""A wrap of 32 bytes has 184 bytes today, and its form is AWS's own affair."""
USABLE_STATES = frozenset({"Enabled", "Updating"})
"""`Updating` is a multi-Region key whose primary region is being changed."""
PASSING_STATES = frozenset({"Creating", "Unavailable"})


MARK = b"1"
"""What aws-encryption-provider puts in front of the blob of KMS, in both versions of the API, since its first release
(its StorageVersion)."""


class AwsKmsProvider(Provider[AwsKmsConfig]):
    """The blob is KMS's own; ref = the key's ARN, whose region is empty for a multi-Region key. No versions."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[AwsKmsConfig]] = AwsKmsConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=False, authenticated_wrap=True, max_blob=MAX_BLOB
    )

    def __init__(self, config: AwsKmsConfig) -> None:
        super().__init__(config)
        self.notice = config.notice
        self.reads = config.compat.reader if config.compat is not None else None
        self._kms: Kms | None = None

    def open(self, deadline: float) -> str:
        self.close()
        try:
            from keystead.providers._aws.kms import Kms
        except ModuleNotFoundError as exc:
            raise ConfigError(f"{exc.name} is not installed: install keystead[aws]") from None

        self._kms = Kms(self.config)
        # The right to describe the key is not needed to use it; a key of the wrong kind then fails at the first wrap.
        with contextlib.suppress(PermissionDenied):
            _check(self._call("DescribeKey", deadline))
        return self.config.ref

    def current_version(self, deadline: float) -> str:  # noqa: ARG002  # there is nothing to ask
        return ""

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        if version:
            raise ConfigError("keys of AWS KMS have no versions: remove the version")
        answer = self._call("Encrypt", deadline, Plaintext=bytes(kek), EncryptionContext=context.mapping)
        return Wrapped(answer.content("CiphertextBlob"), "")

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        if version or not 1 <= len(blob) <= MAX_BLOB:
            raise InvalidCiphertext(f"these {len(blob)} bytes are not what a key of AWS KMS wrapped")
        answer = self._call("Decrypt", deadline, CiphertextBlob=bytes(blob), EncryptionContext=context.mapping)
        return bytearray(answer.content("Plaintext"))

    def recognises(self, foreign: Foreign) -> bool:
        if not foreign.ciphertext.startswith(MARK) or not 2 <= len(foreign.ciphertext) <= MAX_BLOB + 1:
            return False
        # Status of that plugin answers its --key, which may be an alias or an id too: only a full ARN tells.
        named = foreign.key_id
        is_another = named.startswith("arn:") and ":key/" in named and not self.config.is_named(named)
        return not foreign.annotations and (foreign.api == "v1beta1" or (named != "" and not is_another))

    def read(self, foreign: Foreign, deadline: float) -> bytearray:
        # That plugin lets the blob choose the key. Here the call names ours, as everywhere.
        context = self.config.compat.encryptionContext if self.config.compat is not None else None
        parameters = {"EncryptionContext": context} if context else {}
        answer = self._call("Decrypt", deadline, CiphertextBlob=foreign.ciphertext[1:], **parameters)
        return bytearray(answer.content("Plaintext"))

    def keep_alive(self, deadline: float) -> None:
        if self._kms is not None:
            self._kms.credentials.keep_alive(deadline)

    @property
    def credential_expiry(self) -> float | None:
        return self._kms.credentials.expiry if self._kms is not None else None

    def cautions(self, deadline: float) -> Iterator[str]:
        key = self._call("DescribeKey", deadline).section("KeyMetadata")
        if key.get("Origin") == "EXTERNAL" and key.get("ExpirationModel") == "KEY_MATERIAL_EXPIRES":
            yield f"its imported material expires at {key.get('ValidTo')}: import it again without an end"

    def policy(self, clusters: Sequence[str]) -> str:
        """An identity policy, which AWS takes without comments. The condition keeps clusters apart that share a key."""
        arn = self.config.key_in("*") if self.config.is_multi_region else self.config.keyID
        statements = [
            {
                "Sid": "KeysteadWrapAndUnwrap",
                "Effect": "Allow",
                "Action": ["kms:Encrypt", "kms:Decrypt"],
                "Resource": arn,
                "Condition": {"StringEquals": {"kms:EncryptionContext:keystead:cluster": list(clusters)}},
            },
            {"Sid": "KeysteadLook", "Effect": "Allow", "Action": "kms:DescribeKey", "Resource": arn},
        ]
        return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"

    def close(self) -> None:
        kms, self._kms = self._kms, None
        if kms is not None:
            kms.close()

    def _call(self, operation: str, deadline: float, **parameters: Any) -> Answer:
        kms = self._kms
        if kms is None:
            raise Unavailable("not open")
        return kms.call(operation, deadline, **parameters)


def _check(answer: Answer) -> None:
    """Refuse a key that cannot wrap."""
    key = answer.section("KeyMetadata")
    usage, spec, state = (str(key.get(name)) for name in ("KeyUsage", "KeySpec", "KeyState"))
    if usage != "ENCRYPT_DECRYPT" or spec != "SYMMETRIC_DEFAULT":
        raise ConfigError(
            f"the key has KeyUsage {_word(usage)} and KeySpec {_word(spec)}: "
            "create one with ENCRYPT_DECRYPT and SYMMETRIC_DEFAULT"
        )
    if state in PASSING_STATES:
        raise Unavailable(f"the key's state is {state}")
    if state not in USABLE_STATES:
        raise KeyDisabled(f"the key's state is {_word(state)}: enable it, cancel its deletion, or import its material")


def _word(value: str) -> str:
    return value if value.replace("_", "").isalnum() and len(value) <= 32 else "of its own"
