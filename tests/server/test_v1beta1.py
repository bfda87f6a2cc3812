"""KMS v1beta1 over a socket, beside v2."""

from __future__ import annotations

import grpc
import pytest

from keystead import __version__, errors
from keystead._core import MAX_PLAINTEXT, V1Cipher
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead.host.snapshot import Snapshot
from support.serving import V1_SERVICE, V2_SERVICE, Client, Sealed, Served


def test_version_names_the_api_and_the_program(plugin: Served) -> None:
    request = v1.VersionRequest(version="v1beta1").SerializeToString()
    answer = v1.VersionResponse.FromString(plugin.client.call(f"{V1_SERVICE}/Version", request))
    assert (answer.version, answer.runtime_name, answer.runtime_version) == ("v1beta1", "keystead", __version__)


@pytest.mark.parametrize("plain", [b"ping", bytes(16), bytes(range(32)), bytes(MAX_PLAINTEXT)])
def test_a_dek_and_the_word_of_the_health_check_come_back(plugin: Served, plain: bytes) -> None:
    cipher = plugin.client.encrypt_v1(plain)
    assert len(cipher) <= 65535
    assert plugin.client.decrypt_v1(cipher) == plain


def test_a_v1_ciphertext_carries_the_key_id_that_v2_advertises(plugin: Served) -> None:
    assert V1Cipher.parse(plugin.client.encrypt_v1(b"ping")).key_id == plugin.client.status().key_id


@pytest.mark.parametrize("version", ["", "v1beta2", "v1beta1 ", "v2"])
@pytest.mark.parametrize("method", ["Encrypt", "Decrypt"])
def test_a_request_of_another_version_is_an_invalid_argument(plugin: Served, method: str, version: str) -> None:
    # Encrypt and Decrypt have the same two fields, so one message serves for both.
    request = v1.EncryptRequest(version=version, plain=bytes(32)).SerializeToString()
    code, text = plugin.client.refusal(f"{V1_SERVICE}/{method}", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "v1beta1" in text


@pytest.mark.parametrize("size", [0, MAX_PLAINTEXT + 1])
def test_a_plaintext_that_would_break_the_limits_is_an_invalid_argument(plugin: Served, size: int) -> None:
    request = v1.EncryptRequest(version="v1beta1", plain=bytes(size)).SerializeToString()
    code, _ = plugin.client.refusal(f"{V1_SERVICE}/Encrypt", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_seed_sealed_for_one_api_does_not_open_through_the_other(plugin: Served) -> None:
    cipher = plugin.client.encrypt_v1(bytes(32))
    parsed = V1Cipher.parse(cipher)
    seed_size = 3 + 2 + 32 + 24 + parsed.seed.plaintext_size + 16
    as_v2 = Sealed(cipher[-seed_size:], parsed.key_id, {"kek.keystead.dev": parsed.record.encoded})
    with pytest.raises(grpc.RpcError) as refused:
        plugin.client.decrypt(as_v2)
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS


def test_ping_fails_with_the_text_of_status_when_status_is_not_ok(plugin: Served) -> None:
    good = plugin.endpoint.snapshot
    assert not isinstance(good.writing, errors.KeysteadError)
    plugin.endpoint._caretaker.snapshot = Snapshot(good.writing, good.key_id, "remote denies key: lab", good.status)
    try:
        request = v1.EncryptRequest(version="v1beta1", plain=b"ping").SerializeToString()
        code, text = plugin.client.refusal(f"{V1_SERVICE}/Encrypt", request)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert text.startswith("remote denies key: lab")
        assert plugin.client.decrypt_v1(plugin.client.encrypt_v1(b"pong")) == b"pong"
    finally:
        plugin.endpoint._caretaker.snapshot = good


def test_both_apis_answer_on_one_connection(plugin: Served) -> None:
    client = Client(plugin.address)
    assert client.decrypt(client.seal(b"two")) == b"two"
    assert client.decrypt_v1(client.encrypt_v1(b"one")) == b"one"
    assert client.call(f"{V2_SERVICE}/Status", b"")
    client.close()
