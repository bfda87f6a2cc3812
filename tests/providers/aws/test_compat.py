"""What aws-encryption-provider wrote under the same key is read, and nothing else is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from keystead.errors import InvalidCiphertext, KeyDisabled
from keystead.provider import Foreign
from providers.aws.fake import FakeAws, fake_aws
from providers.aws.given import CONTEXT, KEK, Make, soon
from support.peers import AwsEncryptionProvider, foreign

SEED = bytes(range(32))
READER = {"reader": "aws-encryption-provider"}


@pytest.mark.parametrize("api", ["v2", "v1beta1"])
@pytest.mark.parametrize("context", [{}, {"cluster": "prod", "team": "platform"}], ids=["plain", "context"])
def test_what_the_plugin_wrote_is_read(aws: FakeAws, make: Make, api: str, context: dict[str, str]) -> None:
    key = aws.new_key()
    provider = make(aws, key, compat={**READER, **({"encryptionContext": context} if context else {})})
    provider.open(soon())
    written = foreign(AwsEncryptionProvider(aws, key.arn(aws.region), context), SEED, api)
    assert provider.reads == "aws-encryption-provider"
    assert provider.recognises(written)
    assert provider.read(written, soon()) == SEED
    assert aws.asked("Decrypt")[-1].body["KeyId"] == key.arn(aws.region), "the blob must not choose the key"


def test_off_unless_it_is_configured(aws: FakeAws, make: Make) -> None:
    assert make(aws, aws.new_key()).reads is None


@pytest.mark.parametrize("wrong", [None, {"cluster": "other"}])
def test_another_encryption_context_is_refused(aws: FakeAws, make: Make, wrong: dict[str, str] | None) -> None:
    key = aws.new_key()
    provider = make(aws, key, compat={**READER, "encryptionContext": wrong})
    provider.open(soon())
    written = foreign(AwsEncryptionProvider(aws, key.arn(aws.region), {"cluster": "prod"}), SEED)
    with pytest.raises(InvalidCiphertext):
        provider.read(written, soon())


def test_a_local_kek_never_comes_back_as_a_seed(aws: FakeAws, make: Make) -> None:
    """Whoever can write to etcd could else offer the blob of a record as another plugin's, and learn nothing yet, but
    have the API server use the local KEK as a DEK."""
    key = aws.new_key()
    provider = make(aws, key, compat=READER)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    for api in ("v2", "v1beta1"):
        offered = Foreign(api, b"1" + blob, key.arn(aws.region) if api == "v2" else "")
        assert provider.recognises(offered)
        with pytest.raises(InvalidCiphertext):
            provider.read(offered, soon())


def test_an_encryption_context_of_our_own_wraps_cannot_be_configured(aws: FakeAws, make: Make) -> None:
    with pytest.raises(ValidationError, match="which a reader must never open"):
        make(aws, aws.new_key(), compat={**READER, "encryptionContext": CONTEXT.mapping})


def test_what_another_key_wrote_is_not_read(aws: FakeAws, make: Make) -> None:
    ours, other = aws.new_key(), aws.new_key()
    provider = make(aws, ours, compat=READER)
    provider.open(soon())
    named = foreign(AwsEncryptionProvider(aws, other.arn(aws.region)), SEED)
    assert not provider.recognises(named), "its key_id is another key's ARN"
    unnamed = foreign(AwsEncryptionProvider(aws, other.arn(aws.region)), SEED, "v1beta1")
    assert provider.recognises(unnamed)
    with pytest.raises(InvalidCiphertext, match="IncorrectKey"):
        provider.read(unnamed, soon())


@pytest.mark.parametrize(
    "key_id", ["alias/k8s", "arn:aws:kms:eu-west-1:111122223333:alias/k8s", "1234abcd-12ab-34cd-56ef-1234567890ab"]
)
def test_the_flag_key_may_have_been_an_alias_or_an_id(aws: FakeAws, make: Make, key_id: str) -> None:
    assert make(aws, aws.new_key(), compat=READER).recognises(Foreign("v2", b"1" + bytes(184), key_id))


def test_a_multi_region_key_may_have_been_named_in_any_of_its_regions(make: Make) -> None:
    with fake_aws() as aws:
        key = aws.new_key(multi_region=("eu-west-1", "us-east-1"))
        provider = make(aws, key, compat=READER)
        assert provider.recognises(Foreign("v2", b"1" + bytes(184), key.arn("us-east-1")))
        assert not provider.recognises(Foreign("v2", b"1" + bytes(184), aws.new_key().arn("us-east-1")))


@pytest.mark.parametrize(
    "strange",
    [
        Foreign("v2", b"", "k"),
        Foreign("v2", b"1", "k"),
        Foreign("v2", b"\x01\x02" + bytes(182), "k"),
        Foreign("v2", b"1" + bytes(1025), "k"),
        Foreign("v2", b"1" + bytes(184), ""),
        Foreign("v2", b"1" + bytes(184), "k", (("kek.example.com", b"x"),)),
        Foreign("v1beta1", b"vault:v1:AAAA"),
    ],
    ids=["empty", "mark alone", "no mark", "too long", "no key_id", "annotation", "another plugin"],
)
def test_what_has_another_form_is_not_recognised(aws: FakeAws, make: Make, strange: Foreign) -> None:
    assert not make(aws, aws.new_key(), compat=READER).recognises(strange)


def test_a_disabled_key_is_named_as_such(aws: FakeAws, make: Make) -> None:
    key = aws.new_key()
    provider = make(aws, key, compat=READER)
    provider.open(soon())
    written = foreign(AwsEncryptionProvider(aws, key.arn(aws.region)), SEED)
    key.states[aws.region] = "Disabled"
    with pytest.raises(KeyDisabled):
        provider.read(written, soon())
