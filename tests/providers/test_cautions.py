"""What providers say of their keys beside using them: cautions, and the smallest rights."""

from __future__ import annotations

import datetime
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from keystead import registry
from keystead.provider import Provider

KEY_ID = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MULTI_REGION = "arn:aws:kms::111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
KEY_NAME = "projects/lab-1/locations/europe-west1/keyRings/ring/cryptoKeys/k8s"


def provider(name: str, **fields: Any) -> Provider[Any]:
    cls = registry.provider_class(name)
    return cls(cls.config_type.model_validate({"name": "k", "provider": name, **fields}))


def cautions(one: Provider[Any]) -> list[str]:
    return list(one.cautions(time.monotonic() + 1))


@pytest.mark.parametrize(
    ("metadata", "count"),
    [
        ({"Origin": "AWS_KMS"}, 0),
        ({"Origin": "EXTERNAL", "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}, 0),
        ({"Origin": "EXTERNAL", "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": "2027-01-01"}, 1),
    ],
)
def test_imported_material_of_aws_that_expires_is_cautioned_of(
    metadata: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = provider("aws-kms", keyID=KEY_ID)
    monkeypatch.setattr(one, "_call", lambda _operation, _deadline: SimpleNamespace(section=lambda _name: metadata))
    said = cautions(one)
    assert len(said) == count
    assert all("2027-01-01" in text for text in said)


@pytest.mark.parametrize(("days", "count"), [(0, 0), (1, 1), (30, 0)])
def test_a_key_of_google_whose_versions_go_within_a_day_is_cautioned_of(
    days: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = provider("gcp-kms", keyName=KEY_NAME)
    key = SimpleNamespace(destroy_scheduled_duration=datetime.timedelta(days=days))
    monkeypatch.setattr(one, "_key", lambda _deadline: key)
    said = cautions(one)
    assert len(said) == count
    assert all("after 24 h" in text for text in said)


def test_the_rights_of_a_key_in_several_regions_are_those_of_each() -> None:
    text = provider("aws-kms", keyID=MULTI_REGION, regions=["eu-west-1", "eu-central-1"]).policy(["prod", "old"])
    assert text is not None
    wrap, look = json.loads(text)["Statement"]
    assert wrap["Resource"] == look["Resource"] == MULTI_REGION.replace("kms::", "kms:*:")
    assert wrap["Condition"]["StringEquals"]["kms:EncryptionContext:keystead:cluster"] == ["prod", "old"]


def test_the_rights_of_a_key_of_google_are_two_roles_on_that_key_alone() -> None:
    text = provider("gcp-kms", keyName=KEY_NAME).policy(["prod"])
    assert text is not None
    commands = text.replace("\\\n", "").splitlines()[2:]
    assert [command.split("--role=")[1] for command in commands] == [
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        "roles/cloudkms.viewer",
    ]
    for command in commands:
        assert command.startswith("gcloud kms keys add-iam-policy-binding k8s ")
        assert {"--project=lab-1", "--location=europe-west1", "--keyring=ring"} <= set(command.split())


def test_a_provider_that_says_nothing_has_neither() -> None:
    one = provider("local", keyFile="/etc/keystead/lab.key")
    assert cautions(one) == []
    assert one.policy(["prod"]) is None
