"""The same calls against a third implementation: moto's server, whose STS and rotation are not ours either.

It lets a key that is disabled or deleted encrypt and says AccessDenied where AWS says that a ciphertext is another
key's; what is asserted here is what it has in common with AWS.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import InvalidCiphertext, KeyNotFound, WrapContext
from providers.aws.given import CONTEXT, KEK, Make, soon, works
from providers.vault.bao import free_port

REGION = "eu-west-1"
ACCOUNT = "123456789012"
"""The one that moto has."""
ROLE = f"arn:aws:iam::{ACCOUNT}:role/keystead"
START_SECONDS = 60
"""It imports much, and a machine may be busy."""

pytestmark = pytest.mark.timeout(START_SECONDS + 60)


@dataclass(frozen=True)
class Moto:
    """The server."""

    address: str

    def call(self, operation: str, **body: Any) -> dict[str, Any]:
        """Call it as an operator would, by other code than what is tested. It reads the region from the signature."""
        scope = f"AKIAEXAMPLE/20260101/{REGION}/kms/aws4_request"
        request = urllib.request.Request(
            self.address,
            data=json.dumps(body).encode(),
            headers={
                "X-Amz-Target": f"TrentService.{operation}",
                "Content-Type": "application/x-amz-json-1.1",
                "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def key(self) -> str:
        arn: str = self.call("CreateKey", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["Arn"]
        return arn


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    for name in ("boto3", "moto", "flask_cors"):
        # Not imported here: moto puts a hook into every client of botocore in its process.
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"NOT TESTED: no {name}; pip install --require-hashes -r requirements/backends.txt")
    directory, port = tmp_path_factory.mktemp("moto"), free_port()
    log_file = directory / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env={"HOME": str(directory), "PATH": os.environ["PATH"]},
        )
    try:
        ends = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < ends, log_file.read_text()
            time.sleep(0.05)
        yield Moto(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait(10)


def test_what_is_wrapped_unwraps_with_its_context_only(moto: Moto, make: Make) -> None:
    key = moto.key()
    provider = make(None, key, endpoint=moto.address)
    assert provider.open(soon()) == key
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    assert provider.unwrap(blob, CONTEXT, "", soon()) == KEK
    for other in (WrapContext(bytes(32), "lab"), WrapContext(CONTEXT.kek_id, "other")):
        with pytest.raises(InvalidCiphertext, match="InvalidCiphertextException"):
            provider.unwrap(blob, other, "", soon())


def test_what_was_wrapped_before_a_rotation_still_unwraps(moto: Moto, make: Make) -> None:
    key = moto.key()
    provider = make(None, key, endpoint=moto.address)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    moto.call("RotateKeyOnDemand", KeyId=key)
    assert provider.current_version(soon()) == ""
    assert provider.unwrap(blob, CONTEXT, "", soon()) == KEK
    assert works(provider)


def test_a_key_that_is_not_there_is_not_found(moto: Moto, make: Make) -> None:
    missing = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    with pytest.raises(KeyNotFound, match="NotFoundException"):
        make(None, missing, endpoint=moto.address).open(soon())


@pytest.mark.parametrize("kind", ["assumeRole", "webIdentity"])
def test_a_role_is_assumed_and_its_credentials_end_in_an_hour(
    moto: Moto, make: Make, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("header.claims.signature")
    role = {"roleARN": ROLE} | ({"tokenFile": str(tmp_path / "token")} if kind == "webIdentity" else {})
    provider = make(None, moto.key(), endpoint=moto.address, stsEndpoint=moto.address, **{kind: role})
    provider.open(soon())
    assert works(provider)
    kms = provider._kms
    assert kms is not None
    lease = kms.credentials.valid(soon())
    assert lease.keys.access_key.startswith("ASIA")
    assert lease.keys.token
    assert 3300 < lease.ends - time.time() <= 3600


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
