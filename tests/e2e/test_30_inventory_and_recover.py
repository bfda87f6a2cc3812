"""What a real kube-apiserver leaves in etcd: counted, proved, held against a key that is to go, and recovered.

Secrets are under KMS v2, ConfigMaps under KMS v1, pandas under v2 as JSON. At the end the cluster and every online key
are gone, and a snapshot is read with the private key of a recovery member, by the commands that are printed.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from support.etcd_server import EtcdServer
from support.golang import built

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import parse_sealed
from .kube import Object, secret, secrets
from .plugin import Plugin, command, configuration, endpoint, local_key
from .processes import until
from .resources import GROUP, RESOURCES, define_pandas

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EACH = 12
PLAIN = 2
AGE_TOOL = Path(__file__).parents[1] / "providers/age/tool"


@dataclass
class Lab:
    """One cluster, and a key pair that is kept offline."""

    directory: Path
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    encryption: Path
    recipient: str
    identity: Path
    live: dict[str, Object] = field(default_factory=dict)
    """What the API served last, by path."""

    def keys(self) -> list[dict[str, Any]]:
        safe = {"name": "safe", "provider": "age-x25519", "recipient": self.recipient}
        return [local_key(self.directory, "a"), local_key(self.directory, "b"), safe]

    def configuration(self, epoch: int, a: str, b: str | None) -> dict[str, Any]:
        stages = {"a": a} | ({"b": b} if b else {})
        served = []
        for name, version in (("main", "v2"), ("old", "v1beta1")):
            made = endpoint(name, self.plugin.socket(name), epoch, stages, kmsVersions=[version])
            made["members"] = [*made["members"], {"key": "safe", "stage": "active", "role": "recovery"}]
            served.append(made)
        return configuration(self.plugin, self.keys(), served)

    def keystead(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command as an operator does, and check its exit code."""
        done = subprocess.run(
            [*command(), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def told(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.keystead(*arguments, "-o", "json", code=code))

    def snapshot(self, name: str) -> Path:
        return EtcdServer(self.etcd.url, self.directory).snapshot(self.directory / name)

    def encrypt(self, plain: bool = False) -> None:
        """Have the API server encrypt; `identity` last, for what is not rewritten yet."""
        last: list[dict[str, Any]] = [{"identity": {}}] if plain else []
        v2, v1 = kms("keystead", self.plugin.socket("main")), kms("keystead-v1", self.plugin.socket("old"), "v1")
        write_encryption_configuration(
            self.encryption,
            (["secrets", f"pandas.{GROUP}"], [v2, *last]),
            (["configmaps"], [v1, *last]),
        )

    def create(self, prefix: str) -> None:
        for resource in RESOURCES:
            for number in range(EACH):
                name = f"{prefix}-{number}"
                body = resource.body(name, f"{name}: yes\n")
                body["metadata"]["labels"] = {"on": "no", "n": str(number)}
                self.live[f"{resource.collection}/{name}"] = self.apiserver.kube.create(resource.collection, body)

    def stored(self) -> Counter[tuple[str, str]]:
        """Count what is in etcd by folder and by what a value begins with, past everything that is tested."""
        found: Counter[tuple[str, str]] = Counter()
        for key, value in self.etcd.reader.values().items():
            kind = "plaintext"
            if value.startswith(b"k8s:enc:"):
                kind = ":".join(value.split(b":")[i].decode() for i in (2, 3, 4))
            found[key.split("/")[2], kind] += 1
        return found


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    pyrage = pytest.importorskip("pyrage", reason="NOT TESTED: no pyrage")
    pair = pyrage.x25519.Identity.generate()
    identity = directory / "identity.txt"
    identity.write_text(f"{pair}\n")
    etcd, credentials, plugin = Etcd(binaries, directory), Credentials(directory), Plugin(directory)
    encryption = directory / "encryption.yaml"
    apiserver = ApiServer(
        binaries, directory, etcd, credentials, encryption, feature_gates=["KMSv1=true"], reload=False
    )
    lab = Lab(directory, etcd, plugin, apiserver, encryption, str(pair.to_public()), identity)
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        plugin.configure(lab.configuration(1, "active", None))
        stack.callback(plugin.kill)
        plugin.start(plugin.socket("main"))
        plugin.wait_until_ready()
        write_encryption_configuration(encryption, (["secrets"], [{"identity": {}}]))
        stack.callback(apiserver.kill)
        apiserver.start()
        for n in range(PLAIN):
            apiserver.kube.create(secrets("default"), secret(f"plain-{n}", {"text": "too early"}))
        lab.encrypt(plain=True)
        apiserver.restart()
        define_pandas(apiserver.kube)
        lab.create("one")
        yield lab


def test_the_inventory_counts_what_is_there(lab: Lab, count: Count) -> None:
    expected = lab.stored()
    assert expected["secrets", "kms:v2:keystead"] == EACH
    assert expected["secrets", "plaintext"] == PLAIN
    assert expected["configmaps", "kms:v1:keystead-v1"] >= EACH
    snapshot = lab.snapshot("first.db")
    for where in (("--etcd", lab.etcd.url), ("--snapshot", str(snapshot))):
        found = lab.told("inventory", *where)
        by_kind: Counter[str] = Counter()
        for line in found["lines"]:
            by_kind["plaintext" if line["provider"] == "PLAINTEXT" else line["provider"]] += line["objects"]
        assert by_kind == sum((Counter({kind: number}) for (_, kind), number in expected.items()), Counter[str]())
        assert found["neverEncrypted"] > 0
    count("objects", sum(expected.values()))
    held = lab.told("inventory", "--etcd", lab.etcd.url, "--encryption-config", lab.encryption, code=1)
    failing = {one["resource"]: one["objects"] for one in held["findings"] if one["fails"]}
    # The API server wrote a ConfigMap or two before it had been told to encrypt them.
    assert failing == {
        resource: number for resource in ("secrets", "configmaps") if (number := expected[resource, "plaintext"])
    }
    assert failing["secrets"] == PLAIN


def test_a_rewrite_leaves_nothing_to_find(lab: Lab) -> None:
    lab.apiserver.kubectl.migrate("secrets")
    lab.apiserver.kubectl.migrate("configmaps")
    held = lab.told("inventory", "--etcd", lab.etcd.url, "--encryption-config", lab.encryption)
    assert held["findings"] == []
    by_key = {
        (line["scheme"], line["ref"]): line
        for line in lab.told("inventory", "--etcd", lab.etcd.url, "--by", "key")["lines"]
        if line["ref"]
    }
    assert by_key.keys() == {("local", "a"), ("age-x25519", lab.recipient)}
    sealed = [
        parse_sealed(value) for value in lab.etcd.reader.values().values() if value.startswith(b"k8s:enc:kms:v2:")
    ]
    v1 = [value for value in lab.etcd.reader.values().values() if value.startswith(b"k8s:enc:kms:v1:")]
    assert by_key["local", "a"]["objects"] == len(sealed) + len(v1)
    assert by_key["local", "a"]["seeds"] == len({one.seed for one in sealed}) + len(v1)


def test_a_snapshot_is_rehearsed_with_todays_key(lab: Lab, count: Count) -> None:
    snapshot = lab.snapshot("before.db")
    lab.keystead("backup", "manifest", "--snapshot", snapshot, "--config", lab.plugin.file)
    found = lab.told("recover", "rehearse", "--snapshot", snapshot, "--keys", lab.plugin.file)
    assert found["complete"]
    count("seeds opened", sum(record["opened"] for record in found["records"]))
    assert lab.keystead("recover", "rehearse", "--snapshot", snapshot, code=3)


def test_a_key_is_free_only_when_everything_is_rewritten_and_no_backup_needs_it(lab: Lab, count: Count) -> None:
    before = lab.directory / "before.db"
    status = lab.directory / "status.json"

    def check(*more: str | Path, code: int) -> Any:
        status.write_text(lab.keystead("status", "--admin", f"unix://{lab.plugin.directory}/admin.sock", "-o", "json"))
        return lab.told("key", "retire-check", "a", "--etcd", lab.etcd.url, "--from", status, *more, code=code)

    assert check(code=4)["nodes"][0]["use"]
    lab.plugin.reload(lab.configuration(2, "active", "active"))
    until(lambda: lab.plugin.wait_for_status(lab.plugin.socket("main")).key_id.startswith("ks1.e2."), 30, "epoch 2")
    lab.plugin.reload(lab.configuration(3, "decrypt", "active"))
    until(lambda: lab.plugin.wait_for_status(lab.plugin.socket("main")).key_id.startswith("ks1.e3."), 30, "epoch 3")
    answer = check(code=4)
    needed = answer["stores"][0]["needed"]
    assert needed == answer["stores"][0]["objects"]
    lab.apiserver.restart()  # takes up the new key_id at once
    lab.create("two")
    check(code=4)
    for resource in ("secrets", "configmaps", "pandas"):
        lab.apiserver.kubectl.migrate(resource)
    # KMS v1 shows no key_id, so nothing is stale for it: what was written before stays under the old key.
    left = check(code=4)["stores"][0]["needed"]
    assert left == sum(
        value.startswith(b"k8s:enc:kms:v1:") and b"ks1.e1." in value for value in lab.etcd.reader.values().values()
    )
    write_encryption_configuration(
        lab.encryption,
        (
            ["secrets", f"pandas.{GROUP}", "configmaps"],
            [kms("keystead", lab.plugin.socket("main")), kms("keystead-v1", lab.plugin.socket("old"), "v1")],
        ),
    )
    lab.apiserver.restart()
    lab.apiserver.kubectl.migrate("configmaps")
    answer = check(code=0)
    assert answer["verdict"] == "free"
    assert check("--snapshot", before, code=4)["needs"] == [f"{before}: {needed} objects can only be opened with it"]
    count("objects that needed the key", needed)


def test_the_private_key_of_a_recovery_member_reads_everything_when_all_else_is_gone(lab: Lab, count: Count) -> None:
    back = lab.directory / "before.db"
    now = lab.snapshot("now.db")
    for path in lab.live:
        lab.live[path] = lab.apiserver.kube.get(path)
    lab.apiserver.kill()
    lab.plugin.kill()
    lab.etcd.stop()
    for name in ("a.key", "b.key"):
        (lab.directory / name).unlink()
    age = built(AGE_TOOL, "filippo.io/age/cmd/age", "age")
    for snapshot, only in ((back, "one"), (now, "")):
        out = lab.directory / f"of-{snapshot.stem}"
        printed = lab.keystead("recover", "blobs", "--snapshot", snapshot, "--out", out).splitlines()
        ways = [line.replace("IDENTITY", str(lab.identity)) for line in printed if line.startswith("age ")]
        assert ways
        for way in ways:
            subprocess.run(
                ["sh", "-c", f"umask 077; {way}"], env={"PATH": f"{age.parent}:/usr/bin:/bin"}, check=True, timeout=20
            )
        (rehearse,) = [line for line in printed if line.startswith("keystead recover rehearse")]
        lab.keystead(*shlex.split(rehearse)[1:])
        files = [word for path in sorted(out.glob("*.kek")) for word in ("--kek-file", str(path))]
        objects = out / "objects"
        lab.keystead("recover", "decrypt", "--snapshot", snapshot, *files, "--out", objects, "--i-understand")
        compared = 0
        for path, live in lab.live.items():
            name = path.rsplit("/", 1)[1]
            if not name.startswith(only):
                continue
            plural = path.split("/")[-2]
            folder = f"pandas.{GROUP}" if plural == "pandas" else plural
            recovered = YAML(typ="safe").load((objects / folder / "default" / f"{name}.yaml").read_text())
            assert _as_the_api_shows(recovered) == _as_the_api_shows(live), path
            compared += 1
        assert compared >= 3 * EACH
        count(f"objects of {snapshot.stem}", compared)


def _as_the_api_shows(found: Object) -> Object:
    """Leave out what an API server adds to what is stored."""
    metadata = {
        name: value for name, value in found["metadata"].items() if name not in ("resourceVersion", "managedFields")
    }
    return {**found, "metadata": metadata}
