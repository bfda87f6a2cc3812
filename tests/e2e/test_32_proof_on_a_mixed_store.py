"""Everything that can be in an etcd at once: counted twice, and recovered in three ways when all else is gone.

Under KMS v2 and v1 by Keystead with two keys, under another KMS plugin, under a static key, and plaintext. Vault is a
real OpenBao; the other plugin is PEER-LIKE (tests/support/peers.py) in front of the same server.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from faults.vault import Vault
from providers.vault.bao import binary
from support.etcd_server import EtcdServer
from support.peers import VaultKubernetesKms, serving

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import parse_sealed
from .kube import Object, secret, secrets
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until
from .remotes import RecoveryKey, keystead, program
from .resources import GROUP, RESOURCES, define_pandas

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

EACH = 10
PLAIN = 3
OURS = ("secrets", "configmaps")
STATIC = {"secretbox": {"keys": [{"name": "k1", "secret": base64.b64encode(bytes(range(32))).decode()}]}}

Table = Counter[tuple[str, str]]
"""Objects by the provider that encrypted them, and the key_id beside them."""


@dataclass
class Lab:
    directory: Path
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    encryption: Path
    vault: Vault
    safe: RecoveryKey
    live: dict[str, Object] = field(default_factory=dict)

    def configuration(self, epoch: int, stages: dict[str, str]) -> dict[str, Any]:
        keys = [self.vault.key, local_key(self.directory, "lab"), self.safe.entry("safe")]
        served = []
        for name, version in (("main", "v2"), ("old", "v1beta1")):
            made = endpoint(name, self.plugin.socket(name), epoch, stages, kmsVersions=[version])
            made["members"] = [*made["members"], {"key": "safe", "stage": "active", "role": "recovery"}]
            served.append(made)
        return configuration(self.plugin, keys, served)

    def create(self, prefix: str) -> None:
        for resource in RESOURCES:
            for number in range(EACH):
                name = f"{prefix}-{number}"
                made = self.apiserver.kube.create(resource.collection, resource.body(name, f"{name}: yes\n"))
                self.live[f"{resource.collection}/{name}"] = made

    def server(self) -> EtcdServer:
        return EtcdServer(self.etcd.url, self.directory / "etcd")

    def counted(self) -> tuple[Table, dict[tuple[str, str], int]]:
        """Objects and seeds by what a value says of itself, read past everything that is tested."""
        objects: Table = Counter()
        seeds: dict[tuple[str, str], set[bytes]] = {}
        for value in self.etcd.reader.values().values():
            if not value.startswith(b"k8s:enc:"):
                objects["PLAINTEXT", ""] += 1
                continue
            kind, version, name = (part.decode() for part in value.split(b":", 5)[2:5])
            key_id, seed = "", b""
            if version == "v2":
                sealed = parse_sealed(value)
                key_id, seed = sealed.key_id, sealed.seed
            elif kind == "kms":
                source = value.split(b":", 5)[5]
                cipher = source[2 : 2 + int.from_bytes(source[:2])]
                key_id, seed = cipher[5 : 5 + cipher[4]].decode(), cipher
            provider = f"kms:{version}:{name}" if kind == "kms" else f"{kind}:{name}"
            objects[provider, key_id] += 1
            if seed:
                seeds.setdefault((provider, key_id), set()).add(seed)
        return objects, {holder: len(found) for holder, found in seeds.items()}

    def agree(self, name: str) -> Table:
        """The inventory says so too, live and from a snapshot; return the count."""
        objects, seeds = self.counted()
        snapshot = self.server().snapshot(self.directory / f"{name}.db")
        for where in (("--etcd", self.etcd.url), ("--snapshot", snapshot)):
            done = keystead("inventory", *where, "-o", "json")
            assert done.returncode == 0, done.stderr
            told: Table = Counter()
            told_seeds: Counter[tuple[str, str]] = Counter()
            for line in json.loads(done.stdout)["lines"]:
                holder = (line["provider"], line["keyID"] or "")
                told[holder] += line["objects"]
                told_seeds[holder] += line["seeds"]
            assert told == objects
            assert {holder: told_seeds[holder] for holder in seeds} == seeds
        return objects


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        safe, vault = RecoveryKey.create(directory), Vault(directory)
        stack.callback(vault.stack.close)
        etcd, plugin = Etcd(binaries, directory), Plugin(directory, program=program(directory))
        encryption = directory / "encryption.yaml"
        apiserver = ApiServer(
            binaries,
            directory,
            etcd,
            Credentials(directory),
            encryption,
            feature_gates=["KMSv1=true"],
            reload=False,
        )
        lab = Lab(directory, etcd, plugin, apiserver, encryption, vault, safe)
        stack.callback(etcd.stop)
        etcd.start()
        plugin.configure(lab.configuration(1, {"vault-transit": "active"}))
        stack.callback(plugin.kill)
        plugin.start(plugin.socket("main"))
        plugin.wait_until_ready()
        theirs = directory / "theirs.sock"
        stack.enter_context(serving(VaultKubernetesKms(vault.bao, vault.bao.key("theirs")), theirs))
        write_encryption_configuration(encryption, (["secrets"], [{"identity": {}}]))
        stack.callback(apiserver.kill)
        apiserver.start()
        for n in range(PLAIN):
            apiserver.kube.create(secrets("default"), secret(f"plain-{n}", {"text": "too early"}))
        identity: dict[str, Any] = {"identity": {}}
        write_encryption_configuration(
            encryption,
            (["secrets"], [kms("keystead", plugin.socket("main")), identity]),
            (["configmaps"], [kms("keystead-v1", plugin.socket("old"), "v1"), identity]),
            ([f"pandas.{GROUP}"], [kms("theirs", f"unix://{theirs}")]),
            (["serviceaccounts"], [STATIC, identity]),
        )
        apiserver.restart()
        yield lab


def test_the_inventory_of_everything_at_once_is_right(lab: Lab, count: Count) -> None:
    define_pandas(lab.apiserver.kube)
    lab.create("one")
    for number in range(4):
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"robot-{number}"}}
        lab.apiserver.kube.create("/api/v1/namespaces/default/serviceaccounts", body)
    lab.plugin.reload(lab.configuration(2, {"vault-transit": "active", "lab": "active"}))
    socket = lab.plugin.socket("main")
    until(lambda: lab.plugin.wait_for_status(socket).key_id.startswith("ks1.e2."), 30, "epoch 2")
    lab.apiserver.restart()  # takes up the new key_id at once
    lab.create("two")
    found = lab.agree("first")
    providers = Counter({provider: 0 for provider, _ in found})
    for (provider, _), number in found.items():
        providers[provider] += number
    assert providers["kms:v2:keystead"] == 2 * EACH
    assert providers["kms:v1:keystead-v1"] >= 2 * EACH
    assert providers["kms:v2:theirs"] == 2 * EACH
    assert providers["secretbox:k1"] >= 4
    assert providers["PLAINTEXT"] > PLAIN
    assert len([key_id for provider, key_id in found if provider == "kms:v2:keystead"]) == 2, "under two keys"
    count("objects", sum(found.values()))
    count("holders", len(found))


def test_it_stays_right_through_what_an_etcd_goes_through(lab: Lab, count: Count) -> None:
    kube = lab.apiserver.kube
    for path in [path for path in lab.live if path.endswith(("-1", "-2"))]:
        kube.call("DELETE", path)
        del lab.live[path]
    count("objects after deletions", sum(lab.agree("deleted").values()))
    for path in [path for path in lab.live if path.endswith(("-3", "-4", "-5"))]:
        body = kube.get(path)
        body["metadata"]["labels"] = {"changed": "twice"}
        kube.replace(path, body)
        body = kube.get(path)
        body["metadata"]["labels"] = {"changed": "thrice"}
        lab.live[path] = kube.replace(path, body)
    count("objects after overwrites", sum(lab.agree("overwritten").values()))
    server = lab.server()
    revision = server.revision()
    server.compact(revision)
    before = lab.agree("compacted")
    server.defragment()
    after = lab.agree("defragmented")
    assert before == after
    sizes = [(lab.directory / f"{name}.db").stat().st_size for name in ("overwritten", "defragmented")]
    count("revision compacted at", revision)
    count("bytes of the snapshot before and after defragmentation", sizes)


def test_a_vault_key_alone_brings_every_object_back(lab: Lab, count: Count) -> None:
    for path in list(lab.live):
        if "/pandas/" in path:
            del lab.live[path]
        else:
            lab.live[path] = lab.apiserver.kube.get(path)
    lab.server().snapshot(lab.directory / "last.db")
    lab.apiserver.kill()
    lab.plugin.kill()
    lab.etcd.stop()
    shutil.rmtree(lab.plugin.directory)
    (lab.directory / "lab.key").unlink()
    only = lab.directory / "key.json"
    only.write_text(json.dumps([lab.vault.key]))
    given = ["--keys", str(only)]
    done = keystead("recover", "rehearse", "--snapshot", lab.directory / "last.db", *given, "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    count("seeds opened", sum(record["opened"] for record in json.loads(done.stdout)["records"]))
    count("objects recovered", _recover(lab, "vault", *given))


def test_the_32_bytes_that_a_printed_command_writes_bring_every_object_back(lab: Lab, count: Count) -> None:
    blobs = lab.directory / "by-bao"
    done = keystead("recover", "blobs", "--snapshot", lab.directory / "last.db", "--out", blobs)
    ways = [line for line in done.stdout.splitlines() if line.startswith(("bao ", "vault "))]
    assert ways, done.stdout
    environment = {"BAO_ADDR": lab.vault.bao.address, "BAO_TOKEN": lab.vault.bao.token, "HOME": str(lab.directory)}
    path = f"{Path(binary()).parent}:{os.environ['PATH']}"
    for way in ways:
        subprocess.run(["sh", "-c", f"umask 077; {way}"], env={**environment, "PATH": path}, check=True, timeout=60)
    keks = sorted(blobs.glob("*.kek"))
    assert [kek.stat().st_size for kek in keks] == [32] * len(ways)
    count("local KEKs unwrapped by bao", len(keks))
    count("objects recovered", _recover(lab, "pasted", *(part for kek in keks for part in ("--kek-file", str(kek)))))


def test_the_recovery_key_alone_brings_every_object_back(lab: Lab, count: Count) -> None:
    blobs = lab.directory / "by-age"
    with lab.vault.line.refusing():
        keystead("recover", "blobs", "--snapshot", lab.directory / "last.db", "--out", blobs)
        keks = [lab.safe.open(blob, blob.with_suffix(".kek")) for blob in sorted(blobs.glob("*.age-x25519.blob"))]
        count("local KEKs opened", len(keks))
        files = [part for kek in keks for part in ("--kek-file", str(kek))]
        count("objects recovered", _recover(lab, "safe", *files))


def _recover(lab: Lab, name: str, *key: str) -> int:
    """Write all of ours to files, and compare every one with what the API showed last."""
    out = lab.directory / f"recovered-{name}"
    only = [part for resource in OURS for part in ("--resource", resource)]
    done = keystead(
        "recover", "decrypt", "--snapshot", lab.directory / "last.db", *key, *only, "--out", out, "--i-understand"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    compared = 0
    for path, live in lab.live.items():
        resource, thing = path.split("/")[-2:]
        file = out / resource / "default" / f"{thing}.yaml"
        assert file.stat().st_mode & 0o777 == 0o600
        assert _as_the_api_shows(YAML(typ="safe").load(file.read_text())) == _as_the_api_shows(live), path
        compared += 1
    assert compared == 2 * 2 * (EACH - 2)
    return compared


def _as_the_api_shows(found: Object) -> Object:
    """Leave out what an API server adds to what is stored."""
    metadata = {
        name: value for name, value in found["metadata"].items() if name not in ("resourceVersion", "managedFields")
    }
    return {**found, "metadata": metadata}
