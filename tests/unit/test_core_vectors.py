"""The example of the format's specification, value by value, through the Python binding."""

from __future__ import annotations

import hashlib

from keystead import _core

KEK = bytes(range(32))
KEY_ID = "ks1.e7.a6jblazfncg7zxuutyl6joq5teqjrwo5"
VAULT = _core.Wrap("vault-transit", "prod/transit/k8s", "3", _core.ROLE_ONLINE, b"vault:v3:AAAA")
AWS = _core.Wrap("aws-kms", "arn:aws:kms:eu-central-1:111122223333:key/k1", "", _core.ROLE_ONLINE, bytes(8))
SEED = bytes(range(0x80, 0xA0))
HEADER = (
    "4b53440101"
    "5c0747f3d18816a8104ef901c9d8328c03fc861657ffee733d31a5188d93df25"
    "404142434445464748494a4b4c4d4e4f5051525354555657"
    "84ce635509e790d3cb9df0d3931c6ec2313e2bd9482b5a29cc7d0d1edbd097dd"
)
SEALED_V2 = bytes.fromhex(HEADER + "efd29dcce07386e1ab5b31f24abe2604")
SEALED_V1 = bytes.fromhex(HEADER + "5b385cd20d5d88d1c334a875160a692d")


def the_record() -> _core.Record:
    return _core.Kek.from_bytes(KEK).encode_record(1_790_000_000, "prod-eu-1", [VAULT, AWS])


def the_store() -> _core.KekStore:
    store = _core.KekStore(["prod-eu-1"])
    store.admit(the_record(), KEK)
    return store


def test_the_kek_id() -> None:
    expected = "5c0747f3d18816a8104ef901c9d8328c03fc861657ffee733d31a5188d93df25"
    assert _core.Kek.from_bytes(KEK).kek_id.hex() == expected
    assert the_record().kek_id.hex() == expected


def test_the_record() -> None:
    record = the_record()
    assert len(record.encoded) == 205
    assert record.encoded[-32:].hex() == "a159c74ef5bf0efcf2b57777d365aa77dda4d9b5c1bd59f86197ee57498309b7"
    assert record.digest == hashlib.sha256(record.encoded).digest()
    assert (record.created, record.cluster) == (1_790_000_000, "prod-eu-1")
    assert [(w.scheme, w.ref, w.version, w.role, w.blob) for w in record.wraps] == [
        ("aws-kms", "arn:aws:kms:eu-central-1:111122223333:key/k1", "", 1, bytes(8)),
        ("vault-transit", "prod/transit/k8s", "3", 1, b"vault:v3:AAAA"),
    ]


def test_the_key_id() -> None:
    assert the_record().key_id(7) == KEY_ID
    assert _core.key_id_epoch(KEY_ID) == 7


def test_the_order_of_the_members() -> None:
    members = [("local", "k", "1", 1), ("aws-kms", "arn:x", "", 1)]
    for order in (members, members[::-1]):
        assert _core.key_id("prod-eu-1", 7, order) == "ks1.e7.pnyzcrwzeoywp4o3wy3azjerciomoy7e"


def test_the_additional_data_of_a_wrap() -> None:
    assert the_record().remote_aad.hex() == (
        "6b657973746561642e6465762f777261702f763100"
        "5c0747f3d18816a8104ef901c9d8328c03fc861657ffee733d31a5188d93df25"
        "0970726f642d65752d31"
    )


def test_the_v2_ciphertext() -> None:
    entry = b"\x0a\x10kek.keystead.dev\x12\xcd\x01" + the_record().encoded
    request = b"\x0a\x6d" + SEALED_V2 + b"\x1a\x27" + KEY_ID.encode() + b"\x22\xe2\x01" + entry
    assert the_store().decrypt_v2(request) == b"\x0a\x20" + SEED


def test_the_v1_ciphertext() -> None:
    cipher = b"KS1\x01\x27" + KEY_ID.encode() + b"\x00\xcd" + the_record().encoded + SEALED_V1
    assert len(cipher) == 360
    digest = "968a4756f2854e1deefdf3cb007b7cb3bbffa42bc694cd49f505045727105038"
    assert hashlib.sha256(cipher).hexdigest() == digest
    parsed = _core.V1Cipher.parse(cipher)
    assert (parsed.key_id, parsed.record, parsed.seed.plaintext_size) == (KEY_ID, the_record(), 32)
    request = b"\x0a\x07v1beta1\x12\xe8\x02" + cipher
    assert the_store().decrypt_v1(request) == b"\x0a\x20" + SEED


def test_the_state_file() -> None:
    record = the_record()
    state = _core.StateFile(KEY_ID, record)
    assert state.encoded == b"KSS\x01\x27" + KEY_ID.encode() + b"\x00\xcd" + record.encoded
    assert (state.key_id, state.record) == (KEY_ID, record)
