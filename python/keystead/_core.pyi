"""The Rust core as Python sees it. Key bytes enter and stay there, but for `Kek.reveal`, which a wrap needs.

Requests and answers of the hot path are protobuf messages of proto/v2 and proto/v1beta1 as raw bytes.
Errors are the classes of `keystead.errors`: `MalformedRequest`, `NotAuthentic`, `ClusterNotAccepted`, `Unsafe`.
"""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import final

__all__ = [
    "ANNOTATION",
    "MAX_PLAINTEXT",
    "MAX_REQUEST",
    "ROLE_ONLINE",
    "ROLE_RECOVERY",
    "AeadKey",
    "Holder",
    "Kek",
    "KekStore",
    "Latest",
    "MemoryReport",
    "Record",
    "Recovery",
    "Seed",
    "Snapshot",
    "SnapshotError",
    "StateFile",
    "Tally",
    "V1Cipher",
    "Wrap",
    "WriteState",
    "encode_decrypt",
    "encode_status",
    "encode_version",
    "foreign_v1",
    "foreign_v2",
    "harden_process",
    "is_ping",
    "key_id",
    "key_id_epoch",
    "memory_report",
    "request_uid",
    "stored_value",
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

def foreign_v2(request: bytes) -> tuple[bytes, str, list[tuple[str, bytes]]] | None:
    """Ciphertext, key_id and annotations of a v2 DecryptRequest for what another plugin wrote.

    `None` if any of them begins as ours do, be it damaged. Raises `MalformedRequest`.
    """

def foreign_v1(request: bytes) -> bytes | None:
    """The ciphertext of a v1beta1 DecryptRequest for what another plugin wrote; `None` if it begins as ours do."""

def encode_decrypt(plaintext: bytes | bytearray) -> bytes:
    """A DecryptResponse of either version. A bytearray is wiped."""

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

class SnapshotError(Exception):
    """A file is not an etcd snapshot, or it is cut short, damaged, or was changed while it was read."""

@final
class Snapshot:
    """A file of etcd: a snapshot, which ends with a checksum, or a copy of a member's database, which does not."""

    def __new__(cls, path: str | PathLike[str]) -> Snapshot:
        """Look at the size and the first two pages. Raises `SnapshotError`, `OSError`."""
    @property
    def size(self) -> int:
        """Bytes without the checksum."""
    @property
    def has_checksum(self) -> bool: ...
    @property
    def may_lack_a_transaction(self) -> bool:
        """Whether one of the first two pages is damaged: then the transaction before the last one is shown."""
    def check(self, size: int) -> int:
        """Compute the checksum over up to `size` more bytes and return how many are done; it is compared at the end.

        Raises `SnapshotError` if it is wrong, `OSError`.
        """
    def latest(self) -> Latest:
        """Hand over what etcd would answer, after the rest of the checksum. Raises `SnapshotError`, `OSError`."""

@final
class Latest:
    """The keys of a snapshot that are not deleted, from the latest revision to the oldest.

    A `SnapshotError` on the way means that what came before it must not be taken for the whole.
    """

    def __iter__(self) -> Iterator[tuple[bytes, bytes, int, int]]: ...
    def __next__(self) -> tuple[bytes, bytes, int, int]:
        """Key, value, and the revisions that wrote this value and that made the key."""
    def count_into(self, tally: Tally, entries: int) -> int:
        """Count up to so many entries and return how many there were: fewer at the end only."""
    @property
    def revision(self) -> int:
        """The revision of the store, once the first entry was read."""
    @property
    def revisions(self) -> int:
        """How many revisions were read, the outdated and deleted ones included."""
    @property
    def done(self) -> int:
        """How many bytes of the file were read."""

@final
class Holder:
    """What an object in etcd is under."""

    @property
    def kind(self) -> str:
        """`plaintext`, `aescbc`, `aesgcm`, `secretbox`, `kms:v1`, `kms:v2` or `damaged`."""
    @property
    def name(self) -> str:
        """The provider's name, or for the API server's own keys the key's."""
    @property
    def key_id(self) -> str: ...
    @property
    def record(self) -> Record | None:
        """The KEK record, if Keystead encrypted it."""
    @property
    def problem(self) -> str:
        """Why the value cannot be what it seems to be; empty if it can."""

@final
class Tally:
    """Counts of objects by what holds them. Needs no key."""

    def __new__(cls, prefix: bytes) -> Tally:
        """Count what is below this prefix in etcd."""
    def add(self, key: bytes, value: bytes, revision: int) -> None: ...
    @property
    def resources(self) -> list[str]:
        """Folders in etcd: `secrets`, `services/specs`, `awesome.bears.example/pandas`."""
    @property
    def namespaces(self) -> list[str]:
        """Namespaces; empty for what has none."""
    @property
    def holders(self) -> list[Holder]: ...
    @property
    def rows(self) -> list[tuple[int, int, int, int, int, int, int]]:
        """Indices of resource, namespace and holder, number of the seed; objects, oldest and newest revision.

        Of a seed or DEK there is one row for each resource, namespace and holder. It is 0 where there is none.
        """
    @property
    def outside(self) -> int:
        """How many keys are not below the prefix."""

def stored_value(value: bytes) -> tuple[Holder, bytes]:
    """What holds a value from etcd, and the bytes that tell its seed or DEK from others; empty if it has none."""

@final
class Recovery:
    """The local KEKs that were unwrapped for a recovery; opens objects as kube-apiserver does."""

    def __new__(cls) -> Recovery: ...
    def admit(self, record: Record, kek: bytes | bytearray) -> None:
        """Check length, key commitment and MAC (raises `NotAuthentic`), keep the KEK, wipe a `bytearray`."""
    def holds(self, record: Record) -> bool: ...
    def open(self, etcd_key: bytes, value: bytes) -> bytes:
        """Open a value that Keystead encrypted and that was stored at this key.

        Raises `MalformedRequest`; `KeyError` if its KEK was not admitted; `NotAuthentic` if it was changed or moved.
        """
