"""`keystead inspect`: every kind of thing that Keystead writes, in every form in which it is handed around."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, KekStore, StateFile, Wrap
from keystead._proto.etcd import encrypted_object_pb2
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.cli import main

KEK = Kek.from_bytes(bytes(range(32)))
WRAPS = [
    Wrap("local", "lab", "3", ROLE_ONLINE, b"blob"),
    Wrap("age-x25519", "age1qqq", "", ROLE_RECOVERY, b"file"),
]
RECORD = KEK.encode_record(1_790_000_000, "prod-eu-1", WRAPS)
KEY_ID = RECORD.key_id(7)
STORE = KekStore(["prod-eu-1"])
STORE.admit_fresh(RECORD, KEK)
WRITE = STORE.write_state(RECORD, KEY_ID)
SEALED = v2.EncryptResponse.FromString(WRITE.encrypt_v2(v2.EncryptRequest(plaintext=bytes(32)).SerializeToString()))
V1_REQUEST = v1.EncryptRequest(version="v1beta1", plain=bytes(32)).SerializeToString()
V1_CIPHER = v1.EncryptResponse.FromString(WRITE.encrypt_v1(V1_REQUEST)).cipher


def stored_v2(key_id: str = SEALED.key_id, annotations: Mapping[str, bytes] = SEALED.annotations) -> bytes:
    """A value as kube-apiserver puts it into etcd."""
    stored = encrypted_object_pb2.EncryptedObject(
        encrypted_data=bytes(60), key_id=key_id, encrypted_dek_source=SEALED.ciphertext, annotations=annotations
    )
    return b"k8s:enc:kms:v2:keystead:" + stored.SerializeToString()


V1_VALUE = b"k8s:enc:kms:v1:old:" + len(V1_CIPHER).to_bytes(2) + V1_CIPHER + bytes(50)
STATE = StateFile(KEY_ID, RECORD).encoded

RECORD_LINES = [
    f"record        {len(RECORD.encoded)} bytes, format 1, XAES-256-GCM",
    f"local KEK     {RECORD.kek_id.hex()} made 2026-09-21T14:13:20+00:00",
    "cluster       prod-eu-1",
    "wrapped under age-x25519 age1qqq for recovery, 4 bytes",
    "wrapped under local lab version 3, 4 bytes",
]
KINDS = {
    "record": (RECORD.encoded, "KEK record", RECORD_LINES),
    "v2 ciphertext": (SEALED.ciphertext, "sealed seed (v2 ciphertext)", ["seals         32 bytes"]),
    "v1 ciphertext": (V1_CIPHER, "v1 ciphertext", [f"key_id        {KEY_ID} (is the name of these wraps)"]),
    "state file": (STATE, "state file", [f"key_id        {KEY_ID}"]),
    "v2 value": (stored_v2(), "value from etcd, KMS v2", ["provider name keystead", "payload       60 bytes"]),
    "v1 value": (V1_VALUE, "value from etcd, KMS v1", ["provider name old", "payload       50 bytes"]),
}


def inspect(data: bytes, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["inspect", *arguments], input=data)


@pytest.mark.parametrize(("data", "kind", "lines"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda data: data, id="raw"),
        pytest.param(lambda data: data.hex().encode(), id="hex"),
        pytest.param(lambda data: data.hex().upper().encode() + b"\n", id="HEX with a newline"),
        pytest.param(base64.b64encode, id="base64"),
        pytest.param(base64.encodebytes, id="base64 in lines"),
    ],
)
def test_every_kind_is_recognised_in_every_form(data: bytes, kind: str, lines: list[str], form: object) -> None:
    assert callable(form)
    outcome = inspect(form(data))
    assert outcome.exit_code == 0, outcome.output
    shown = outcome.stdout.splitlines()
    assert shown[0] == kind
    for line in lines:
        assert f"  {line}" in shown


def test_a_file_is_read_and_json_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "current").write_bytes(STATE)
    outcome = CliRunner().invoke(main, ["inspect", str(tmp_path / "current"), "-o", "json"])
    answer = json.loads(outcome.stdout)
    assert answer["kind"] == "state file"
    assert {"label": "cluster", "value": "prod-eu-1"} in answer["facts"]


def test_a_key_id_that_does_not_belong_to_the_record_is_pointed_out() -> None:
    outcome = inspect(stored_v2(key_id=RECORD.key_id(8)[:-1] + "a"))
    assert outcome.exit_code == 0
    assert "(is NOT the name of these wraps)" in outcome.stdout


def test_a_value_of_another_plugin_is_named_as_such() -> None:
    outcome = inspect(stored_v2(annotations={}, key_id="vault/3"))
    assert outcome.exit_code == 0
    assert "written by    another KMS plugin" in outcome.stdout
    assert "key_id        vault/3" in outcome.stdout
    assert "another KMS plugin" in inspect(b"k8s:enc:kms:v1:old:\x00\x03abc" + bytes(20)).stdout


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="a newline"),
        pytest.param(b"not base64!", id="a text"),
        pytest.param(b"deadbeef", id="hexadecimal of something else"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(RECORD.encoded[:-1], id="a record without its end"),
        pytest.param(SEALED.ciphertext[:50], id="half a ciphertext"),
        pytest.param(STATE[:40], id="half a state file"),
        pytest.param(stored_v2()[:-40], id="half a v2 value"),
        pytest.param(V1_VALUE[:60], id="half a v1 value"),
        pytest.param(b"k8s:enc:kms:v1:old:\0\0", id="a v1 value without a key"),
        pytest.param(b"k8s:enc:kms:v2:keyst", id="a v2 value that ends within its prefix"),
        pytest.param(b"k8s:enc:kms:v1:old", id="a v1 value that ends within its prefix"),
        pytest.param(stored_v2(annotations={"kek.keystead.dev": b"KSK"}), id="a v2 value with a damaged record"),
    ],
)
def test_what_it_is_not_or_not_whole_fails_with_a_sentence(data: bytes) -> None:
    outcome = inspect(data)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("keystead: ")
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stdout == ""


def test_more_than_keystead_ever_writes_is_a_usage_error() -> None:
    outcome = inspect(bytes(4 * 1024 * 1024 + 1))
    assert outcome.exit_code == 2
    assert "4194304" in outcome.output


def test_a_missing_file_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["inspect", "/nonexistent"]).exit_code == 2


@pytest.mark.parametrize("created", [0, 253_402_300_799, 253_402_300_800, 2**40 - 1])
def test_any_time_that_a_record_can_carry_is_shown(created: int) -> None:
    # The field reaches far beyond the year 9999, where Python's calendar ends.
    outcome = inspect(KEK.encode_record(created, "c", WRAPS).encoded)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.exception is None
    assert "made " in outcome.stdout


def test_nothing_in_a_value_can_steer_the_terminal() -> None:
    value = stored_v2(annotations={}, key_id="\x1b]0;owned\x07\u202edetrevni\nkind forged")
    outcome = inspect(value.replace(b":keystead:", b":key\x1b[2J:"))
    assert outcome.exit_code == 0
    assert len(outcome.stdout.splitlines()) == 5
    assert all(character.isprintable() for line in outcome.stdout.splitlines() for character in line)
    assert "\\x1b[2J" in outcome.stdout
