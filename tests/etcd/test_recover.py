"""`keystead recover` on snapshots of a real etcd, with every way to bring a key."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etcd.given import Save, secret_key
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, AeadKey, Kek, Wrap
from keystead._proto.etcd import objects_pb2 as pb
from keystead.cli import main
from keystead.provider import WrapContext
from support.golang import built
from support.sealed import LocalKek, Seed, store_foreign, store_v1

ROOT = Path(__file__).parents[1]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["recover", *map(str, arguments)])


def answer(*arguments: str | Path) -> Any:
    return json.loads(run(*arguments, "-o", "json").stdout)


def local_wrap(kek: bytes, key_file: Path, name: str = "lab", cluster: str = "prod") -> Wrap:
    """Wrap as the provider `local` does, under a new key file."""
    key = secrets.token_bytes(32)
    key_file.touch(0o600)
    key_file.write_bytes(key)
    context = WrapContext(Kek.from_bytes(kek).kek_id, cluster)
    return Wrap("local", name, "1", ROLE_ONLINE, AeadKey(bytearray(key)).seal(kek, context.aad))


def kek_file(path: Path, kek: LocalKek, mode: int = 0o600) -> Path:
    path.touch()
    path.chmod(mode)
    path.write_bytes(kek.raw)
    return path


@pytest.fixture
def lab(tmp_path: Path) -> LocalKek:
    """A local KEK under the key file `lab.key`, and under a recovery key that nobody has."""
    raw = secrets.token_bytes(32)
    spare = Wrap("age-x25519", "age1spare", "", ROLE_RECOVERY, b"age-encryption.org/v1\n...")
    return LocalKek(local_wrap(raw, tmp_path / "lab.key"), spare, kek=raw)


def objects(kek: LocalKek) -> dict[bytes, bytes]:
    """Five objects under two seeds and one DEK, and others that are nobody's business here."""
    first, second = Seed(kek), Seed(kek)
    values = {secret_key(name): first.store(secret_key(name), b"k8s\0" + name.encode()) for name in ("a", "b")}
    values |= {secret_key("c"): second.store(secret_key("c"), b"{}")}
    values |= {secret_key("d"): second.store(secret_key("d"), b"{}")}
    values |= {secret_key("v1"): store_v1(kek, secret_key("v1"), b"k8s\0old")}
    return values | {secret_key("plain"): b"k8s\0plain", secret_key("foreign"): store_foreign()}


def test_a_provider_on_the_command_line_opens_one_object_per_seed(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    snapshot = save(objects(lab))
    key = ("--provider", "local", "--set", "name=lab", "--set", f"keyFile={tmp_path}/lab.key")
    result = run("rehearse", "--snapshot", snapshot, *key)
    assert result.exit_code == 0, result.output
    assert "5 objects by Keystead, 2 others" in result.stdout
    row = [lab.record.kek_id.hex()[:16], "2026-09-21T14:13:20+00:00", "prod", "5", "3", "3", "key", "lab"]
    assert row in [line.split() for line in result.stdout.splitlines()]
    found = answer("rehearse", "--snapshot", snapshot, *key)
    assert found["complete"]
    assert [record["opened"] for record in found["records"]] == [3]
    assert found["records"][0]["by"] == "key lab"
    assert found["failures"] == found["warnings"] == []


@pytest.mark.parametrize("form", ["entry", "list", "configuration"])
def test_keys_come_from_a_file_in_any_form(save: Save, lab: LocalKek, tmp_path: Path, form: str) -> None:
    snapshot = save(objects(lab))
    entry = f"{{name: lab, provider: local, keyFile: {tmp_path}/lab.key}}"
    file = tmp_path / "keys.yaml"
    spare = "{name: spare, provider: age-x25519, recipient: age1spare}"  # nobody here has its private half
    forms = {
        "entry": entry,
        "list": f"- {spare}\n- {entry}",
        "configuration": f"kind: any\nkeys:\n- {entry}\n- {spare}",
    }
    file.write_text(forms[form])
    assert run("rehearse", "--snapshot", snapshot, "--keys", file).exit_code == 0


def test_the_32_bytes_of_each_local_kek_are_enough(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    other = LocalKek(Wrap("aws-kms", "arn:x", "", ROLE_ONLINE, b"blob"), epoch=2)
    values = objects(lab)
    values[secret_key("e")] = Seed(other).store(secret_key("e"), b"{}", derived=False)
    snapshot = save(values)
    files = [kek_file(tmp_path / "one", lab), kek_file(tmp_path / "two", other)]
    both = answer("rehearse", "--snapshot", snapshot, "--kek-file", files[0], "--kek-file", files[1])
    assert both["complete"]
    assert sorted((record["seeds"], record["opened"], record["by"]) for record in both["records"]) == [
        (1, 1, str(files[1])),
        (3, 3, str(files[0])),
    ]
    one = run("rehearse", "--snapshot", snapshot, "--kek-file", files[0])
    assert one.exit_code == 1
    assert f"FAIL  {other.record.kek_id.hex()[:16]}: none of the given keys is for it" in one.stdout


def test_without_a_key_the_commands_are_printed_and_the_exit_code_says_that_nothing_was_proved(
    save: Save, lab: LocalKek
) -> None:
    snapshot = save(objects(lab))
    result = run("rehearse", "--snapshot", snapshot)
    assert result.exit_code == 3
    label = lab.record.kek_id.hex()[:16]
    assert f"keystead recover blobs --snapshot {snapshot} --out DIR" in result.stdout
    assert f"age -d -i IDENTITY -o DIR/{label}.kek DIR/{label}.age-x25519.blob" in result.stdout
    assert "give --provider local --set name=lab --set keyFile=FILE" in result.stdout
    assert f"keystead recover rehearse --snapshot {snapshot} --kek-file DIR/{label}.kek" in result.stdout


def test_objects_that_were_changed_or_moved_are_named(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    values = objects(lab)
    values[secret_key("moved")] = Seed(lab).store(secret_key("from"), b"{}")
    broken = bytearray(Seed(lab).store(secret_key("changed"), b"{}"))
    broken[70] ^= 1  # in the object itself
    snapshot = save({**values, secret_key("changed"): bytes(broken)})
    result = run("rehearse", "--snapshot", snapshot, "--kek-file", kek_file(tmp_path / "kek", lab))
    assert result.exit_code == 1
    for name in ("moved", "changed"):
        assert f"FAIL  /registry/secrets/default/{name}: the object does not authenticate" in result.stdout


def test_another_key_or_a_remote_that_is_away_opens_nothing(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    snapshot = save(objects(lab))
    wrong = kek_file(tmp_path / "wrong", LocalKek())
    assert run("rehearse", "--snapshot", snapshot, "--kek-file", wrong).exit_code == 1
    (tmp_path / "lab.key").write_bytes(secrets.token_bytes(32))
    local = ("--provider", "local", "--set", f"keyFile={tmp_path}/lab.key")
    other_name = run("rehearse", "--snapshot", snapshot, *local)
    assert other_name.exit_code == 1
    assert "key local is local local, and the record names age-x25519 age1spare, local lab" in other_name.stdout
    other_key = run("rehearse", "--snapshot", snapshot, *local, "--set", "name=lab")
    assert other_key.exit_code == 1
    assert "did not wrap these 72 bytes" in other_key.stdout
    (tmp_path / "lab.key").chmod(0)
    if os.geteuid():  # root reads it anyhow
        assert run("rehearse", "--snapshot", snapshot, *local).exit_code == 3


def test_what_is_given_wrongly_is_refused_before_anything_is_read(lab: LocalKek, tmp_path: Path) -> None:
    for arguments, text in [
        (["--kek-file", str(tmp_path / "absent")], "No such file"),
        (["--kek-file", str(kek_file(tmp_path / "open", lab, 0o644))], "has mode 0644, which lets others in"),
        (["--set", "name=a"], "--set belongs to --provider"),
        (["--provider", "local", "--set", "name"], "write FIELD=VALUE"),
        (["--provider", "locl"], "did you mean 'local'"),
        (["--keys", str(tmp_path / "absent")], "cannot be read"),
        (["--provider", "age-x25519", "--set", "recipient=age1spare"], "has the public half of its key only"),
    ]:
        result = run("rehearse", "--snapshot", tmp_path / "none", *arguments)
        assert result.exit_code == 2, arguments
        assert text in result.output
    encoded = tmp_path / "encoded"
    encoded.touch(0o600)
    encoded.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    assert "decode it with base64 -d" in run("rehearse", "--snapshot", "none", "--kek-file", encoded).output
    assert run("rehearse", "--snapshot", tmp_path / "none").exit_code == 3


def test_a_snapshot_without_keystead_has_nothing_to_rehearse(save: Save) -> None:
    result = run("rehearse", "--snapshot", save({secret_key("plain"): b"k8s\0"}))
    assert result.exit_code == 0
    assert "Keystead encrypted nothing in it" in result.stdout


def test_a_copied_database_is_warned_about(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    snapshot = save(objects(lab))
    copy = tmp_path / "copy.db"
    copy.write_bytes(snapshot.read_bytes()[:-32])
    result = run("rehearse", "--snapshot", copy, "--kek-file", kek_file(tmp_path / "kek", lab))
    assert result.exit_code == 0
    assert "has no checksum" in result.stderr
    copy.write_bytes(snapshot.read_bytes()[:-4096])
    result = run("rehearse", "--snapshot", copy)
    assert result.exit_code == 3
    assert "cut off" in result.stderr


def test_blobs_are_written_once_and_say_what_they_are(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    snapshot, out = save(objects(lab)), tmp_path / "blobs"
    found = answer("blobs", "--snapshot", snapshot, "--out", out)
    label = lab.record.kek_id.hex()[:16]
    assert {path.name for path in out.iterdir()} == {f"{label}.age-x25519.blob", f"{label}.local.blob"}
    assert (out / f"{label}.local.blob").read_bytes() == lab.wraps[0].blob
    assert {path.stat().st_mode & 0o777 for path in [out, *out.iterdir()]} == {0o700, 0o600}
    (record,) = found["records"]
    assert [wrap["role"] for wrap in record["wraps"]] == ["recovery", "online"]
    assert run("blobs", "--snapshot", snapshot, "--out", out).exit_code == 0
    (out / f"{label}.local.blob").write_bytes(b"other")
    result = run("blobs", "--snapshot", snapshot, "--out", out)
    assert result.exit_code == 1
    assert "exists with another content" in result.output


def test_what_stands_in_a_record_cannot_run_in_a_shell(save: Save, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    evil = f"arn:$(touch${{IFS}}{marker}):x;touch${{IFS}}{marker};'\"`touch${{IFS}}{marker}`"
    kek = LocalKek(
        Wrap("aws-kms", evil, "", ROLE_ONLINE, b"blob"),
        Wrap("gcp-kms", f"projects/$(touch {marker})".replace(" ", "${IFS}"), "1", ROLE_ONLINE, b"blob"),
        Wrap("vault-transit", f"{evil}/k", "1", ROLE_ONLINE, b"blob"),
        Wrap("other", evil, "1", ROLE_ONLINE, b"blob"),
    )
    snapshot = save(objects(kek))
    printed = run("blobs", "--snapshot", snapshot, "--out", tmp_path / "out").stdout
    assert printed.count(" kms decrypt ") == 1
    touch = shutil.which("touch")
    assert touch
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/touch").symlink_to(touch)
    shell = partial(
        subprocess.run, env={"PATH": str(tmp_path / "programs")}, check=False, timeout=10, capture_output=True
    )
    shell(["/bin/sh", "-c", printed])
    assert not marker.exists()
    shell(["/bin/sh", "-c", f"echo {evil.partition(';')[0]}"])
    assert marker.exists()


def test_the_private_key_of_a_recovery_member_alone_reads_everything(save: Save, tmp_path: Path) -> None:
    pyrage = pytest.importorskip("pyrage", reason="NOT TESTED: no pyrage")
    age = built(ROOT / "providers/age/tool", "filippo.io/age/cmd/age", "age")
    pair = pyrage.x25519.Identity.generate()
    identity, recipient = tmp_path / "identity.txt", str(pair.to_public())
    identity.write_text(f"{pair}\n")
    raw = secrets.token_bytes(32)
    sealed = pyrage.encrypt(raw, [pair.to_public()])
    kek = LocalKek(
        Wrap("age-x25519", recipient, "", ROLE_RECOVERY, sealed),
        Wrap("aws-kms", "arn:aws:kms:eu-west-1:111122223333:key/gone", "", ROLE_ONLINE, b"blob"),
        kek=raw,
    )
    snapshot, out = save(objects(kek)), tmp_path / "out"
    printed = run("blobs", "--snapshot", snapshot, "--out", out).stdout
    (unwrap,) = [line for line in printed.splitlines() if line.startswith("age ")]
    command = f"umask 077; {unwrap.replace('IDENTITY', str(identity))}"
    subprocess.run(["sh", "-c", command], env={"PATH": f"{age.parent}:/usr/bin:/bin"}, check=True, timeout=20)
    (rehearse,) = [line for line in printed.splitlines() if line.startswith("keystead recover rehearse")]
    result = run(*shlex.split(rehearse)[2:])
    assert result.exit_code == 0, result.output


def decrypt(snapshot: Path, kek: LocalKek, tmp_path: Path, *more: str) -> tuple[Result, Path]:
    out = tmp_path / "out"
    key = ("--kek-file", kek_file(tmp_path / "kek", kek))
    return run("decrypt", "--snapshot", snapshot, "--out", out, *key, *more), out


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_decrypt_writes_only_what_is_selected_and_nobody_else_can_read_it(
    save: Save, lab: LocalKek, tmp_path: Path
) -> None:
    seed = Seed(lab)
    secret = pb.Secret(metadata=pb.ObjectMeta(name="s", namespace="a"), data={"password": b"open sesame"})
    kind = pb.TypeMeta(api_version="v1", kind="Secret")
    content = b"k8s\0" + pb.Unknown(type_meta=kind, raw=secret.SerializeToString()).SerializeToString()
    panda = b'{"apiVersion":"awesome.bears.example/v1","kind":"Panda"}'
    values = {
        secret_key("s", "a"): content,
        secret_key("t", "a"): content,
        secret_key("s", "b"): content,
        b"/registry/awesome.bears.example/pandas/a/s": panda,
        b"/registry/deployments/a/s": b"k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment",
        b"/registry/namespaces/a": b"{}",
    }
    sealed = {key: seed.store(key, value) for key, value in values.items()}
    snapshot = save({**sealed, secret_key("plain", "a"): content, secret_key("foreign", "a"): store_foreign()})
    result, out = decrypt(snapshot, lab, tmp_path, "--i-understand")
    assert result.exit_code == 0, result.output
    assert files_in(out).keys() == {
        "secrets/a/s.yaml",
        "secrets/a/t.yaml",
        "secrets/b/s.yaml",
        "pandas.awesome.bears.example/a/s.yaml",
        "deployments.apps/a/s.stored",
        "namespaces/a.yaml",
    }
    assert b"password: b3BlbiBzZXNhbWU=" in (out / "secrets/a/s.yaml").read_bytes().replace(b'"', b"")
    assert (out / "deployments.apps/a/s.stored").read_bytes() == values[b"/registry/deployments/a/s"]
    assert {path.stat().st_mode & 0o777 for path in [out, *out.rglob("*")] if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o600}
    assert "6 objects written" in result.stdout
    assert "1 of them as they are stored, in files .stored: protobuf of apps/v1 Deployment" in result.stdout
    assert "1 selected objects are not encrypted in this snapshot" in result.stdout
    assert "1 selected objects are under keys that are not Keystead's" in result.stdout
    assert "sesame" not in result.output

    shutil.rmtree(out)
    chosen = ("--resource", "secrets", "--namespace", "a", "--name", "s", "-o", "json", "--i-understand")
    result, out = decrypt(snapshot, lab, tmp_path, *chosen)
    assert files_in(out).keys() == {"secrets/a/s.json"}
    assert json.loads(files_in(out)["secrets/a/s.json"])["data"] == {"password": "b3BlbiBzZXNhbWU="}

    again, _ = decrypt(snapshot, lab, tmp_path, "--i-understand")
    assert again.exit_code == 1
    assert "is not empty" in again.output


def test_decrypt_writes_nothing_without_being_told_twice(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    result, out = decrypt(save(objects(lab)), lab, tmp_path)
    assert result.exit_code == 4
    assert not out.exists()
    result = run("decrypt", "--snapshot", tmp_path / "none", "--out", out, "--i-understand")
    assert result.exit_code in {2, 3}
    assert not out.exists()


def test_names_in_etcd_cannot_lead_out_of_the_directory(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    seed = Seed(lab)
    keys = [
        b"/registry/secrets/../../../../escaped",
        b"/registry/secrets/..",
        b"/registry/secrets/../..",
        b"/registry/..",
        b"/registry/../x",
        b"/registry/x",
        b"/registry/secrets/default/.hidden",
        b"/registry/secrets/default/",
        b"/registry/secrets//empty",
        b"/registry/secrets/default/nul\0l\nf",
        b"/registry/secrets/default/" + b"long" * 100 + b"1",
        b"/registry/secrets/default/" + b"long" * 100 + b"2",
        b"/registry/secrets/default/\xff\xfe",
        b"/registry/secrets/a/b/c",
    ]
    snapshot = save({key: seed.store(key, b"{}") for key in keys})
    result, out = decrypt(snapshot, lab, tmp_path, "--i-understand")
    assert result.exit_code == 0, result.output
    written = list(files_in(out))
    assert len(written) == len(keys), written
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "kek", "snapshot.db", "lab.key"}


def test_what_does_not_open_is_named_and_the_rest_is_written(save: Save, lab: LocalKek, tmp_path: Path) -> None:
    values = objects(lab)
    values[secret_key("moved")] = Seed(lab).store(secret_key("from"), b"{}")
    other = LocalKek()
    values |= {secret_key(f"o{n}"): Seed(other).store(secret_key(f"o{n}"), b"{}") for n in range(30)}
    result, out = decrypt(save(values), lab, tmp_path, "--i-understand")
    assert result.exit_code == 1
    assert len(files_in(out)) == 5
    assert "31 objects do not open" in result.stdout
    assert result.stdout.count("FAIL") == 20
