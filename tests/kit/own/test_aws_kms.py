"""The provider `aws-kms` keeps the rules on the project's FAKE of AWS, with the fault proxy in between."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import WrapContext, Wrapped
from keystead.providers.aws_kms import AwsKmsProvider
from keystead.testing import FaultProxy, ProviderSuite, Sandbox
from providers.aws.fake import ACCESS, SECRET, FakeAws, Key, Reply, Request, fake_aws, refused
from providers.aws.given import profile

OPERATIONS = ("Encrypt", "Decrypt", "DescribeKey")


class AwsSandbox(Sandbox):
    def __init__(self, aws: FakeAws, key: Key, credentials: Path) -> None:
        self._aws = aws
        self._key = key
        self._credentials = credentials
        credentials.write_text(profile("default"))

    def secrets(self) -> list[str]:
        return [SECRET]

    @contextlib.contextmanager
    def key_disabled(self) -> Iterator[None]:
        self._key.states[self._aws.region] = "Disabled"
        yield
        self._key.states.clear()

    @contextlib.contextmanager
    def key_missing(self) -> Iterator[None]:
        self._aws.keys.pop(self._key.id)
        yield
        self._aws.keys[self._key.id] = self._key

    def access_denied(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(refused("AccessDeniedException", "is not authorized to perform: kms:Decrypt"))

    def throttled(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(refused("ThrottlingException", "Rate exceeded"))

    def out_of_order(self) -> contextlib.AbstractContextManager[None]:
        return self._answering(refused("KMSInternalException", status=500))

    @contextlib.contextmanager
    def credentials_expired(self) -> Iterator[None]:
        """The access key is gone; another one is in the file at the end."""
        self._aws.secret_keys.clear()
        yield
        self._aws.secret_keys["AKIAANOTHERONE"] = ("canary-another-secret", None)
        self._credentials.write_text(profile("default", "AKIAANOTHERONE", "canary-another-secret"))

    @contextlib.contextmanager
    def wrong_answers(self) -> Iterator[None]:
        body = {"KeyId": self._key.arn(self._aws.region), "Plaintext": base64.b64encode(bytes(31)).decode()}
        with self._answering(Reply(body={**body, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})):
            yield

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:
        other = self._aws.new_key()
        body = {
            "KeyId": other.arn(self._aws.region),
            "Plaintext": base64.b64encode(kek).decode(),
            "EncryptionContext": context.mapping,
        }
        answer = self._aws._kms(Request("Encrypt", {}, json.loads(json.dumps(body))))
        return Wrapped(base64.b64decode(answer["CiphertextBlob"]), "")

    @contextlib.contextmanager
    def _answering(self, reply: Reply) -> Iterator[None]:
        self._aws.scripts.update(dict.fromkeys(OPERATIONS, reply))
        yield
        self._aws.scripts.clear()


class TestAwsKms(ProviderSuite):
    @pytest.fixture(autouse=True)
    def _nothing_of_this_machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip(
            "boto3", reason="NOT TESTED: no boto3; pip install --require-hashes -r requirements/backends.txt"
        )
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    @pytest.fixture
    def aws(self) -> Iterator[FakeAws]:
        with fake_aws() as fake:
            assert ACCESS in fake.secret_keys
            yield fake

    @pytest.fixture
    def key(self, aws: FakeAws) -> Key:
        return aws.new_key()

    @pytest.fixture
    def sandbox(self, aws: FakeAws, key: Key, tmp_path: Path) -> AwsSandbox:
        return AwsSandbox(aws, key, tmp_path / "credentials")

    @pytest.fixture
    def provider(
        self, aws: FakeAws, key: Key, sandbox: AwsSandbox, tmp_path: Path, fault_proxy: FaultProxy
    ) -> AwsKmsProvider:
        proxy = fault_proxy.to(aws.address.removeprefix("http://"), tls=True)
        described: dict[str, Any] = {
            "name": "k",
            "provider": "aws-kms",
            "keyID": key.arn(aws.region),
            "endpoint": f"https://{proxy.address}",
            "caFile": str(proxy.ca_file),
            "sharedCredentialsFile": str(tmp_path / "credentials"),
        }
        return AwsKmsProvider(AwsKmsProvider.config_type.model_validate(described))
