from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.providers.aws_kms import AwsKmsProvider
from providers.aws.fake import ACCESS, SECRET, FakeAws, Key, fake_aws
from providers.aws.given import Make


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests, and no question to a metadata service that may be there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with fake_aws() as fake:
        yield fake


@pytest.fixture
def instance(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    """An instance with a role."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.address)
    return aws


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Build a provider that is closed at the end. Its credentials are in a file unless fields name others."""
    pytest.importorskip(
        "boto3", reason="NOT TESTED: no boto3; pip install --require-hashes -r requirements/backends.txt"
    )
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
    with contextlib.ExitStack() as stack:

        def build(aws: FakeAws | None, key: Key | str, *, ambient: bool = False, **fields: Any) -> AwsKmsProvider:
            if aws is not None:
                fields.setdefault("endpoint", aws.address)
                if "assumeRole" in fields or "webIdentity" in fields:
                    fields.setdefault("stsEndpoint", aws.address)
            if not ambient and "webIdentity" not in fields:
                fields.setdefault("sharedCredentialsFile", str(credentials))
            config = AwsKmsProvider.config_type.model_validate(
                {
                    "name": "k",
                    "provider": "aws-kms",
                    "keyID": key if isinstance(key, str) else key.arn(key.regions[0]),
                    **{name: value for name, value in fields.items() if value is not None},
                }
            )
            provider = AwsKmsProvider(config)
            stack.callback(provider.close)
            return provider

        yield build
