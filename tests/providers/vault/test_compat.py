"""What vault-kubernetes-kms wrote under the same key is read, and nothing else is. The server is a real OpenBao."""

from __future__ import annotations

import pytest

from keystead.errors import InvalidCiphertext, KeyDisabled
from keystead.provider import Foreign
from providers.vault.bao import Bao
from providers.vault.given import CONTEXT, KEK, Make, soon
from support.peers import VaultKubernetesKms, foreign

SEED = bytes(range(32))
READER = {"reader": "vault-kubernetes-kms"}


@pytest.mark.parametrize("api", ["v2", "v1beta1"])
def test_what_the_plugin_wrote_is_read_in_every_version_of_the_key(bao: Bao, make: Make, api: str) -> None:
    key = bao.key(f"old-{api}")
    peer, provider = VaultKubernetesKms(bao, key), make(bao, key, token=bao.make_token(key), compat=READER)
    provider.open(soon())
    first = foreign(peer, SEED, api)
    bao.write(f"transit/keys/{key}/rotate")
    second = foreign(peer, SEED[::-1], api)
    assert (first.ciphertext[:9], second.ciphertext[:9]) == (b"vault:v1:", b"vault:v2:")
    assert provider.reads == "vault-kubernetes-kms"
    assert provider.recognises(first)
    assert provider.recognises(second)
    assert provider.read(first, soon()) == SEED
    assert provider.read(second, soon()) == SEED[::-1]


def test_the_key_id_of_its_first_releases_is_a_time(bao: Bao, make: Make) -> None:
    key = bao.key("old-time")
    peer, provider = VaultKubernetesKms(bao, key), make(bao, key, token=bao.make_token(key), compat=READER)
    provider.open(soon())
    ciphertext, _ = peer.encrypt(SEED)
    assert int(peer.first_key_id()) > 1_000_000_000
    written = Foreign("v2", ciphertext, peer.first_key_id())
    assert provider.recognises(written)
    assert provider.read(written, soon()) == SEED


def test_off_unless_it_is_configured(bao: Bao, make: Make) -> None:
    assert make(bao, bao.key("old-off")).reads is None


def test_a_local_kek_never_comes_back_as_a_seed(bao: Bao, make: Make) -> None:
    key = bao.key("old-kek")
    provider = make(bao, key, token=bao.make_token(key), compat=READER)
    provider.open(soon())
    offered = Foreign("v2", provider.wrap(KEK, CONTEXT, None, soon()).blob, "1")
    assert provider.recognises(offered)
    with pytest.raises(InvalidCiphertext):
        provider.read(offered, soon())


def test_what_the_plugin_wrote_never_comes_back_as_a_local_kek(bao: Bao, make: Make) -> None:
    key = bao.key("old-seed")
    provider = make(bao, key, token=bao.make_token(key), compat=READER)
    provider.open(soon())
    ciphertext, _ = VaultKubernetesKms(bao, key).encrypt(SEED)
    with pytest.raises(InvalidCiphertext):
        provider.unwrap(ciphertext, CONTEXT, "1", soon())


def test_what_another_key_wrote_is_refused(bao: Bao, make: Make) -> None:
    written = foreign(VaultKubernetesKms(bao, bao.key("old-other")), SEED)
    key = bao.key("old-mine")
    provider = make(bao, key, token=bao.make_token(key), compat=READER)
    provider.open(soon())
    with pytest.raises(InvalidCiphertext):
        provider.read(written, soon())


def test_a_version_that_is_switched_off_is_named(bao: Bao, make: Make) -> None:
    key = bao.key("old-floor")
    written = foreign(VaultKubernetesKms(bao, key), SEED)
    bao.write(f"transit/keys/{key}/rotate")
    bao.write(f"transit/keys/{key}/config", min_decryption_version=2)
    provider = make(bao, key, token=bao.make_token(key), compat=READER)
    provider.open(soon())
    with pytest.raises(KeyDisabled, match="min_decryption_version is 2"):
        provider.read(written, soon())


@pytest.mark.parametrize(
    "strange",
    [
        Foreign("v2", b"", "1"),
        Foreign("v2", b"vault:v0:AAAA", "1"),
        Foreign("v2", b"vault:v1:", "1"),
        Foreign("v2", b"vault:v1:AA AA", "1"),
        Foreign("v2", b"vault:v1:AAAA\n", "1"),
        Foreign("v2", b"vault:v1:" + b"A" * 1024, "1"),
        Foreign("v2", b"vault:v1:AAAA", ""),
        Foreign("v2", b"vault:v1:AAAA", "transit/k/1"),
        Foreign("v2", b"vault:v1:AAAA", "1", (("a.example.com", b"x"),)),
        Foreign("v1beta1", b"1" + bytes(184)),
    ],
)
def test_what_has_another_form_is_not_recognised(bao: Bao, make: Make, strange: Foreign) -> None:
    assert not make(bao, "k", compat=READER).recognises(strange)
