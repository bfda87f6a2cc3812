"""The commands that `keystead recover blobs` prints, run as they are printed."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, Wrap
from keystead.operate.by_hand import ByHand, by_hand
from keystead.provider import Provider, WrapContext
from keystead.registry import provider_class
from providers.aws.fake import ACCESS, SECRET, fake_aws
from providers.vault.bao import binary, serving

RAW = secrets.token_bytes(32)
KEK = Kek.from_bytes(RAW)
CLUSTER = "prod-eu-1"


def record_of(*wraps: Wrap) -> Record:
    return KEK.encode_record(1_790_000_000, CLUSTER, wraps)


def wrapped_by(provider: str, directory: Path, **fields: Any) -> Record:
    """Wrap as the plugin does."""
    made: type[Provider[Any]] = provider_class(provider)
    instance = made(made.config_type.model_validate({"name": "k", "provider": provider, **fields}))
    deadline = time.monotonic() + 20
    ref = instance.open(deadline)
    blob, version = instance.wrap(RAW, WrapContext(KEK.kek_id, CLUSTER), None, deadline)
    instance.close()
    return record_of(Wrap(provider, ref, version, ROLE_ONLINE, blob))


def one_way(record: Record, directory: Path, **options: Any) -> ByHand:
    (way,) = by_hand(record, "label", directory, **options)
    for path, content in way.files.items():
        path.write_bytes(content)
    return way


def run(way: ByHand, environment: Mapping[str, str], programs: Path) -> bytes:
    assert way.command is not None
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", way.command], env={**environment, "PATH": path}, check=True, timeout=60)
    return way.result.read_bytes()


@pytest.mark.parametrize("mount", ["transit", "team/transit"])
def test_bao_unwraps_a_wrap_of_vault_transit(tmp_path: Path, mount: str) -> None:
    program = Path(binary())
    with serving(tmp_path) as bao:
        bao.initialise()
        bao.unseal()
        bao.mount(mount, "transit")
        bao.write(f"{mount}/keys/k8s")
        (tmp_path / "token").write_text(bao.token)
        auth = {"method": "token", "tokenFile": str(tmp_path / "token")}
        record = wrapped_by("vault-transit", tmp_path, address=bao.address, mount=mount, transitKey="k8s", auth=auth)
        way = one_way(record, tmp_path)
        environment = {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.token, "HOME": str(tmp_path)}
        if mount == "transit":
            assert way.note == ""
            assert run(way, environment, program.parent) == RAW
            return
        # The ref does not say where the namespace ends and the mount begins. The note says that.
        assert "a mount may have slashes" in way.note
        assert way.command is not None
        mended = way.command.replace("-namespace=team ", "").replace(" transit/decrypt", " team/transit/decrypt")
        assert run(ByHand(way.wrap, way.files, way.result, mended, ""), environment, program.parent) == RAW


def test_the_aws_cli_unwraps_a_wrap_of_aws_kms(tmp_path: Path) -> None:
    pytest.importorskip("boto3", reason="NOT TESTED: no boto3")
    program = os.environ.get("KEYSTEAD_AWS_CLI") or shutil.which("aws")
    if not program:
        pytest.skip("NOT TESTED: no aws on the PATH; KEYSTEAD_AWS_CLI may name one")
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
    with fake_aws() as aws:
        key = aws.new_key()
        many = aws.new_key(multi_region=("eu-west-1", "us-east-1"))
        environment = {
            "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
            "AWS_ENDPOINT_URL": aws.address,
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": str(tmp_path),
        }
        for one, region, options in ((key, key.regions[0], {}), (many, "eu-west-1", {"region": "us-east-1"})):
            record = wrapped_by(
                "aws-kms",
                tmp_path,
                keyID=one.arn(region),
                endpoint=aws.address,
                sharedCredentialsFile=str(credentials),
                **({"region": region} if one is many else {}),
            )
            way = one_way(record, tmp_path, **options)
            if one is key:
                assert run(way, environment, Path(program).parent) == RAW
            else:
                assert way.command is not None
                assert f"--region us-east-1 --key-id {many.id} " in way.command
                assert "REGION" in str(one_way(record, tmp_path).command)


def test_the_line_for_gcloud_names_every_part_of_the_key(tmp_path: Path) -> None:
    ref = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
    record = record_of(Wrap("gcp-kms", ref, "3", ROLE_ONLINE, b"blob"))
    way = one_way(record, tmp_path)
    assert way.command is not None
    assert shlex.split(way.command) == [
        "gcloud", "kms", "decrypt", "--project=p", "--location=europe-west1", "--keyring=r", "--key=k",
        f"--ciphertext-file={tmp_path}/label.gcp-kms.blob",
        f"--additional-authenticated-data-file={tmp_path}/label.gcp-kms.aad",
        f"--plaintext-file={tmp_path}/label.kek",
    ]  # fmt: skip
    assert (tmp_path / "label.gcp-kms.aad").read_bytes() == WrapContext(KEK.kek_id, CLUSTER).aad


def test_a_provider_without_a_command_of_its_own_gets_the_files_and_a_note(tmp_path: Path) -> None:
    acme, local = Wrap("acme", "k1", "", ROLE_ONLINE, b"a"), Wrap("local", "lab", "1", ROLE_ONLINE, b"b")
    odd = Wrap("gcp-kms", "not/a/crypto/key", "", ROLE_RECOVERY, b"c")
    ways = by_hand(record_of(acme, local, odd), "label", tmp_path)
    assert [way.command for way in ways] == [None, None, None]
    assert [set(way.files.values()) for way in ways] == [
        {b"a", WrapContext(KEK.kek_id, CLUSTER).aad},
        {b"c", WrapContext(KEK.kek_id, CLUSTER).aad},
        {b"b"},
    ]
    assert "--provider acme" in ways[0].note
    assert [way.is_recovery for way in ways] == [False, True, False]


def test_two_wraps_of_one_provider_have_files_of_their_own(tmp_path: Path) -> None:
    first, second = (Wrap("local", name, "1", ROLE_ONLINE, name.encode()) for name in ("a", "b"))
    ways = by_hand(record_of(first, second), "label", tmp_path)
    assert [path.name for way in ways for path in way.files] == ["label.local.blob", "label.local.2.blob"]
