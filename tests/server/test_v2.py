"""KMS v2 over a socket, as kube-apiserver calls it."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from keystead._core import MAX_PLAINTEXT
from keystead._proto.v2 import api_pb2 as v2
from support.serving import V2_SERVICE, Client, Sealed, Served, decrypt_request, served


def test_status_is_ok_with_the_version_and_a_key_id(plugin: Served) -> None:
    status = plugin.client.status()
    assert (status.healthz, status.version) == ("ok", "v2")
    assert status.key_id.startswith("ks1.e1.")


def test_a_seed_comes_back_and_encrypt_names_the_key_id_of_status(plugin: Served) -> None:
    seed = bytes(range(32))
    sealed = plugin.client.encrypt(seed, uid="6fd9")
    assert sealed.key_id == plugin.client.status().key_id
    assert list(sealed.annotations) == ["kek.keystead.dev"]
    assert seed not in sealed.SerializeToString()
    assert plugin.client.decrypt(Sealed.of(sealed)) == seed


@pytest.mark.parametrize("size", [1, 4, 16, 24, 32, MAX_PLAINTEXT])
def test_every_size_that_the_ciphertext_limit_leaves_room_for_comes_back(plugin: Served, size: int) -> None:
    plaintext = bytes(size % 251 for size in range(size))
    sealed = plugin.client.seal(plaintext)
    assert len(sealed.ciphertext) == size + 77 <= 1024
    assert plugin.client.decrypt(sealed) == plaintext


@pytest.mark.parametrize("size", [0, MAX_PLAINTEXT + 1])
def test_a_plaintext_that_would_break_the_limits_is_an_invalid_argument(plugin: Served, size: int) -> None:
    request = v2.EncryptRequest(plaintext=bytes(size)).SerializeToString()
    code, text = plugin.client.refusal(f"{V2_SERVICE}/Encrypt", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "947" in text


def test_the_same_seed_never_gives_the_same_ciphertext_twice(plugin: Served) -> None:
    sealed = [plugin.client.seal(bytes(32)) for _ in range(50)]
    assert len({one.ciphertext for one in sealed}) == 50
    assert len({one.record for one in sealed}) == 1


def test_an_unknown_method_is_unimplemented(plugin: Served) -> None:
    for method in ("/v2.KeyManagementService/Rotate", "/v2alpha1.KeyManagementService/Status", "/v2.Other/Status"):
        code, _ = plugin.client.refusal(method, b"")
        assert code is grpc.StatusCode.UNIMPLEMENTED, method


def test_fields_of_a_later_api_version_are_ignored(plugin: Served) -> None:
    sealed = plugin.client.seal(bytes(32))
    later = b"\x7a\x03new" + b"\xf8\x7f\x01"  # field 15 as text, field 2047 as a number
    answer = plugin.client.call(f"{V2_SERVICE}/Decrypt", later + decrypt_request(sealed) + later)
    assert v2.DecryptResponse.FromString(answer).plaintext == bytes(32)
    assert plugin.client.call(f"{V2_SERVICE}/Status", later)


@pytest.mark.parametrize("authority", ["localhost", "%2Frun%2Fkeystead%2Fkms.sock"])
def test_every_authority_that_an_api_server_sends_is_taken(plugin: Served, authority: str) -> None:
    client = Client(plugin.address, authority)
    assert client.status().healthz == "ok"
    client.close()


def test_only_the_configured_api_is_served(directory: Path) -> None:
    with served(directory, kms_versions=["v1beta1"]) as plugin:
        code, _ = plugin.client.refusal(f"{V2_SERVICE}/Status", b"")
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert plugin.client.decrypt_v1(plugin.client.encrypt_v1(b"ping")) == b"ping"
