"""Ciphertexts and records in words. Everything here is public: what it shows stands in etcd in clear."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from keystead import errors
from keystead._core import ROLE_RECOVERY, Record, Seed, StateFile, V1Cipher, key_id_epoch
from keystead.host.report import key_id_hash

V2_PREFIX = b"k8s:enc:kms:v2:"
V1_PREFIX = b"k8s:enc:kms:v1:"


@dataclass(frozen=True, slots=True)
class Description:
    """What some bytes are, as pairs of a label and a text in reading order."""

    kind: str
    facts: tuple[tuple[str, str], ...]


def describe(data: bytes) -> Description:
    """Recognise a record, a sealed seed, a v1 ciphertext, a state file, or a value from etcd.

    Raises `MalformedRequest` if it is none of them, or damaged.
    """
    if data.startswith(V2_PREFIX):
        return _describe_v2_value(data)
    if data.startswith(V1_PREFIX):
        return _describe_v1_value(data)
    match data[:3]:
        case b"KSK":
            return Description("KEK record", _record_facts(Record.parse(data)))
        case b"KSD":
            return Description("sealed seed (v2 ciphertext)", _seed_facts(Seed.parse(data)))
        case b"KS1":
            return Description("v1 ciphertext", _v1_facts(data))
        case b"KSS":
            state = StateFile.parse(data)
            return Description("state file", (("key_id", state.key_id), *_record_facts(state.record)))
    raise errors.MalformedRequest(f"{len(data)} bytes that do not begin like anything that Keystead writes")


def describe_record(encoded: bytes, key_id: str) -> tuple[tuple[str, str], ...]:
    """The record of an annotation, and whether it belongs to the key_id beside it."""
    return _record_facts(Record.parse(encoded), key_id)


def _record_facts(record: Record, key_id: str | None = None) -> tuple[tuple[str, str], ...]:
    facts = [
        ("record", f"{len(record.encoded)} bytes, format 1, XAES-256-GCM"),
        ("local KEK", f"{record.kek_id.hex()} made {time_text(record.created)}"),
        ("cluster", record.cluster or "(none)"),
    ]
    for wrap in record.wraps:
        version = f" version {wrap.version}" if wrap.version else ""
        role = " for recovery" if wrap.role == ROLE_RECOVERY else ""
        facts.append(("wrapped under", f"{wrap.scheme} {wrap.ref}{version}{role}, {len(wrap.blob)} bytes"))
    if key_id is not None:
        try:
            agrees = record.key_id(key_id_epoch(key_id)) == key_id
        except ValueError:
            agrees = False
        facts.append(("key_id", f"{key_id} ({'is' if agrees else 'is NOT'} the name of these wraps)"))
        facts.append(("key_id hash", key_id_hash(key_id)))
    return tuple(facts)


def time_text(created: int) -> str:
    try:
        return datetime.fromtimestamp(created, UTC).isoformat(timespec="seconds")
    except ValueError:
        # Whoever can write to etcd can write this; Python's calendar ends with the year 9999.
        return f"{created} seconds after 1970"


def _seed_facts(seed: Seed) -> tuple[tuple[str, str], ...]:
    return (("seals", f"{seed.plaintext_size} bytes"), ("local KEK", seed.kek_id.hex()))


def _v1_facts(data: bytes) -> tuple[tuple[str, str], ...]:
    cipher = V1Cipher.parse(data)
    return (("seals", f"{cipher.seed.plaintext_size} bytes"), *_record_facts(cipher.record, cipher.key_id))


def _split_provider(rest: bytes) -> tuple[str, bytes]:
    name, separator, body = rest.partition(b":")
    if not separator:
        raise errors.MalformedRequest("the value ends before the name of its provider does")
    return name.decode(errors="replace"), body


def _describe_v2_value(data: bytes) -> Description:
    from google.protobuf.message import DecodeError

    from keystead._proto.etcd import encrypted_object_pb2

    provider, body = _split_provider(data[len(V2_PREFIX) :])
    stored = encrypted_object_pb2.EncryptedObject()
    try:
        stored.ParseFromString(body)
    except DecodeError as exc:
        raise errors.MalformedRequest(f"the value of provider {provider} is damaged: {exc}") from exc
    facts = [("provider name", provider), ("payload", f"{len(stored.encrypted_data)} bytes")]
    record = stored.annotations.get("kek.keystead.dev")
    if record is None:
        facts.append(("written by", "another KMS plugin: there is no annotation kek.keystead.dev"))
        facts.append(("key_id", stored.key_id))
    else:
        facts += _seed_facts(Seed.parse(stored.encrypted_dek_source))
        facts += _record_facts(Record.parse(record), stored.key_id)
    return Description("value from etcd, KMS v2", tuple(facts))


def _describe_v1_value(data: bytes) -> Description:
    provider, body = _split_provider(data[len(V1_PREFIX) :])
    size = int.from_bytes(body[:2])
    cipher = body[2 : 2 + size]
    if len(cipher) != size or size == 0:
        raise errors.MalformedRequest("the value ends before its wrapped key does")
    facts: tuple[tuple[str, str], ...] = (
        ("provider name", provider),
        ("payload", f"{len(body) - 2 - size} bytes"),
    )
    if not cipher.startswith(b"KS1"):
        return Description("value from etcd, KMS v1", (*facts, ("written by", "another KMS plugin")))
    return Description("value from etcd, KMS v1", (*facts, *_v1_facts(cipher)))
