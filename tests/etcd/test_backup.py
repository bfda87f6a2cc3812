"""`keystead backup manifest`: beside a snapshot, and of a node."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from etcd.given import Save, secret_key
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, StateFile, Wrap
from keystead.cli import main
from support.sealed import LocalKek, Seed, store_foreign

LAB = Wrap("local", "lab", "1", ROLE_ONLINE, b"blob")
SAFE = Wrap("age-x25519", "age1safe", "", ROLE_RECOVERY, b"blob")
WRAPS: list[dict[str, Any]] = [
    {"scheme": "age-x25519", "ref": "age1safe", "version": None, "role": "recovery"},
    {"scheme": "local", "ref": "lab", "version": "1", "role": "online"},
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["backup", "manifest", *map(str, arguments)])


def configuration(directory: Path) -> Path:
    path = directory / "config.yaml"
    path.write_text(
        "apiVersion: config.keystead.dev/v1alpha1\nkind: KeysteadConfiguration\ncluster: prod\n"
        f"stateDir: {directory}/state\nkeys:\n- {{name: lab, provider: local, keyFile: {directory}/lab.key}}\n"
        "endpoints:\n- name: main\n  socket: unix:///run/keystead/kms.sock\n  epoch: 1\n"
        "  members:\n  - {key: lab, stage: active}\n"
    )
    return path


def test_a_manifest_names_every_key_that_the_snapshot_needs(save: Save, tmp_path: Path) -> None:
    kek = LocalKek(LAB, SAFE)
    snapshot = save({secret_key("a"): Seed(kek).store(secret_key("a"), b"{}"), secret_key("f"): store_foreign()})
    config = configuration(tmp_path)
    (tmp_path / "state/main").mkdir(parents=True)
    (tmp_path / "state/main/current").write_bytes(StateFile(kek.key_id, kek.record).encoded)
    result = run("--config", config, "--snapshot", snapshot)
    assert result.exit_code == 0, result.output
    body: dict[str, Any] = json.loads(result.stdout)
    assert (body["apiVersion"], body["kind"], body["cluster"]) == (
        "backup.keystead.dev/v1alpha1",
        "BackupManifest",
        "prod",
    )
    assert body["configDigest"] == f"sha256:{hashlib.sha256(config.read_bytes()).hexdigest()}"
    hashed = f"sha256:{hashlib.sha256(kek.key_id.encode()).hexdigest()}"
    (endpoint,) = body["endpoints"]
    assert (endpoint["keyID"], endpoint["keyIDHash"], endpoint["wraps"]) == (kek.key_id, hashed, WRAPS)
    assert body["snapshot"]["sha256"] == hashlib.sha256(snapshot.read_bytes()).hexdigest()
    assert body["snapshot"]["keys"] == [{**wrap, "objects": 1} for wrap in WRAPS]
    assert body["snapshot"]["keyIDs"] == [{"keyID": kek.key_id, "keyIDHash": hashed, "objects": 1}]
    assert body["snapshot"]["notKeystead"] == {"kms:v2:other": 1}


def test_what_cannot_be_read_is_said_and_the_rest_is_printed(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    result = run("--config", config)
    assert result.exit_code == 3
    assert json.loads(result.stdout)["endpoints"][0]["keyID"] is None
    assert "endpoint main:" in result.stderr
    (tmp_path / "state/main").mkdir(parents=True)
    (tmp_path / "state/main/current").write_bytes(b"KSS\x02")
    assert "or one of a newer format" in run("--config", config).stderr
    assert run().exit_code == 2
    assert run("--config", tmp_path / "none").exit_code == 2
    assert run("--snapshot", tmp_path / "none").exit_code == 3
