"""AWS, Vault, Google and a key file behind one process: any one of the keys of a Secret reads it, the offline one too.

AWS and Google are the project's FAKES over real connections to their own SDKs; Vault is a real OpenBao.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from faults.aws import Aws
from faults.gcp import Gcp
from faults.remotes import RemoteOnALine
from faults.vault import Vault
from support.etcd_server import EtcdServer

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import readable_in
from .kube import config_maps, content_of
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until
from .remotes import RecoveryKey, keystead, program, schemes
from .stored import Stored, put_unchanged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

EACH = 40
"""Secrets under each of two local KEKs."""
MAPS = 20
ACTIVE = {"aws-kms", "vault-transit", "age-x25519"}
"""What each Secret is under: two remotes, of which either unwraps, and the recovery key."""


@dataclass
class Lab:
    """The cluster, and the remotes by the names of their keys."""

    directory: Path
    etcd: Etcd
    plugin: Plugin
    sockets: dict[str, str]
    apiserver: ApiServer
    stored: Stored
    maps: dict[str, str]
    aws: Aws
    vault: Vault
    gcp: Gcp
    safe: RecoveryKey

    def configure(self, epoch: int) -> None:
        """Serve Secrets under AWS or Vault, and ConfigMaps under Google or a key file."""
        remotes: list[RemoteOnALine] = [self.aws, self.vault, self.gcp]
        keys = [*(remote.key for remote in remotes), local_key(self.directory, "lab"), self.safe.entry("safe")]
        secrets = endpoint("secrets", self.sockets["secrets"], epoch, {"aws-kms": "active", "vault-transit": "active"})
        secrets["members"] += [{"key": "gcp-kms", "stage": "decrypt"}, {"key": "lab", "stage": "decrypt"}]
        secrets["members"] += [{"key": "safe", "stage": "active", "role": "recovery"}]
        maps = endpoint("maps", self.sockets["maps"], 1, {"gcp-kms": "active", "lab": "active"})
        new = configuration(self.plugin, keys, [secrets, maps])
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    def restart_all(self, count: Count) -> None:
        """Stop plugin and apiserver, and start both anew: nothing that was in memory is left."""
        self.apiserver.kill()
        self.plugin.stop()
        start = time.monotonic()
        self.plugin.start(*self.sockets.values())
        count("seconds to a good Status", round(time.monotonic() - start, 1))
        self.apiserver.start()
        count("seconds to readyz", round(time.monotonic() - start, 1))

    def read_all(self, count: Count) -> None:
        """GET everything, and compare it."""
        count("Secrets read", self.stored.read_all(self.apiserver.kube))
        for path, text in self.maps.items():
            assert self.apiserver.kube.get(path)["data"] == {"text": text}
        count("ConfigMaps read", len(self.maps))
        assert self.apiserver.failed_transformations() == 0
        count("Decrypts", self.apiserver.kms_calls("Decrypt"))

    def without(self, gone: RemoteOnALine, there: RemoteOnALine, count: Count) -> None:
        """With nobody at one remote's address, restart, read and write everything through the other."""
        before = self.plugin.wait_for_status(self.sockets["secrets"]).key_id
        with gone.line.refusing():
            asked, answered = gone.unwraps(), there.unwraps()
            self.restart_all(count)
            self.read_all(count)
            self.stored.create(self.apiserver.kube, f"without-{gone.name}", 5)
            status = self.plugin.wait_for_status(self.sockets["secrets"])
            assert (status.healthz, status.key_id) == ("ok", before)
            assert self.apiserver.is_healthy()
            assert gone.unwraps() == asked
            unwraps = there.unwraps() - answered
            assert unwraps >= self.stored.records()
            count(f"unwraps by {there.name}", unwraps)
            assert self.plugin.metric("keystead_key_open", endpoint="secrets", key=gone.name) == 0
            assert self.plugin.metric("keystead_key_open", endpoint="secrets", key=there.name) == 1
        until(
            lambda: self.plugin.metric("keystead_key_open", endpoint="secrets", key=gone.name) == 1,
            30,
            f"{gone.name} is open again",
        )


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        safe = RecoveryKey.create(directory)
        aws, vault, gcp = Aws(directory), Vault(directory), Gcp(directory)
        for remote in (aws, vault, gcp):
            stack.callback(remote.stack.close)
        plugin, etcd = Plugin(directory, program=program(directory)), Etcd(binaries, directory)
        sockets = {name: plugin.socket(name) for name in ("secrets", "maps")}
        encryption = directory / "encryption.yaml"
        write_encryption_configuration(
            encryption,
            (["secrets"], [kms("keystead-secrets", sockets["secrets"])]),
            (["configmaps"], [kms("keystead-maps", sockets["maps"])]),
        )
        apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
        lab = Lab(
            directory,
            etcd,
            plugin,
            sockets,
            apiserver,
            Stored(etcd.reader),
            {},
            aws=aws,
            vault=vault,
            gcp=gcp,
            safe=safe,
        )
        lab.configure(epoch=1)
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(*sockets.values())
        stack.callback(apiserver.kill)
        apiserver.start()
        yield lab


def test_one_process_wraps_the_keys_of_two_resources_with_all_its_providers(lab: Lab, count: Count) -> None:
    lab.stored.create(lab.apiserver.kube, "epoch-1", EACH)
    for number in range(MAPS):
        name, text = f"map-{number:02}", f"this is in a ConfigMap: {number}"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}
        lab.apiserver.kube.create(config_maps("default"), body)
        lab.maps[f"{config_maps('default')}/{name}"] = text
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset(ACTIVE)}
    assert schemes(lab.etcd.reader, "/registry/configmaps/") == {frozenset({"gcp-kms", "local"})}
    values = lab.etcd.reader.values().values()
    markers = [content["password"] for content in lab.stored.contents.values()] + list(lab.maps.values())
    assert sum(readable_in(values, marker) for marker in markers) == 0
    count("Secrets", len(lab.stored.contents))
    count("ConfigMaps", len(lab.maps))
    count("values searched", len(values))


def test_a_second_local_kek_is_under_the_same_keys(lab: Lab, count: Count) -> None:
    old = lab.plugin.wait_for_status(lab.sockets["secrets"]).key_id
    lab.configure(epoch=2)
    new = lab.plugin.wait_for_status(lab.sockets["secrets"], other_than=old).key_id
    (path,) = lab.stored.create(lab.apiserver.kube, "first-of-epoch-2")

    def written() -> bool:
        lab.apiserver.is_healthy()
        put_unchanged(lab.apiserver.kube, path)
        return lab.stored.sealed()[path].key_id == new

    until(written, 60, "the apiserver encrypts under the new key_id")
    lab.stored.create(lab.apiserver.kube, "epoch-2", EACH)
    assert lab.stored.records() == 2
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset(ACTIVE)}
    count("local KEKs of Secrets", lab.stored.records())


def test_with_all_remotes_a_restart_reads_everything(lab: Lab, count: Count) -> None:
    lab.restart_all(count)
    lab.read_all(count)


def test_with_aws_stopped_all_is_readable_through_vault_alone(lab: Lab, count: Count) -> None:
    lab.without(lab.aws, lab.vault, count)


def test_with_vault_stopped_all_is_readable_through_aws_alone(lab: Lab, count: Count) -> None:
    lab.without(lab.vault, lab.aws, count)


def test_with_every_remote_gone_the_recovery_key_and_a_backup_bring_all_secrets_back(lab: Lab, count: Count) -> None:
    records = lab.stored.records()
    snapshot = EtcdServer(lab.etcd.url, lab.directory / "etcd").snapshot(lab.directory / "backup.db")
    lab.apiserver.kill()
    lab.plugin.stop()
    lab.etcd.stop()
    with lab.aws.line.refusing(), lab.vault.line.refusing(), lab.gcp.line.refusing():
        blobs, out = lab.directory / "blobs", lab.directory / "recovered"
        asked = [remote.requests() for remote in (lab.aws, lab.vault, lab.gcp)]
        done = keystead("recover", "blobs", "--snapshot", snapshot, "--out", blobs)
        assert done.returncode == 0, done.stderr
        ours = sorted(blobs.glob("*.age-x25519.blob"))
        assert len(ours) == records
        keks = [lab.safe.open(blob, blob.with_suffix(".kek")) for blob in ours]
        by_hand = [part for kek in keks for part in ("--kek-file", str(kek))]
        only = ["--resource", "secrets"]
        done = keystead("recover", "decrypt", "--snapshot", snapshot, *by_hand, *only, "--out", out, "--i-understand")
        assert done.returncode == 0, done.stdout + done.stderr
        assert [remote.requests() for remote in (lab.aws, lab.vault, lab.gcp)] == asked
    recovered = 0
    for path, content in lab.stored.contents.items():
        file = out / "secrets/default" / f"{Path(path).name}.yaml"
        assert content_of(YAML(typ="safe").load(file)) == content
        recovered += 1
    assert recovered == len(list(out.rglob("*.yaml")))
    count("local KEKs opened with the recovery key", len(keks))
    count("Secrets recovered", recovered)
