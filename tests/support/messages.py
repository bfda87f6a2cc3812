"""Requests of kube-apiserver and its answers, made and read with protobuf: not with the parser under test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keystead._core import ANNOTATION, Record
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2

SEED = bytes(range(128, 160))


@dataclass(frozen=True)
class Ciphertext:
    """What etcd keeps of one v2 Encrypt."""

    ciphertext: bytes
    key_id: str
    record: bytes

    @property
    def request(self) -> bytes:
        """The DecryptRequest that brings it back."""
        annotations = {ANNOTATION: self.record}
        return v2.DecryptRequest(
            ciphertext=self.ciphertext, uid="read", key_id=self.key_id, annotations=annotations
        ).SerializeToString()


class Encrypts(Protocol):
    """An endpoint, or a WriteState."""

    def encrypt_v2(self, request: bytes, /) -> bytes: ...


class Decrypts(Protocol):
    """An endpoint."""

    def decrypt_v2(self, request: bytes, remaining: Callable[[], float | None], /) -> bytes: ...


def encrypt_request(plaintext: bytes = SEED) -> bytes:
    """A v2 EncryptRequest."""
    return v2.EncryptRequest(plaintext=plaintext, uid="write").SerializeToString()


def encrypt(endpoint: Encrypts, plaintext: bytes = SEED) -> Ciphertext:
    """Encrypt over v2."""
    answer = v2.EncryptResponse.FromString(endpoint.encrypt_v2(encrypt_request(plaintext)))
    return Ciphertext(answer.ciphertext, answer.key_id, answer.annotations[ANNOTATION])


def decrypt(endpoint: Decrypts, ciphertext: Ciphertext, remaining: float | None = None) -> bytes:
    """Decrypt over v2."""
    return v2.DecryptResponse.FromString(endpoint.decrypt_v2(ciphertext.request, lambda: remaining)).plaintext


def status(encoded: bytes) -> v2.StatusResponse:
    """Read a StatusResponse."""
    return v2.StatusResponse.FromString(encoded)


def encrypt_v1_request(plaintext: bytes) -> bytes:
    """A v1 EncryptRequest."""
    return v1.EncryptRequest(version="v1beta1", plain=plaintext).SerializeToString()


def decrypt_v1_request(encrypted: bytes) -> bytes:
    """The v1 DecryptRequest for what `encrypt_v1` answered."""
    cipher = v1.EncryptResponse.FromString(encrypted).cipher
    return v1.DecryptRequest(version="v1beta1", cipher=cipher).SerializeToString()


def plaintext_v1(encoded: bytes) -> bytes:
    """Read a v1 DecryptResponse."""
    return v1.DecryptResponse.FromString(encoded).plain


def mutilated(record: Record) -> Record:
    """The same record with one bit of its MAC flipped: it parses, and carries a live kek_id."""
    return Record.parse(record.encoded[:-1] + bytes([record.encoded[-1] ^ 1]))
