"""Values as kube-apiserver puts them into etcd, made without one: the same cryptography, by another library.

What a real kube-apiserver writes is read in tests/e2e.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keystead._core import ROLE_ONLINE, Kek, KekStore, Record, Wrap, WriteState
from keystead._proto.etcd import encrypted_object_pb2
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2

NAME = "keystead"


class LocalKek:
    """A local KEK with its record, and what Encrypt answers under it."""

    def __init__(self, *wraps: Wrap, kek: bytes | None = None, epoch: int = 1, cluster: str = "prod") -> None:
        self.raw = kek or secrets.token_bytes(32)
        self.wraps = wraps or (Wrap("local", "lab", "1", ROLE_ONLINE, b"blob"),)
        made = Kek.from_bytes(self.raw)
        self.record: Record = made.encode_record(1_790_000_000, cluster, self.wraps)
        self.key_id = self.record.key_id(epoch)
        store = KekStore([cluster])
        store.admit_fresh(self.record, made)
        self.state: WriteState = store.write_state(self.record, self.key_id)

    def encrypt(self, seed: bytes) -> v2.EncryptResponse:
        request = v2.EncryptRequest(plaintext=seed).SerializeToString()
        return v2.EncryptResponse.FromString(self.state.encrypt_v2(request))

    def encrypt_v1(self, dek: bytes) -> bytes:
        request = v1.EncryptRequest(version="v1beta1", plain=dek).SerializeToString()
        return v1.EncryptResponse.FromString(self.state.encrypt_v1(request)).cipher


class Seed:
    """One seed of an API server, encrypted once, under which it stores any number of objects."""

    def __init__(self, kek: LocalKek, name: str = NAME) -> None:
        self._seed = secrets.token_bytes(32)
        self._answer = kek.encrypt(self._seed)
        self._name = name

    def store(self, key: bytes, content: bytes, *, derived: bool = True) -> bytes:
        """Return the value for a key in etcd; before 1.29 the seed itself could be the key of the object."""
        if derived:
            info = secrets.token_bytes(32)
            data = info + _gcm(HKDFExpand(hashes.SHA256(), 32, info).derive(self._seed), key, content)
        else:
            data = _gcm(self._seed, key, content)
        stored = encrypted_object_pb2.EncryptedObject(
            encrypted_data=data,
            key_id=self._answer.key_id,
            encrypted_dek_source=self._answer.ciphertext,
            encrypted_dek_source_type=int(derived),
            annotations=self._answer.annotations,
        )
        return f"k8s:enc:kms:v2:{self._name}:".encode() + stored.SerializeToString()


def store_v1(kek: LocalKek, key: bytes, content: bytes, name: str = "old") -> bytes:
    """Return a value of KMS v1: each object has a DEK of its own."""
    dek = secrets.token_bytes(32)
    cipher = kek.encrypt_v1(dek)
    return f"k8s:enc:kms:v1:{name}:".encode() + len(cipher).to_bytes(2) + cipher + _gcm(dek, key, content)


def store_foreign(name: str = "other", key_id: str = "key-1") -> bytes:
    """Return a value that another KMS plugin encrypted."""
    stored = encrypted_object_pb2.EncryptedObject(
        encrypted_data=secrets.token_bytes(80),
        key_id=key_id,
        encrypted_dek_source=b"wrapped by somebody else",
        encrypted_dek_source_type=1,
        annotations={"version.other.example": b"1"},
    )
    return f"k8s:enc:kms:v2:{name}:".encode() + stored.SerializeToString()


def _gcm(key: bytes, etcd_key: bytes, content: bytes) -> bytes:
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, content, etcd_key)
