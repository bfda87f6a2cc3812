"""Whatever bytes arrive, the answer is a refusal of the right class or the right plaintext, and Status goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from keystead._core import MAX_REQUEST
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from support.serving import V1_SERVICE, V2_SERVICE, Client, Sealed, Served, decrypt_request, served, shared_key

SEED = bytes(range(100, 132))
LASTING = {StatusCode.INVALID_ARGUMENT, StatusCode.DATA_LOSS, StatusCode.FAILED_PRECONDITION}
"""What an API server may hear about bytes that no retry makes better."""
MAX_MESSAGE = 4 * 1024 * 1024

WITH_BODY = [f"{V2_SERVICE}/Encrypt", f"{V2_SERVICE}/Decrypt", f"{V1_SERVICE}/Encrypt", f"{V1_SERVICE}/Decrypt"]


@pytest.fixture(autouse=True)
def _status_answers_afterwards(plugin: Served) -> Iterator[None]:
    yield
    assert plugin.client.status(timeout=1.0).healthz == "ok"


def outcome(client: Client, sealed: Sealed) -> StatusCode:
    """The code of a Decrypt, which may be OK only with the right plaintext."""
    try:
        plaintext = client.decrypt(sealed)
    except grpc.RpcError as exc:
        code: StatusCode = exc.code()
        details = exc.details() or ""
        assert len(details.encode()) <= 1024
        return code
    assert plaintext == SEED
    return StatusCode.OK


@pytest.mark.parametrize("method", WITH_BODY)
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\x0a", id="a length is missing"),
        pytest.param(b"\x0a\x05abc", id="a field ends too early"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="a length of 2**64-1"),
        pytest.param(b"\x00\x00", id="field number zero"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x0f", id="a wire type that does not exist"),
        pytest.param(b"\x08\x01", id="a number where bytes belong"),
        pytest.param(b"\x12\x02\xc3\x28", id="text that is not UTF-8"),
        pytest.param(b"\xff" * 50, id="a varint without end"),
    ],
)
def test_bytes_that_are_no_such_message_are_an_invalid_argument(
    plugin: Served, method: str, request_bytes: bytes
) -> None:
    code, text = plugin.client.refusal(method, request_bytes)
    assert code is StatusCode.INVALID_ARGUMENT
    assert 0 < len(text.encode()) <= 1024


@pytest.mark.parametrize("method", WITH_BODY)
def test_an_empty_message_is_an_invalid_argument(plugin: Served, method: str) -> None:
    assert plugin.client.refusal(method, b"")[0] is StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", WITH_BODY)
@pytest.mark.parametrize("size", [MAX_REQUEST + 1, 1024 * 1024, MAX_MESSAGE])
def test_a_request_beyond_64_kib_is_an_invalid_argument(plugin: Served, method: str, size: int) -> None:
    request = v2.EncryptRequest(plaintext=bytes(size)).SerializeToString()[:size]
    code, text = plugin.client.refusal(method, request)
    assert code is StatusCode.INVALID_ARGUMENT
    assert "64 KiB" in text


@pytest.mark.parametrize("method", WITH_BODY)
def test_a_message_beyond_the_limit_of_grpc_is_refused_before_it_is_read(plugin: Served, method: str) -> None:
    request = v2.EncryptRequest(plaintext=bytes(MAX_MESSAGE)).SerializeToString()
    assert plugin.client.refusal(method, request)[0] is StatusCode.RESOURCE_EXHAUSTED


def _one_bit_flipped(data: bytes) -> Iterator[bytes]:
    for index in range(len(data)):
        yield data[:index] + bytes([data[index] ^ 1 << index % 8]) + data[index + 1 :]


def _damaged(data: bytes) -> Iterator[bytes]:
    yield from _one_bit_flipped(data)
    for length in range(len(data)):
        yield data[:length]
    yield data + data
    yield data + b"\x00"
    yield b"\x00" + data


def test_a_ciphertext_damaged_anywhere_never_opens(plugin: Served) -> None:
    sealed = plugin.client.seal(SEED)
    codes = [
        outcome(plugin.client, Sealed(damaged, sealed.key_id, sealed.annotations))
        for damaged in _damaged(sealed.ciphertext)
    ]
    assert len(codes) == 2 * len(sealed.ciphertext) + 3
    assert set(codes) <= LASTING
    assert codes.count(StatusCode.DATA_LOSS) >= 32 + 16  # every byte of the sealed seed and of the tag


def test_a_record_damaged_anywhere_never_opens(plugin: Served) -> None:
    sealed = plugin.client.seal(SEED)
    codes = [
        outcome(plugin.client, Sealed(sealed.ciphertext, sealed.key_id, {"kek.keystead.dev": damaged}))
        for damaged in _damaged(sealed.record)
    ]
    assert len(codes) == 2 * len(sealed.record) + 3
    assert set(codes) <= LASTING


def test_a_key_id_damaged_anywhere_never_opens(plugin: Served) -> None:
    sealed = plugin.client.seal(SEED)
    damaged_ids = [
        damaged.decode() for damaged in _damaged(sealed.key_id.encode()) if all(byte < 128 for byte in damaged)
    ]
    assert len(damaged_ids) > len(sealed.key_id)
    codes = {outcome(plugin.client, Sealed(sealed.ciphertext, damaged, sealed.annotations)) for damaged in damaged_ids}
    assert codes <= {StatusCode.INVALID_ARGUMENT, StatusCode.DATA_LOSS}


@pytest.mark.parametrize(
    "key_id",
    [
        "",
        "\0",
        "ks1.e1." + "a" * 32,
        "ks1.e2.",
        "ks2.e1." + "a" * 32,
        "k8s/3",
        "x" * 1025,
        "x" * 1024 * 1024,
        "ks1.e1.\u202egnp",
        "ks1.e4294967296." + "a" * 32,
    ],
)
def test_a_foreign_key_id_never_opens(plugin: Served, key_id: str) -> None:
    sealed = plugin.client.seal(SEED)
    code = outcome(plugin.client, Sealed(sealed.ciphertext, key_id, sealed.annotations))
    assert code in (StatusCode.INVALID_ARGUMENT, StatusCode.DATA_LOSS)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="missing"),
        pytest.param({"kek.keystead.dev": b""}, id="emptied"),
        pytest.param({"kek.keystead.dev": bytes(40_000)}, id="huge"),
        pytest.param({"kek.keystead.dev": bytes(2_000_000)}, id="larger than a request"),
        pytest.param({"KEK.keystead.dev": b"KSK"}, id="of another name"),
        pytest.param({"": b""}, id="without a name"),
    ],
)
def test_an_annotation_that_keystead_did_not_write_is_an_invalid_argument(
    plugin: Served, change: dict[str, bytes]
) -> None:
    sealed = plugin.client.seal(SEED)
    code = outcome(plugin.client, Sealed(sealed.ciphertext, sealed.key_id, change))
    assert code is StatusCode.INVALID_ARGUMENT


def test_one_annotation_more_is_an_invalid_argument(plugin: Served) -> None:
    sealed = plugin.client.seal(SEED)
    for name in ("other.example.com", "aaa", "zzz"):
        annotations = {**sealed.annotations, name: b""}
        code = outcome(plugin.client, Sealed(sealed.ciphertext, sealed.key_id, annotations))
        assert code is StatusCode.INVALID_ARGUMENT


def test_parts_of_two_ciphertexts_under_two_keks_never_open_together(plugin: Served, directory: Path) -> None:
    mine = plugin.client.seal(SEED)
    with served(directory, shared_key()) as peer:
        other = peer.client.seal(SEED)
    assert mine.record != other.record
    assert outcome(plugin.client, other) is StatusCode.OK
    for ciphertext, record in ((mine.ciphertext, other.record), (other.ciphertext, mine.record)):
        code = outcome(plugin.client, Sealed(ciphertext, mine.key_id, {"kek.keystead.dev": record}))
        assert code in (StatusCode.INVALID_ARGUMENT, StatusCode.DATA_LOSS)


def test_parts_of_two_seeds_under_one_kek_never_open_together(plugin: Served) -> None:
    one, two = plugin.client.seal(SEED), plugin.client.seal(bytes(32))
    for cut in range(1, len(one.ciphertext)):
        spliced = one.ciphertext[:cut] + two.ciphertext[cut:]
        if spliced in (one.ciphertext, two.ciphertext):
            continue  # The header is the same in both.
        assert outcome(plugin.client, Sealed(spliced, one.key_id, one.annotations)) is StatusCode.DATA_LOSS


def test_a_v1_ciphertext_damaged_anywhere_never_opens(plugin: Served) -> None:
    cipher = plugin.client.encrypt_v1(SEED)
    codes = set()
    tried = 0
    for damaged in _damaged(cipher):
        request = v1.DecryptRequest(version="v1beta1", cipher=damaged).SerializeToString()
        codes.add(plugin.client.refusal(f"{V1_SERVICE}/Decrypt", request)[0])
        tried += 1
    assert tried == 2 * len(cipher) + 3
    assert codes <= LASTING


def test_a_repeated_field_is_read_as_protobuf_says(plugin: Served) -> None:
    good = decrypt_request(plugin.client.seal(SEED))
    earlier = v2.DecryptRequest(ciphertext=b"damaged", key_id="damaged").SerializeToString()
    answer = plugin.client.call(f"{V2_SERVICE}/Decrypt", earlier + good)
    assert v2.DecryptResponse.FromString(answer).plaintext == SEED
