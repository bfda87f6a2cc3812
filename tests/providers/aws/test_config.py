"""What a configuration may say, and what it is told otherwise."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from keystead import registry
from keystead.provider import ConfigError, Provider
from keystead.providers._aws import config as module
from keystead.providers._aws.config import AwsKmsConfig
from keystead.providers.aws_kms import AwsKmsProvider

ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
MRK = "mrk-1234abcd12ab34cd56ef1234567890ab"
ARN = f"arn:aws:kms:eu-west-1:111122223333:key/{ID}"
MRK_ARN = f"arn:aws:kms:eu-west-1:111122223333:key/{MRK}"
ANYWHERE = f"arn:aws:kms::111122223333:key/{MRK}"
ROLE = "arn:aws:iam::111122223333:role/keystead"
ROLE_CONFIG = {"roleARN": ROLE}
WEB = {"roleARN": ROLE, "tokenFile": "/run/token"}


def parsed(**changes: Any) -> AwsKmsConfig:
    fields = {"name": "k", "provider": "aws-kms", "keyID": ARN} | changes
    return AwsKmsConfig.model_validate({name: value for name, value in fields.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "ref", "regions"),
    [
        ({}, ARN, ("eu-west-1",)),
        ({"region": "eu-west-1"}, ARN, ("eu-west-1",)),
        ({"endpoint": "https://vpce-1.kms.eu-west-1.vpce.amazonaws.com"}, ARN, ("eu-west-1",)),
        ({"keyID": ARN.replace("aws", "aws-us-gov", 1), "fips": True}, ARN.replace("aws", "aws-us-gov", 1), None),
        ({"keyID": MRK_ARN}, ANYWHERE, ("eu-west-1",)),
        ({"keyID": MRK_ARN, "region": "us-east-1"}, ANYWHERE, ("us-east-1",)),
        ({"keyID": ANYWHERE, "region": "us-east-1"}, ANYWHERE, ("us-east-1",)),
        ({"keyID": ANYWHERE, "regions": ["us-east-1", "us-west-2"]}, ANYWHERE, ("us-east-1", "us-west-2")),
        ({"keyID": MRK_ARN, "regions": ["us-gov-west-1"]}, ANYWHERE, ("us-gov-west-1",)),
    ],
)
def test_the_ref_is_the_arn_and_of_a_multi_region_key_without_region(
    changes: dict[str, Any], ref: str, regions: tuple[str, ...] | None
) -> None:
    config = parsed(**changes)
    assert config.ref == ref
    assert regions in (None, config.called_regions)
    for region in config.called_regions:
        assert config.key_in(region).split(":")[3] == region


ALIAS = "is an alias, which can be pointed at another key while records still need this one: write the key's ARN"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an alias": ({"keyID": "alias/keystead"}, ALIAS),
    "an alias's ARN": ({"keyID": "arn:aws:kms:eu-west-1:111122223333:alias/keystead"}, ALIAS),
    "a bare id": ({"keyID": ID}, "is an id alone, which names neither account nor region: write the key's ARN"),
    "a bare multi-Region id": ({"keyID": MRK}, "is an id alone"),
    "another service's ARN": ({"keyID": "arn:aws:s3:::bucket"}, "should be a key's ARN"),
    "an ARN with a line break": ({"keyID": ARN + "\n"}, "should be a key's ARN"),
    "an ARN without region": ({"keyID": ARN.replace("eu-west-1", "")}, "only the ARN of a multi-Region key"),
    "a multi-Region ARN without region": ({"keyID": ANYWHERE}, "give region or regions"),
    "another region": ({"region": "us-east-1"}, "region is us-east-1, but the key is in eu-west-1"),
    "regions of one region's key": ({"regions": ["eu-west-1"]}, "regions is for multi-Region keys"),
    "region and regions": ({"keyID": MRK_ARN, "region": "us-east-1", "regions": ["us-east-1"]}, "either region or"),
    "no region of several": ({"keyID": MRK_ARN, "regions": []}, "at least 1 item"),
    "a region twice": ({"keyID": MRK_ARN, "regions": ["us-east-1", "us-east-1"]}, "names a region twice"),
    "no region's name": ({"region": "eu-west-1.evil.example/"}, "pattern"),
    "an endpoint for two regions": (
        {"keyID": MRK_ARN, "regions": ["us-east-1", "us-west-2"], "endpoint": "https://kms.example"},
        "endpoint is the address of one region",
    ),
    "an endpoint and fips": ({"endpoint": "https://kms.example", "fips": True}, "endpoint is called as it is"),
    "an endpoint and dualStack": ({"endpoint": "https://kms.example", "dualStack": True}, "endpoint is called as it"),
    "an endpoint with a path": ({"endpoint": "https://kms.example/x"}, "without a path"),
    "a password": ({"proxy": "http://a:b@proxy:3128"}, "without a password"),
    "a port too high": ({"proxy": "http://proxy:99999"}, "Port out of range"),
    "fips as text": ({"fips": "yes"}, "valid boolean"),
    "stsEndpoint without a role": ({"stsEndpoint": "https://sts.example"}, "needs assumeRole or webIdentity"),
    "stsEndpoint and fips": (
        {"stsEndpoint": "https://sts.example", "webIdentity": WEB, "fips": True},
        "stsEndpoint is called as it is",
    ),
    "webIdentity and assumeRole": ({"webIdentity": WEB, "assumeRole": ROLE_CONFIG}, "webIdentity needs no other"),
    "webIdentity and profile": ({"webIdentity": WEB, "profile": "p"}, "webIdentity needs no other"),
    "assumeRole and profile": ({"assumeRole": ROLE_CONFIG, "profile": "p"}, "as assumeRole.sourceProfile"),
    "no role's ARN": ({"assumeRole": {"roleARN": "keystead"}}, "pattern"),
    "an external ID itself": ({"assumeRole": {"roleARN": ROLE, "externalID": "x"}}, "Extra inputs are not permitted"),
    "a secret itself": ({"secretAccessKey": "x"}, "Extra inputs are not permitted"),
    "a relative file": ({"webIdentity": WEB | {"tokenFile": "token"}}, "should be an absolute path"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_configuration_is_refused(case: str) -> None:
    changes, text = REFUSED[case]
    with pytest.raises(ValidationError, match=text):
        parsed(**changes)


def test_what_an_operator_must_know_is_said_at_start() -> None:
    assert AwsKmsProvider(parsed()).notice is None
    assert "neither can start" in str(AwsKmsProvider(parsed(webIdentity=WEB)).notice)
    assert "in the clear" in str(AwsKmsProvider(parsed(endpoint="http://kms.example")).notice)
    assert AwsKmsProvider(parsed(endpoint="http://127.0.0.1:4599")).notice is None
    assert AwsKmsProvider(parsed(endpoint="http://localhost:4599")).notice is None


def test_each_field_is_described_and_no_default_is_a_secret() -> None:
    sections = [
        section
        for section in vars(module).values()
        if isinstance(section, type) and issubclass(section, BaseModel) and section.__module__ == module.__name__
    ]
    described = 0
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description or name == "provider", f"{section.__name__}.{name}"
            described += 1
    assert described > 20


def test_the_sdk_is_not_imported_before_a_key_is_opened() -> None:
    code = (
        "import sys, keystead.providers.aws_kms\n"
        "assert not {'boto3', 'botocore', 'urllib3'} & set(sys.modules), 'the SDK was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_the_sdk_opening_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    for name in [name for name in sys.modules if name.startswith("keystead.providers._aws.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"is not installed: install keystead\[aws\]"):
        AwsKmsProvider(parsed()).open(time.monotonic() + 1)


def test_the_provider_is_found_by_its_entry_point_and_follows_the_interface() -> None:
    found: type[Provider[Any]] = registry.provider_class("aws-kms")
    assert found is AwsKmsProvider
