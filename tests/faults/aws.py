"""The project's FAKE of AWS, over real sockets to a real botocore, and what can be wrong with a key there."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path

from faults.line import Line
from faults.remotes import RemoteOnALine
from keystead.providers.aws_kms import AwsKmsProvider
from providers.aws.fake import ACCESS, SECRET, Reply, fake_aws, refused
from providers.aws.given import profile

REGION = "eu-west-1"
STATES = {"key disabled": "Disabled", "key destroyed": "PendingDeletion"}
THROTTLING = {"__type": "ThrottlingException", "message": "Rate exceeded"}


class Aws(RemoteOnALine):
    """KMS with one key. Its credentials are in a file."""

    name = "aws-kms"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.fake = self.stack.enter_context(fake_aws(REGION))
        self.line = Line(self.fake.address.removeprefix("http://"))
        self.stack.callback(self.line.close)
        self._key = self.fake.new_key()
        self.credentials = directory / "aws-credentials"
        self.credentials.write_text(profile("default", ACCESS, SECRET))
        self.environment = {"AWS_EC2_METADATA_DISABLED": "true"}
        self.key = {
            "name": self.name,
            "provider": self.name,
            "keyID": self._key.arn(REGION),
            "endpoint": f"http://{self.line.address}",
            "sharedCredentialsFile": str(self.credentials),
        }
        direct = {**self.key, "endpoint": self.fake.address}
        self.peer = AwsKmsProvider(AwsKmsProvider.config_type.model_validate(direct))
        self.open()

    def unwraps(self) -> int:
        return len(self.fake.asked("Decrypt"))

    def requests(self) -> int:
        return len(self.fake.seen)

    @contextlib.contextmanager
    def own_fault(self, name: str) -> Iterator[None]:
        match name:
            case "key disabled" | "key destroyed":
                self._key.states[REGION] = STATES[name]
            case "key not found":
                del self.fake.keys[self._key.id]
            case _:
                self.fake.scripts["Decrypt"] = self._answer(name)
        try:
            yield
        finally:
            self._key.states.clear()
            self.fake.keys[self._key.id] = self._key
            self.fake.scripts.clear()

    def _answer(self, name: str) -> Reply:
        match name:
            case "redirect to a foreign host":
                return Reply(307, b"", {"Location": "http://foreign.example/"})
            case "token expired":
                return refused("ExpiredTokenException", "The security token included in the request is expired", 403)
            case "denied":
                return refused("AccessDeniedException", "User: u is not authorized to perform: kms:Decrypt")
            case "rate limit":
                return Reply(400, THROTTLING)
            case "rate limit with Retry-After":
                return Reply(429, THROTTLING, {"Retry-After": "30"})
            case "internal error":
                return refused("KMSInternalException", "internal", 500)
            case "another key returned":
                body = {"KeyId": self._key.arn(REGION), "Plaintext": base64.b64encode(bytes(32)).decode()}
                return Reply(body={**body, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
        raise AssertionError(f"no such fault of AWS: {name}")
