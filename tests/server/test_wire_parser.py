"""The core's own protobuf reader and writer against the protobuf library, on generated messages and on noise."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keystead._core import (
    ANNOTATION,
    MAX_PLAINTEXT,
    ROLE_ONLINE,
    Kek,
    KekStore,
    Record,
    Wrap,
    encode_status,
    encode_version,
    is_ping,
    request_uid,
)
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.errors import MalformedRequest, NotAuthentic

KEK = Kek.from_bytes(bytes(range(32)))
RECORD = KEK.encode_record(1_790_000_000, "test", [Wrap("local", "lab", "1", ROLE_ONLINE, b"blob")])
STORE = KekStore(["test"])
STORE.admit_fresh(RECORD, KEK)
WRITE = STORE.write_state(RECORD, RECORD.key_id(1))
SEED = bytes(range(50, 82))
SEALED = v2.EncryptResponse.FromString(WRITE.encrypt_v2(v2.EncryptRequest(plaintext=SEED).SerializeToString()))

text = st.text(st.characters(codec="utf-8"), max_size=60)
MANY = settings(max_examples=600, deadline=None)


def opened(answer: bytes | Record) -> bytes:
    assert isinstance(answer, bytes)
    return bytes(v2.DecryptResponse.FromString(answer).plaintext)


@given(text, text, text)
def test_status_and_version_are_encoded_byte_for_byte_as_protobuf_does(one: str, two: str, three: str) -> None:
    status = v2.StatusResponse(version=one, healthz=two, key_id=three)
    assert encode_status(one, two, three) == status.SerializeToString()
    version = v1.VersionResponse(version=one, runtime_name=two, runtime_version=three)
    assert encode_version(one, two, three) == version.SerializeToString()


@given(st.binary(min_size=1, max_size=MAX_PLAINTEXT), text)
def test_an_encrypt_request_means_to_the_core_what_it_means_to_protobuf(plaintext: bytes, uid: str) -> None:
    request = v2.EncryptRequest(plaintext=plaintext, uid=uid).SerializeToString()
    answer = v2.EncryptResponse.FromString(WRITE.encrypt_v2(request))
    again = v2.DecryptRequest(
        ciphertext=answer.ciphertext, uid=uid, key_id=answer.key_id, annotations=answer.annotations
    ).SerializeToString()
    assert opened(STORE.decrypt_v2(again)) == plaintext
    assert request_uid(request) == request_uid(again) == uid
    assert dict(answer.annotations) == {ANNOTATION: RECORD.encoded}
    assert answer.key_id == WRITE.key_id
    assert len(answer.SerializeToString()) == answer.ByteSize()


@given(st.binary(min_size=1, max_size=MAX_PLAINTEXT), st.sampled_from(["v1beta1", "v1", ""]))
@example(b"ping", "v1beta1")
@example(b"ping", "v1")
def test_a_v1_request_means_to_the_core_what_it_means_to_protobuf(plain: bytes, version: str) -> None:
    request = v1.EncryptRequest(version=version, plain=plain).SerializeToString()
    assert is_ping(request) is (plain == b"ping" and version == "v1beta1")
    if version != "v1beta1":
        with pytest.raises(MalformedRequest, match="v1beta1"):
            WRITE.encrypt_v1(request)
        return
    cipher = v1.EncryptResponse.FromString(WRITE.encrypt_v1(request)).cipher
    again = v1.DecryptRequest(version=version, cipher=cipher).SerializeToString()
    answer = STORE.decrypt_v1(again)
    assert isinstance(answer, bytes)
    assert v1.DecryptResponse.FromString(answer).plain == plain


def varint(value: int, superfluous: int = 0) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(superfluous):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


raw_fields = st.one_of(
    st.builds(field, st.integers(0, 6), st.binary(max_size=30)),
    st.builds(field, st.integers(1, 2), text.map(str.encode)),
    st.builds(lambda tag, value: varint(tag) + varint(value), st.integers(0, 80), st.integers(0, 2**64 - 1)),
    st.builds(lambda tag, tail: varint(tag, tail % 3) + b"\x01a", st.integers(0, 80), st.integers(0, 8)),
    st.builds(lambda tag, tail: varint(tag) + tail, st.integers(0, 2**35), st.binary(max_size=12)),
)
noise = st.one_of(st.binary(max_size=80), st.lists(raw_fields, max_size=6).map(b"".join))


def as_protobuf(request: bytes) -> v2.EncryptRequest | None:
    try:
        return v2.EncryptRequest.FromString(request)
    except DecodeError:
        return None


@MANY
@given(noise)
def test_the_core_accepts_no_bytes_that_protobuf_refuses_and_reads_the_same_in_them(request: bytes) -> None:
    try:
        answer = v2.EncryptResponse.FromString(WRITE.encrypt_v2(request))
    except MalformedRequest as exc:
        if "947" in str(exc):  # It was read, and only the plaintext's size is refused.
            message = as_protobuf(request)
            assert message is not None
            assert len(message.plaintext) == 0
        return
    message = as_protobuf(request)
    assert message is not None
    again = v2.DecryptRequest(ciphertext=answer.ciphertext, key_id=answer.key_id, annotations=answer.annotations)
    assert opened(STORE.decrypt_v2(again.SerializeToString())) == message.plaintext
    assert request_uid(request) == message.uid


def annotation(parts: Iterable[bytes]) -> bytes:
    return field(4, b"".join(parts))


NAME, VALUE = field(1, ANNOTATION.encode()), field(2, RECORD.encoded)
GOOD = [field(1, SEALED.ciphertext), field(3, SEALED.key_id.encode()), annotation([NAME, VALUE])]
# No entry of the map has an unknown field: Go ignores that field, as the core does, and this library the whole entry.
decoys = st.sampled_from(
    [
        field(1, b"decoy"),
        field(3, b"ks1.e1.decoy"),
        field(2, b"uid"),
        field(15, b"unknown"),
        b"\x78\x01",
        annotation([VALUE, NAME]),
        annotation([NAME, field(2, b"decoy"), VALUE]),
        annotation([NAME, VALUE, field(2, b"decoy")]),
        annotation([NAME]),
        annotation([VALUE]),
        annotation([field(1, b"other.example.com"), VALUE]),
        annotation([]),
    ]
)


@MANY
@given(
    st.lists(st.one_of(st.sampled_from(GOOD), decoys), max_size=7).flatmap(lambda some: st.permutations(some + GOOD))
)
def test_a_decrypt_request_in_any_order_with_decoys_opens_exactly_if_protobuf_reads_the_good_parts(
    parts: list[bytes],
) -> None:
    request = b"".join(parts)
    message = v2.DecryptRequest.FromString(request)
    good = (
        message.ciphertext == SEALED.ciphertext
        and message.key_id == SEALED.key_id
        and dict(message.annotations) == {ANNOTATION: RECORD.encoded}
    )
    try:
        answer = STORE.decrypt_v2(request)
    except (MalformedRequest, NotAuthentic):
        assert not good
        return
    assert good
    assert opened(answer) == SEED
