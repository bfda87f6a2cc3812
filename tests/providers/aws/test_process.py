"""A whole `keystead serve` over aws-kms and a FAKE of AWS: what it wraps, what survives, and what is in its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.aws.fake import ACCESS, REQUEST_ID, SECRET, FakeAws
from support.fakes import CLUSTER
from support.loud import SPOKEN, loud_site
from support.process import Files

pytest.importorskip("boto3", reason="NOT TESTED: no boto3; pip install --require-hashes -r requirements/backends.txt")

SEED = bytes(range(32))


@pytest.fixture
def files(aws: FakeAws, tmp_path: Path) -> Files:
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n"
    )
    made = Files(tmp_path)
    document = made.document()
    document["keys"] = [
        {
            "name": "lab",
            "provider": "aws-kms",
            "keyID": aws.new_key().arn("eu-west-1"),
            "endpoint": aws.address,
            "sharedCredentialsFile": str(tmp_path / "credentials"),
        }
    ]
    document["health"] = {"probeInterval": "1s"}
    document["observability"]["logging"]["verbosity"] = 10
    made.write(document)
    return made


def test_what_was_written_is_read_after_a_restart_and_while_aws_is_away(aws: FakeAws, files: Files) -> None:
    with files.run() as process:
        key_id = process.until_ok()
        sealed = process.client.seal(SEED)
        assert process.stop() == 0
    assert aws.asked("Encrypt")[0].body["EncryptionContext"]["keystead:cluster"] == CLUSTER
    with files.run() as process:
        assert process.until_ok() == key_id
        for operation in ("Encrypt", "Decrypt", "DescribeKey"):
            aws.scripts[operation] = lambda _, handler: handler.connection.close()
        assert process.client.decrypt(sealed) == SEED
        assert process.client.seal(SEED).key_id == key_id
        assert process.stop() == 0


def test_nothing_secret_is_logged_even_if_someone_sets_all_loggers_to_debug(aws: FakeAws, files: Files) -> None:
    site = loud_site(files.directory)
    with files.run(environment={"PYTHONPATH": str(site)}) as process:
        process.until_ok()
        process.client.seal(SEED)
        (key,) = aws.keys.values()
        key.states["eu-west-1"] = "Disabled"
        process.until_event("health.changed", 2)  # the first one is the start
        assert process.stop() == 0
        log = process.log
    assert SPOKEN in log
    assert "DisabledException" in log
    assert REQUEST_ID in log
    plaintexts = [request.body["Plaintext"] for request in aws.asked("Encrypt")]
    blobs = [request.body["CiphertextBlob"] for request in aws.asked("Decrypt")]
    contexts = [request.body["EncryptionContext"]["keystead:kek"] for request in aws.asked("Encrypt")]
    assert len(plaintexts) >= 2
    for secret in [SECRET, *plaintexts, *blobs, *contexts]:
        assert secret not in log
