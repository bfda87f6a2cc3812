"""`keystead inventory` on a real etcd and on its snapshots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etcd.conftest import SERVERS
from etcd.given import Save, secret_key
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Wrap
from keystead.cli import main
from providers.vault.certificates import Authority
from support.etcd_server import EtcdServer, serving
from support.sealed import LocalKek, Seed, store_foreign, store_v1

LAB = Wrap("local", "lab", "1", ROLE_ONLINE, b"blob")
AWS = Wrap("aws-kms", "arn:aws:kms:eu-west-1:111122223333:key/k1", "", ROLE_ONLINE, b"blob")
SAFE = Wrap("age-x25519", "age1safe", "", ROLE_RECOVERY, b"blob")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["inventory", *map(str, arguments)])


def answer(*arguments: str | Path) -> Any:
    result = run(*arguments, "-o", "json")
    assert isinstance(result.exception, SystemExit | None), result.output
    return json.loads(result.stdout)


def values() -> tuple[LocalKek, LocalKek, dict[bytes, bytes]]:
    """Secrets under two KEKs of two epochs, and what else can be in an etcd."""
    old, new = LocalKek(LAB), LocalKek(LAB, AWS, SAFE, epoch=2)
    stored: dict[bytes, bytes] = {}
    first, second, third = Seed(old), Seed(old), Seed(new)
    for seed, names in ((first, ("a", "b")), (second, ("c",)), (third, ("d", "e", "f"))):
        for name in names:
            key = secret_key(name, "one" if name in "abd" else "two")
            stored[key] = seed.store(key, b"{}")
    panda = b"/registry/awesome.bears.example/pandas/one/p"
    stored[panda] = third.store(panda, b"{}")
    for name in ("v", "w"):
        stored[secret_key(name)] = store_v1(old, secret_key(name), b"{}")
    stored[secret_key("plain")] = b"k8s\0plain"
    stored[secret_key("foreign")] = store_foreign("other", "arn:of:somebody/else")
    stored[b"/registry/configmaps/one/c"] = b"k8s:enc:aescbc:v1:key1:" + bytes(48)
    stored[b"/registry/services/specs/one/s"] = b"k8s\0"
    stored[b"/registry/ranges/servicenodeports"] = b"k8s\0"
    stored[b"compact_rev_key"] = b"123"
    return old, new, stored


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_objects_seeds_and_key_ids_by_resource(save: Save) -> None:
    old, new, stored = values()
    result = run("--snapshot", save(stored))
    assert result.exit_code == 0, result.output
    shown = [row[:-1] for row in rows(result.stdout)[:10]]
    assert shown == [
        ["RESOURCE", "PROVIDER", "KEY_ID", "OBJECTS", "SEEDS"],
        ["configmaps", "aescbc:key1", "-", "1", "0"],
        ["pandas.awesome.bears.example", "kms:v2:keystead", new.key_id, "1", "1"],
        ["ranges", "PLAINTEXT", "-", "1", "0"],
        ["secrets", "PLAINTEXT", "-", "1", "0"],
        ["secrets", "kms:v1:old", old.key_id, "2", "2"],
        ["secrets", "kms:v2:keystead", old.key_id, "3", "2"],
        ["secrets", "kms:v2:keystead", new.key_id, "3", "1"],
        ["secrets", "kms:v2:other", "arn:of:somebody/else", "1", "1"],
        ["services", "PLAINTEXT", "-", "1", "0"],
    ]
    assert "14 objects at revision" in result.stdout
    assert "1 of which Kubernetes never encrypts" in result.stdout
    assert f"note  3 secrets are under another key_id than the latest, {new.key_id}" in result.stdout
    assert "note  1 secrets are plaintext beside 9 that are encrypted" in result.stdout
    assert "Next: keystead generate migration --resources secrets" in result.stdout


def test_every_other_way_to_count(save: Save) -> None:
    old, new, stored = values()
    snapshot = save(stored)

    def counts(by: str, *names: str) -> set[tuple[Any, ...]]:
        found = answer("--snapshot", snapshot, "--by", by)
        assert sum(line["objects"] for line in found["lines"]) == (14 if by != "key" else 14 + 2 * 4)
        return {(*(line[name] for name in names), line["objects"], line["seeds"]) for line in found["lines"]}

    assert counts("provider", "provider") == {
        ("PLAINTEXT", 3, 0),
        ("aescbc:key1", 1, 0),
        ("kms:v1:old", 2, 2),
        ("kms:v2:keystead", 7, 3),
        ("kms:v2:other", 1, 1),
    }
    assert ("one", "kms:v2:keystead", old.key_id, 2, 1) in counts("namespace", "namespace", "provider", "keyID")
    assert {
        ("local", "lab", "1", "online", 9, 5),
        ("aws-kms", AWS.ref, None, "online", 4, 1),
        ("age-x25519", "age1safe", None, "recovery", 4, 1),
    } <= counts("key", "scheme", "ref", "version", "role")
    assert {
        (old.record.kek_id.hex()[:16], "prod", old.key_id, 5, 4),
        (new.record.kek_id.hex()[:16], "prod", new.key_id, 4, 1),
    } <= counts("record", "localKEK", "cluster", "keyID")


def test_the_hash_of_a_key_id_is_the_one_that_kube_apiserver_shows(save: Save) -> None:
    _, _, stored = values()
    found = answer("--snapshot", save(stored))
    hashes = {line["keyID"]: line.get("keyIDHash") for line in found["lines"]}
    assert hashes["arn:of:somebody/else"] == ("sha256:" + hashlib.sha256(b"arn:of:somebody/else").hexdigest())
    assert hashes[None] is None


def encryption_config(path: Path, resources: str, *providers: str) -> Path:
    head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
    path.write_text(f"{head}- resources: {resources}\n  providers:\n" + "".join(f"  - {one}\n" for one in providers))
    return path


KMS = "kms: {apiVersion: v2, name: keystead, endpoint: unix:///run/keystead/kms.sock}"


def test_what_the_encryption_configuration_has_encrypted_and_is_not_fails(save: Save, tmp_path: Path) -> None:
    _, _, stored = values()
    snapshot = save(stored)
    config = encryption_config(tmp_path / "e.yaml", "[secrets, configmaps]", KMS, "kms: {name: old}", "identity: {}")
    result = run("--snapshot", snapshot, "--encryption-config", config)
    assert result.exit_code == 1
    assert "FAIL  1 secrets are plaintext, and the configuration has them encrypted" in result.stdout
    assert "FAIL  1 secrets are under kms:v2:other, which the configuration does not have" in result.stdout
    assert "FAIL  1 configmaps are under aescbc:key1, which the configuration does not have" in result.stdout
    assert "FAIL  1 pandas.awesome.bears.example are under kms:v2:keystead" in result.stdout
    assert "note  2 secrets are under kms:v1:old, which is not the first provider" in result.stdout
    everything = encryption_config(
        tmp_path / "all.yaml", "['*.*']", KMS, "kms: {name: old}", "kms: {apiVersion: v2, name: other}",
        "aescbc: {keys: [{name: key1, secret: x}]}", "identity: {}",
    )  # fmt: skip
    found = answer("--snapshot", snapshot, "--encryption-config", everything)["findings"]
    assert {(one["kind"], one["resource"], one["objects"]) for one in found if one["fails"]} == {
        ("plaintext", "secrets", 1),
        ("plaintext", "services", 1),
    }


def test_a_finished_migration_has_no_finding(save: Save, tmp_path: Path) -> None:
    seed = Seed(LocalKek(LAB))
    stored = {secret_key(name): seed.store(secret_key(name), b"{}") for name in ("a", "b")}
    config = encryption_config(tmp_path / "e.yaml", "[secrets]", KMS)
    result = run("--snapshot", save({**stored, b"/registry/pods/a/p": b"k8s\0"}), "--encryption-config", config)
    assert result.exit_code == 0
    assert "note" not in result.stdout
    assert "FAIL" not in result.stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind: Other\n", "is not an EncryptionConfiguration"),
        ("kind: EncryptionConfiguration\nresources: 3\n", "that can be read"),
        ("kind: EncryptionConfiguration\nresources:\n- {resources: [a], providers: [{new: {}}]}\n", "KeyError: 'new'"),
        ("[", "."),
    ],
)
def test_what_is_no_encryption_configuration_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "e.yaml").write_text(text)
    result = run("--snapshot", "none", "--encryption-config", tmp_path / "e.yaml")
    assert result.exit_code == 2
    assert reason in result.output


def test_damaged_values_are_counted_apart_and_fail(save: Save) -> None:
    kek = LocalKek(LAB)
    good = Seed(kek).store(secret_key("a"), b"{}")
    other = Seed(LocalKek(LAB, epoch=2)).store(secret_key("b"), b"{}")
    at = good.index(kek.key_id.encode())
    relabelled = good[:at] + LocalKek(AWS).key_id.encode() + good[at + len(kek.key_id) :]
    kek_id = kek.record.kek_id
    swapped = good.replace(kek_id, bytes(32), 1)
    result = run(
        "--snapshot",
        save(
            {
                secret_key("a"): good,
                secret_key("cut"): good[:-5],
                secret_key("relabelled"): relabelled,
                secret_key("swapped"): swapped,
                secret_key("unknown"): b"k8s:enc:kms:v9:name:",
                secret_key("short"): b"k8s:enc:",
                secret_key("b"): other,
            }
        ),
    )
    assert result.exit_code == 1
    for reason in (
        "1 secrets are damaged: what follows its prefix is not the message of KMS v2",
        "1 secrets are damaged: the key_id is not the name of the keys in the KEK record",
        "1 secrets are damaged: the ciphertext and its KEK record name different local KEKs",
        "1 secrets are damaged: no provider of Kubernetes has this name and version",
        "1 secrets are damaged: the value ends before the kind of its provider does",
    ):
        assert f"FAIL  {reason}" in result.stdout


def test_text_from_etcd_cannot_act_on_a_terminal(save: Save) -> None:
    evil = b"/registry/\x1b[2J\x1b[31msecrets/\xe2\x80\xaens/x"
    result = run("--snapshot", save({evil: store_foreign("a\x1b[2Jb", "\x1b]0;title\x07")}), "--by", "resource")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\\x1b[2J\\x1b[31msecrets" in result.stdout


def test_a_running_etcd_says_the_same_as_its_snapshot(save: Save, one_server: EtcdServer) -> None:
    _, _, stored = values()
    snapshot = save(stored)
    live, saved = answer("--etcd", one_server.url), answer("--snapshot", snapshot)
    assert live["lines"] == saved["lines"]
    assert live["findings"] == saved["findings"]
    assert live["revision"] == saved["revision"] == one_server.revision()
    assert (saved["outsidePrefix"], live["outsidePrefix"]) == (1, 0)
    for where in (("--etcd", one_server.url), ("--snapshot", str(snapshot))):
        result = run(*where, "--prefix", "/other/")
        assert result.exit_code == 3
        assert "has no object below /other/" in result.stderr


def test_a_store_of_many_pages_is_read_at_one_revision(one_server: EtcdServer, save: Save) -> None:
    seed = Seed(LocalKek(LAB))
    key = secret_key("x")
    value = seed.store(key, b"{}")
    save({})
    for start in range(0, 1200, 100):
        one_server.transact(*((secret_key(f"n{n:04}"), value) for n in range(start, start + 100)))
    for n in range(3):
        one_server.put(secret_key(f"n{n * 500:04}-large"), value + bytes(1_400_000))
    found = answer("--etcd", one_server.url)
    assert sum(line["objects"] for line in found["lines"]) == 1203
    assert found["revision"] == one_server.revision()
    # What is compacted in between cannot be read any more at the old revision.
    from keystead.operate.etcd_client import EtcdStore, Tls
    from keystead.operate.store import Unreadable

    entries = EtcdStore(one_server.url, "/registry/", Tls()).entries(lambda _what, _part: None)
    next(entries)
    one_server.put(key, value)
    one_server.compact(one_server.revision())
    with pytest.raises(Unreadable, match=r"OUT_OF_RANGE.*compacted while it was read"):
        list(entries)


def test_an_etcd_that_is_away_is_no_empty_one() -> None:
    result = run("--etcd", "http://127.0.0.1:9")
    assert result.exit_code == 3
    assert "UNAVAILABLE" in result.stderr
    for url in ("127.0.0.1:2379", "http://127.0.0.1", "ftp://127.0.0.1:1", "https://[::1", "http://h:1/path"):
        assert run("--etcd", url).exit_code == 2, url
    assert run().exit_code == 2
    assert run("--etcd", "http://127.0.0.1:9", "--snapshot", "x").exit_code == 2
    assert "certificates have no use" in run("--etcd", "http://127.0.0.1:9", "--cacert", "x").output
    assert "belong together" in run("--etcd", "https://127.0.0.1:9", "--cert", "x").output
    assert run("--etcd", "https://127.0.0.1:9", "--cacert", "/none").exit_code == 3


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EtcdServer, Mapping[str, Path]]]:
    """An etcd that asks its clients for a certificate."""
    if not SERVERS:
        pytest.skip("NOT TESTED: no etcd; pip install --require-hashes -r requirements/backends.txt")
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority.create(directory / "ca.crt")
    certificate, key = authority.issue(directory, "localhost", "127.0.0.1")
    files = {"ca": authority.file, "cert": certificate, "key": key}
    with serving(next(iter(SERVERS.values())), directory, files) as server:
        yield server, files


def test_mutual_tls(tls_server: tuple[EtcdServer, Mapping[str, Path]], tmp_path: Path) -> None:
    server, files = tls_server
    server.put(secret_key("a"), b"k8s\0")
    tls = ("--cacert", files["ca"], "--cert", files["cert"], "--key", files["key"])
    found = answer("--etcd", server.url, *tls)
    assert [(line["resource"], line["objects"]) for line in found["lines"]] == [("secrets", 1)]
    stranger = Authority.create(tmp_path / "other.crt")
    certificate, key = stranger.issue(tmp_path, "localhost", "127.0.0.1")
    for wrong in (
        (),
        ("--cacert", files["ca"]),
        ("--cacert", stranger.file, "--cert", files["cert"], "--key", files["key"]),
        ("--cacert", files["ca"], "--cert", certificate, "--key", key),
    ):
        assert run("--etcd", server.url, *wrong).exit_code == 3, wrong
