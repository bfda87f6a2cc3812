"""Another KMS plugin's data behind a real kube-apiserver: taken over, rewritten, and read when its key is destroyed.

The old plugins are PEER-LIKE: they answer as the public source of each does (tests/support/peers.py). Secrets are under
KMS v2 and ConfigMaps under KMS v1 on one socket. Vault is a real OpenBao; the three clouds are the project's FAKES.
Azure's provider is in a package of its own, `keystead-azure`.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from faults.aws import Aws
from faults.gcp import Gcp
from faults.vault import KEY as TRANSIT_KEY
from faults.vault import Vault
from providers.gcp.fake import KEY as GCP_KEY
from support.peers import (
    AwsEncryptionProvider,
    K8sCloudKmsPlugin,
    KubernetesKms,
    Peer,
    VaultKubernetesKms,
    serving,
)

from .azure import Azure
from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import parse_sealed
from .kube import config_maps, content_of, secret, secrets
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until
from .remotes import keystead, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

EACH = 12
CONTEXT = {"cluster": "e2e", "team": "platform"}
V2, V1 = "old-plugin", "old-plugin-v1"
"""The names that the EncryptionConfiguration has for the old plugin, and keeps."""


@dataclass
class Take:
    """A plugin to take over."""

    peer: Peer
    key: dict[str, Any]
    """Its remote key, as an entry of `keys:`."""
    compat: dict[str, Any]
    form: bytes
    """A pattern for its ciphertexts of KMS v2."""
    destroy: Callable[[], None]
    """Have its remote key destroyed."""
    close: Callable[[], None]
    """End the remote."""
    environment: list[str] = field(default_factory=list)
    """What Keystead needs to have the provider, as for `env`."""


def aws(directory: Path) -> Take:
    remote = Aws(directory)
    peer = AwsEncryptionProvider(remote.fake, remote.key["keyID"], CONTEXT)
    compat = {"reader": "aws-encryption-provider", "encryptionContext": CONTEXT}
    return Take(peer, remote.key, compat, b"1.*", remote.fake.keys.clear, remote.stack.close)


def vault(directory: Path) -> Take:
    remote = Vault(directory)
    peer = VaultKubernetesKms(remote.bao, TRANSIT_KEY)

    def destroy() -> None:
        remote.bao.write(f"transit/keys/{TRANSIT_KEY}/config", deletion_allowed=True)
        remote.bao.call("DELETE", f"transit/keys/{TRANSIT_KEY}")

    compat = {"reader": "vault-kubernetes-kms"}
    return Take(peer, remote.key, compat, b"vault:v2:.*", destroy, remote.stack.close)


def gcp(directory: Path) -> Take:
    remote = Gcp(directory)
    peer = K8sCloudKmsPlugin(remote.kms, GCP_KEY, "blue")
    compat, form = {"reader": "k8s-cloudkms-plugin"}, b"\0\0\0\2.*"
    return Take(peer, remote.key, compat, form, remote.kms.keys.clear, remote.stack.close)


def azure(directory: Path, sdk: Literal["autorest", "azkeys"], form: bytes) -> Take:
    remote = Azure(directory)
    peer = KubernetesKms(remote.fake, remote.old_version, sdk)
    compat = {"reader": "kubernetes-kms", "keyVersion": remote.old_version}
    destroy, close = remote.fake.keys.clear, remote.stack.close
    return Take(peer, remote.key, compat, form, destroy, close, remote.environment)


TAKES: dict[str, Callable[[Path], Take]] = {
    "aws-encryption-provider": aws,
    "vault-kubernetes-kms": vault,
    "k8s-cloudkms-plugin": gcp,
    "kubernetes-kms-autorest": partial(azure, sdk="autorest", form=b"[A-Za-z0-9_-]{342}"),
    "kubernetes-kms-azkeys": partial(azure, sdk="azkeys", form=b".{256}"),
}


@dataclass
class Lab:
    directory: Path
    take: Take
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    encryption: Path
    old: ExitStack
    """Ends the old plugin."""
    live: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def socket(self) -> str:
        return self.plugin.socket("kms")

    def configure(self, *, old: bool, reading: bool) -> None:
        """Encrypt under a key of ours; have the old plugin's key as well, and read what it wrote with it."""
        key = self.take.key | ({"compat": self.take.compat} if reading else {})
        keys = [local_key(self.directory, "new"), *([key] if old else [])]
        stages = {"new": "active"} | ({key["name"]: "decrypt"} if old else {})
        made = endpoint("main", self.socket, 1, stages, kmsVersions=["v2", "v1beta1"])
        new = configuration(self.plugin, keys, [made])
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    def create(self) -> None:
        for number in range(EACH):
            name = f"one-{number:02}"
            text = {"password": f"of {name}"}
            self.apiserver.kube.create(secrets("default"), secret(name, text))
            self.live[f"{secrets('default')}/{name}"] = text
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": text}
            self.apiserver.kube.create(config_maps("default"), body)
            self.live[f"{config_maps('default')}/{name}"] = text

    def read_all(self) -> int:
        for path, text in self.live.items():
            found = self.apiserver.kube.get(path)
            assert (content_of(found) if "/secrets/" in path else found["data"]) == text, path
        assert self.apiserver.failed_transformations() == 0
        return len(self.live)

    def holders(self) -> Counter[tuple[str, bool]]:
        """Count the encrypted values by their prefix, and whether they are ours, past everything that is tested."""
        found: Counter[tuple[str, bool]] = Counter()
        for value in self.etcd.reader.values().values():
            if value.startswith(b"k8s:enc:kms:v2:"):
                sealed = parse_sealed(value)
                found[f"kms:v2:{sealed.provider}", sealed.seed.startswith(b"KSD")] += 1
            elif value.startswith(b"k8s:enc:kms:v1:"):
                name, rest = value.split(b":", 5)[4:]
                found[f"kms:v1:{name.decode()}", rest[2:].startswith(b"KS1")] += 1
        return found

    def inventory(self) -> list[dict[str, Any]]:
        done = keystead("inventory", "--etcd", self.etcd.url, "-o", "json")
        assert done.returncode == 0, done.stderr
        lines: list[dict[str, Any]] = json.loads(done.stdout)["lines"]
        return lines

    def retire_check(self) -> Any:
        status = self.directory / "status.json"
        told = keystead("status", "--admin", f"unix://{self.plugin.directory}/admin.sock", "-o", "json")
        status.write_text(told.stdout)
        done = keystead(
            "key", "retire-check", self.take.key["name"], "--etcd", self.etcd.url, "--from", status, "-o", "json"
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout) | {"code": done.returncode}


@pytest.fixture(scope="module", params=TAKES)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path, variant: str) -> Iterator[Lab]:
    with ExitStack() as stack:
        take = TAKES[variant](directory)
        stack.callback(take.close)
        with_provider = ["env", *take.environment, *program(directory)]
        plugin, etcd = Plugin(directory, program=with_provider), Etcd(binaries, directory)
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
        lab = Lab(directory, take, etcd, plugin, apiserver, encryption, stack.enter_context(ExitStack()))
        write_encryption_configuration(
            encryption,
            (["secrets"], [kms(V2, lab.socket)]),
            (["configmaps"], [kms(V1, lab.socket, "v1")]),
        )
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.kill)
        lab.old.enter_context(serving(take.peer, Path(lab.socket.removeprefix("unix://"))))
        stack.callback(apiserver.kill)
        apiserver.start()
        yield lab


def test_the_old_plugin_has_written_in_its_own_format(lab: Lab, count: Count) -> None:
    lab.create()
    found = lab.holders()
    assert found[f"kms:v2:{V2}", False] == EACH
    assert found[f"kms:v1:{V1}", False] >= EACH
    assert sum(number for (_, ours), number in found.items() if ours) == 0
    sealed = [parse_sealed(v) for v in lab.etcd.reader.values("/registry/secrets/").values()]
    assert all(re.fullmatch(lab.take.form, one.seed, re.DOTALL) for one in sealed)
    assert {frozenset(one.annotations) for one in sealed} == {frozenset(lab.take.peer.annotations())}
    assert {one.key_id for one in sealed} == {lab.take.peer.status_key_id()}
    count("objects", sum(found.values()))


def test_keystead_in_its_place_reads_nothing_of_it_unless_asked(lab: Lab) -> None:
    lab.old.close()
    lab.configure(old=True, reading=False)
    lab.plugin.start(lab.socket)
    lab.apiserver.kill()
    lab.apiserver.start(ready="")
    until(lambda: lab.plugin.calls("v2/Decrypt", "INVALID_ARGUMENT") > 0, 60, "a Decrypt is refused")
    lab.apiserver.kill()


def test_keystead_in_its_place_reads_everything(lab: Lab, count: Count) -> None:
    lab.configure(old=True, reading=True)
    assert lab.plugin.events("key.compat")[-1]["reads"] == lab.take.compat["reader"]
    lab.apiserver.start()
    count("read", lab.read_all())
    seeds = {parse_sealed(value).seed for value in lab.etcd.reader.values("/registry/secrets/").values()}
    reads = lab.plugin.metric(
        "keystead_provider_request_duration_seconds_count", key=lab.take.key["name"], operation="read", result="OK"
    )
    assert reads >= len(seeds) + EACH, "every DEK of v1 is a call"
    count("calls of the remote to read", reads)
    assert lab.plugin.wait_for_status(lab.socket).key_id.startswith("ks1.e1.")
    answer = lab.retire_check()
    assert (answer["code"], answer["verdict"]) == (3, "unknown")
    assert any(f"reads what {lab.take.compat['reader']} wrote" in doubt for doubt in answer["doubts"])


def test_everything_is_stale_and_is_rewritten(lab: Lab, count: Count) -> None:
    begin = time.monotonic()
    lab.apiserver.kubectl.migrate("secrets")
    # KMS v1 shows no key_id, so nothing is stale for it while its entry comes first.
    write_encryption_configuration(
        lab.encryption, (["secrets", "configmaps"], [kms(V2, lab.socket), kms(V1, lab.socket, "v1")])
    )
    lab.apiserver.restart()
    lab.apiserver.kubectl.migrate("configmaps")
    found = lab.holders()
    assert found.keys() == {(f"kms:v2:{V2}", True)}
    assert found[f"kms:v2:{V2}", True] >= 2 * EACH
    lines = [line for line in lab.inventory() if line["provider"].startswith("kms:")]
    assert {line["provider"] for line in lines} == {f"kms:v2:{V2}"}
    assert all(line["keyID"].startswith("ks1.e1.") for line in lines)
    assert sum(line["objects"] for line in lines) == sum(found.values())
    count("seconds to rewrite", round(time.monotonic() - begin, 1))
    assert lab.retire_check()["verdict"] == "free"


def test_the_old_plugins_key_is_taken_away_and_destroyed_and_everything_reads(lab: Lab, count: Count) -> None:
    write_encryption_configuration(lab.encryption, (["secrets", "configmaps"], [kms(V2, lab.socket)]))
    lab.configure(old=False, reading=False)
    witness = lab.take.peer.encrypt(bytes(32))
    lab.take.destroy()
    with pytest.raises(Exception):  # noqa: B017  # each remote has an error of its own
        lab.take.peer.decrypt(*witness)
    lab.apiserver.kill()
    lab.plugin.stop()
    lab.plugin.start(lab.socket)
    lab.apiserver.start()
    count("read", lab.read_all())
