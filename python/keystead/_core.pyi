"""The Rust core as Python sees it. Key bytes enter and stay there, but for `Kek.reveal`, which a wrap needs.

Requests and answers of the hot path are protobuf messages of proto/v2 and proto/v1beta1 as raw bytes.
Errors are the classes of `keystead.errors`: `MalformedRequest`, `NotAuthentic`, `ClusterNotAccepted`, `Unsafe`.
"""

from collections.abc import Sequence
from typing import final

__all__ = [
    "ANNOTATION",
    "MAX_PLAINTEXT",
    "MAX_REQUEST",
    "ROLE_ONLINE",
    "ROLE_RECOVERY",
    "AeadKey",
    "Kek",
    "KekStore",
    "MemoryReport",
    "Record",
    "Seed",
    "StateFile",
    "V1Cipher",
    "Wrap",
    "WriteState",
    "encode_status",
    "encode_version",
    "harden_process",
    "is_ping",
    "key_id",
    "key_id_epoch",
    "memory_report",
    "request_uid",
]

ROLE_ONLINE: int
ROLE_RECOVERY: int
MAX_PLAINTEXT: int
MAX_REQUEST: int
ANNOTATION: str

@final
class Wrap:
    """A local KEK under one remote key. Fields and limits: docs/spec/format.md."""

    def __new__(cls, scheme: str, ref: str, version: str, role: int, blob: bytes) -> Wrap: ...
    @property
    def scheme(self) -> str: ...
    @property
    def ref(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def role(self) -> int: ...
    @property
    def blob(self) -> bytes: ...

@final
class Record:
    """A parsed KEK record: public data. Equal and hashable by its bytes."""

    @staticmethod
    def parse(encoded: bytes) -> Record:
        """Parse strictly; raises `MalformedRequest`. The MAC is not checked: that needs the KEK."""
    @property
    def encoded(self) -> bytes: ...
    @property
    def digest(self) -> bytes:
        """SHA-256 of the encoding, 32 bytes."""
    @property
    def created(self) -> int:
        """Unix seconds, for information."""
    @property
    def cluster(self) -> str: ...
    @property
    def kek_id(self) -> bytes:
        """32 bytes."""
    @property
    def wraps(self) -> tuple[Wrap, ...]: ...
    @property
    def remote_aad(self) -> bytes: ...
    def key_id(self, epoch: int) -> str:
        """The public name that Status advertises for this record's wraps at `epoch`."""

@final
class Kek:
    """A local KEK that was just made, before its record exists."""

    @staticmethod
    def generate() -> Kek:
        """32 bytes from the operating system's generator; raises `Unsafe` if there is none."""
    @staticmethod
    def from_bytes(kek: bytes | bytearray) -> Kek:
        """Take 32 known bytes (recovery, vectors); a `bytearray` is wiped. Raises `ValueError` for another length."""
    @property
    def kek_id(self) -> bytes: ...
    def reveal(self) -> bytes:
        """The 32 bytes, for `Provider.wrap` and nothing else. The copy cannot be wiped."""
    def equals(self, candidate: bytes | bytearray) -> bool:
        """Compare in constant time; a `bytearray` is wiped."""
    def encode_record(self, created: int, cluster: str, wraps: Sequence[Wrap]) -> Record:
        """Sort the wraps, encode, authenticate, and parse the result.

        Raises `ValueError` for what the format refuses.
        """

@final
class KekStore:
    """The unwrapped KEKs of one endpoint, bounded, in locked memory. Safe to use from many threads."""

    def __new__(cls, clusters: Sequence[str], capacity: int = 4096) -> KekStore: ...
    def accept(self, clusters: Sequence[str]) -> None:
        """Replace the cluster labels that records may carry."""
    def decrypt_v2(self, request: bytes) -> bytes | Record:
        """Answer a DecryptRequest; or, if the KEK is not here, return the record to unwrap. One call, no I/O."""
    def decrypt_v1(self, request: bytes) -> bytes | Record: ...
    def admit(self, record: Record, kek: bytes | bytearray) -> None:
        """Check length, key commitment and MAC (raises `NotAuthentic`), keep the KEK, wipe a `bytearray`."""
    def admit_fresh(self, record: Record, kek: Kek) -> None: ...
    def holds(self, record: Record) -> bool: ...
    def write_state(self, record: Record, key_id: str) -> WriteState:
        """Pin an admitted KEK as the one to encrypt under, after a seal and open. Raises `KeyError`, `Unsafe`."""
    def retain(self, members: Sequence[tuple[str, str]]) -> int:
        """Drop every KEK with no online wrap of these (scheme, ref); return how many were dropped."""
    def __len__(self) -> int: ...

@final
class WriteState:
    """What Status advertises and Encrypt uses: one immutable value."""

    @property
    def key_id(self) -> str: ...
    @property
    def record(self) -> Record: ...
    @property
    def uses(self) -> int: ...
    def encrypt_v2(self, request: bytes) -> bytes:
        """Seal 1 to 947 bytes, open what was sealed, and answer. Raises `MalformedRequest`, `Unsafe`."""
    def encrypt_v1(self, request: bytes) -> bytes: ...

@final
class Seed:
    """The header of a sealed seed."""

    @staticmethod
    def parse(encoded: bytes) -> Seed: ...
    @property
    def kek_id(self) -> bytes: ...
    @property
    def plaintext_size(self) -> int: ...

@final
class V1Cipher:
    @staticmethod
    def parse(encoded: bytes) -> V1Cipher: ...
    @property
    def key_id(self) -> str: ...
    @property
    def record(self) -> Record: ...
    @property
    def seed(self) -> Seed: ...

@final
class StateFile:
    """The content of `<stateDir>/<endpoint>/current`."""

    def __new__(cls, key_id: str, record: Record) -> StateFile: ...
    @staticmethod
    def parse(encoded: bytes) -> StateFile: ...
    @property
    def encoded(self) -> bytes: ...
    @property
    def key_id(self) -> str: ...
    @property
    def record(self) -> Record: ...

@final
class AeadKey:
    """A 32-byte XAES-256-GCM key in locked memory."""

    def __new__(cls, key: bytearray) -> AeadKey:
        """Take the key and wipe the argument. Raises `ValueError` for another length than 32."""
    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """nonce[24] ct tag[16]. Raises `Unsafe` without randomness."""
    def open(self, blob: bytes, aad: bytes) -> bytearray:
        """Raises `NotAuthentic`; `MalformedRequest` below 40 bytes."""

def key_id(cluster: str, epoch: int, members: Sequence[tuple[str, str, str, int]]) -> str:
    """The key_id of (scheme, ref, version, role) members, sorted as a record sorts them."""

def key_id_epoch(key_id: str) -> int:
    """The epoch inside a key_id; raises `ValueError` if it is not one of ours."""

def is_ping(request: bytes) -> bool:
    """Whether a v1 EncryptRequest carries the four bytes that the v1 health check sends."""

def request_uid(request: bytes) -> str:
    """The uid field of a v2 request, for a log line; empty if there is none or the request is malformed."""

def encode_status(version: str, healthz: str, key_id: str) -> bytes: ...
def encode_version(version: str, runtime_name: str, runtime_version: str) -> bytes: ...

@final
class MemoryReport:
    @property
    def locked(self) -> bool: ...
    @property
    def undumpable(self) -> bool: ...

def memory_report() -> MemoryReport:
    """Whether the memory that holds keys so far could be locked and left out of core dumps."""

def harden_process() -> list[str]:
    """Forbid core dumps and ptrace for this process; return a sentence for each thing that the system refused."""
