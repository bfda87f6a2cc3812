"""What Azure/kubernetes-kms wrote: its forms, from its public source.

KMS v2 (pkg/plugin/keyvault.go, kms_v2_server.go): key_id = hex SHA-256 of the URL of the key's version; annotations
`algorithm.azure.akv.io` = RSA-OAEP-256 and `version.azure.akv.io` = 1. With the SDK that it had at first the ciphertext
is base64url text of the RSA ciphertext of the seed, and three more annotations tell of the call. With its newer one it
is the RSA ciphertext itself, of the seed in base64url. KMS v1 (server.go): the ciphertext alone, of RSA1_5.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from keystead.provider import Foreign, InvalidCiphertext

ALGORITHM, VERSION = "algorithm.azure.akv.io", "version.azure.akv.io"
ABOUT_THE_CALL = frozenset({"date.azure.akv.io", "x-ms-request-id.azure.akv.io", "x-ms-keyvault-region.azure.akv.io"})
OAEP, PKCS1 = "RSA-OAEP-256", "RSA1_5"
SIZES = frozenset({256, 384, 512})
"""Bytes of an RSA ciphertext."""
_TEXT = re.compile(rb"[A-Za-z0-9_-]{342,683}")


def recognises(foreign: Foreign, key_url: str) -> bool:
    """Whether that plugin can have written this with the version of a key that has this URL."""
    if foreign.api == "v1beta1":
        return len(foreign.ciphertext) in SIZES or _from_text(foreign.ciphertext) is not None
    names = [name for name, _ in foreign.annotations]
    said = dict(foreign.annotations)
    if len(names) != len(said) or said.get(ALGORITHM) != OAEP.encode() or said.get(VERSION) != b"1":
        return False
    if foreign.key_id != hashlib.sha256(key_url.encode()).hexdigest():
        return False
    others = said.keys() - {ALGORITHM, VERSION}
    if others:
        return others == ABOUT_THE_CALL and _from_text(foreign.ciphertext) is not None
    return len(foreign.ciphertext) in SIZES


def parts(foreign: Foreign) -> tuple[str, bytes]:
    """The algorithm, and the RSA ciphertext. Raises `InvalidCiphertext` for what is not recognised."""
    sealed = foreign.ciphertext if _is_new(foreign) else _from_text(foreign.ciphertext)
    if sealed is None:
        raise InvalidCiphertext("this is not what kubernetes-kms encrypted")
    return (PKCS1 if foreign.api == "v1beta1" else OAEP), sealed


def seed(foreign: Foreign, plaintext: bytes) -> bytes:
    """What the plugin was given, from what the vault decrypted."""
    if not _is_new(foreign):
        return plaintext
    try:
        return base64.b64decode(plaintext + b"=" * (-len(plaintext) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidCiphertext("what is encrypted is not the text that kubernetes-kms encrypts") from None


def _is_new(foreign: Foreign) -> bool:
    if foreign.api == "v1beta1":
        return _from_text(foreign.ciphertext) is None
    return not ABOUT_THE_CALL & {name for name, _ in foreign.annotations}


def _from_text(text: bytes) -> bytes | None:
    if not _TEXT.fullmatch(text):
        return None
    try:
        sealed = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return sealed if len(sealed) in SIZES else None
