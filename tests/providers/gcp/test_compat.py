"""What k8s-cloudkms-plugin wrote under the same key is read, and nothing else is."""

from __future__ import annotations

import pytest

from keystead.errors import InvalidCiphertext
from keystead.provider import Foreign
from providers.gcp.fake import KEY
from providers.gcp.given import CONTEXT, KEK, Make, Served, soon
from support.peers import K8sCloudKmsPlugin, foreign

SEED = bytes(range(32))
READER = {"reader": "k8s-cloudkms-plugin"}


@pytest.mark.parametrize("api", ["v2", "v1beta1"])
@pytest.mark.parametrize("suffix", ["", "again"])
def test_what_the_plugin_wrote_is_read_in_every_version_of_the_key(
    served: Served, make: Make, api: str, suffix: str
) -> None:
    peer, provider = K8sCloudKmsPlugin(served.kms, KEY, suffix), make(served, compat=READER)
    provider.open(soon())
    first = foreign(peer, SEED, api)
    served.kms.rotate()
    second = foreign(peer, SEED[::-1], api)
    assert provider.reads == "k8s-cloudkms-plugin"
    assert provider.recognises(first)
    assert provider.recognises(second)
    assert provider.read(first, soon()) == SEED
    assert provider.read(second, soon()) == SEED[::-1]


def test_off_unless_it_is_configured(served: Served, make: Make) -> None:
    assert make(served).reads is None


def test_a_local_kek_never_comes_back_as_a_seed(served: Served, make: Make) -> None:
    provider = make(served, compat=READER)
    provider.open(soon())
    offered = Foreign("v2", provider.wrap(KEK, CONTEXT, "1", soon()).blob, f"{KEY}/cryptoKeyVersions/1")
    assert provider.recognises(offered)
    with pytest.raises(InvalidCiphertext):
        provider.read(offered, soon())


@pytest.mark.parametrize(
    "strange",
    [
        Foreign("v2", b"", KEY),
        Foreign("v2", bytes(1025), KEY),
        Foreign("v2", bytes(61), ""),
        Foreign("v2", bytes(61), KEY + "2"),
        Foreign("v2", bytes(61), KEY + "/cryptoKeyVersions/x"),
        Foreign("v2", bytes(61), KEY + "/cryptoKeyVersions/1/more"),
        Foreign("v2", bytes(61), "x" + KEY),
        Foreign("v2", bytes(61), KEY, (("a.example.com", b"x"),)),
    ],
)
def test_what_has_another_form_or_another_key_is_not_recognised(served: Served, make: Make, strange: Foreign) -> None:
    assert not make(served, compat=READER).recognises(strange)
