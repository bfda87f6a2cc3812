"""The same calls against an implementation that is not ours: the emulator local-kms, built from its Go module.

It differs from AWS where it says AccessDenied to a Decrypt with a disabled key, has no IncorrectKeyException, and
checks no signature; what is asserted here is what both have in common.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import ConfigError, InvalidCiphertext, KeyDisabled, KeyNotFound, WrapContext
from providers.aws.fake import ACCOUNT
from providers.aws.given import CONTEXT, KEK, Make, soon
from support.golang import BUILD_SECONDS, built

SOURCE = Path(__file__).with_name("localkms")
REGION = "eu-west-1"

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 60)


@dataclass(frozen=True)
class LocalKms:
    """The emulator, in the place of the fake."""

    address: str

    def call(self, operation: str, **body: Any) -> dict[str, Any]:
        """Call it as an operator would, by other code than what is tested."""
        request = urllib.request.Request(
            self.address,
            data=json.dumps(body).encode(),
            headers={"X-Amz-Target": f"TrentService.{operation}", "Content-Type": "application/x-amz-json-1.1"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            content = answer.read()
        return dict(json.loads(content)) if content else {}

    def key(self, **fields: Any) -> str:
        arn: str = self.call("CreateKey", **fields)["KeyMetadata"]["Arn"]
        return arn


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKms]:
    pytest.importorskip(
        "boto3", reason="NOT TESTED: no boto3; pip install --require-hashes -r requirements/backends.txt"
    )
    directory = tmp_path_factory.mktemp("localkms")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(built(SOURCE, ".", "localkms")), "127.0.0.1:0", str(directory / "data"), REGION, ACCOUNT],
            stdout=subprocess.PIPE,
            stderr=log,
            env={"HOME": str(directory)},
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address.startswith("127.0.0.1:"), (directory / "log").read_text()
        yield LocalKms(f"http://{address}")
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def test_what_is_wrapped_unwraps_with_its_context_only(emulator: LocalKms, make: Make) -> None:
    key = emulator.key()
    provider = make(None, key, endpoint=emulator.address)
    assert provider.open(soon()) == key
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    assert provider.unwrap(blob, CONTEXT, "", soon()) == KEK
    for other in (WrapContext(bytes(32), "lab"), WrapContext(CONTEXT.kek_id, "other")):
        with pytest.raises(InvalidCiphertext, match="InvalidCiphertextException"):
            provider.unwrap(blob, other, "", soon())


def test_another_keys_wrap_and_damage_are_refused(emulator: LocalKms, make: Make) -> None:
    one, two = (make(None, emulator.key(), endpoint=emulator.address) for _ in range(2))
    one.open(soon())
    two.open(soon())
    blob = one.wrap(KEK, CONTEXT, None, soon()).blob
    with pytest.raises(InvalidCiphertext):
        two.unwrap(blob, CONTEXT, "", soon())
    for bad in (blob[:-1] + bytes([blob[-1] ^ 1]), blob[:-1], bytes(184)):
        with pytest.raises(InvalidCiphertext):
            one.unwrap(bad, CONTEXT, "", soon())


def test_states_of_a_key_and_a_missing_one_are_told_apart(emulator: LocalKms, make: Make) -> None:
    key = emulator.key()
    provider = make(None, key, endpoint=emulator.address)
    provider.open(soon())
    emulator.call("DisableKey", KeyId=key)
    with pytest.raises(KeyDisabled, match="DisabledException"):
        provider.wrap(KEK, CONTEXT, None, soon())
    with pytest.raises(KeyDisabled, match="state is Disabled"):
        make(None, key, endpoint=emulator.address).open(soon())
    emulator.call("EnableKey", KeyId=key)
    assert provider.wrap(KEK, CONTEXT, None, soon()).blob
    emulator.call("ScheduleKeyDeletion", KeyId=key)
    with pytest.raises(KeyDisabled, match="KMSInvalidStateException"):
        provider.wrap(KEK, CONTEXT, None, soon())
    with pytest.raises(KeyDisabled, match="state is PendingDeletion"):
        make(None, key, endpoint=emulator.address).open(soon())
    missing = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    with pytest.raises(KeyNotFound, match="NotFoundException"):
        make(None, missing, endpoint=emulator.address).open(soon())


def test_a_key_of_the_wrong_kind_is_a_fault_of_the_configuration(emulator: LocalKms, make: Make) -> None:
    key = emulator.key(KeyUsage="SIGN_VERIFY", CustomerMasterKeySpec="RSA_2048")
    with pytest.raises(ConfigError, match="KeyUsage SIGN_VERIFY"):
        make(None, key, endpoint=emulator.address).open(soon())
