"""Secrets under KMS v2 survive restarts, a killed plugin, a new epoch, and the destruction of a replaced key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import Sealed, parse_sealed, readable_in
from .kube import config_maps, content_of, secret, secrets
from .plugin import CallFailed, Plugin, configuration, decrypt, endpoint, local_key
from .processes import until
from .traffic import Contents, Traffic

pytestmark = pytest.mark.e2e

PROVIDER = "keystead-lab"
NAMESPACES = ("default", "team-a")
SECRETS = 200
LATER = 10
"""Secrets that are created after each change of key_id."""
KILLS = 6


@dataclass
class Lab:
    """One cluster with one plugin, and what the steps so far have put into it."""

    directory: Path
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    socket: str
    key_id: str
    """What Status advertised last."""
    contents: Contents = field(default_factory=dict)
    markers: dict[str, str] = field(default_factory=dict)
    """A text for each Secret, by path, that must not be readable in etcd."""
    under_old_key: list[Sealed] = field(default_factory=list)
    """What was in etcd just before the migration."""

    def configure(self, epoch: int, members: dict[str, str]) -> None:
        """Edit the plugin's configuration file and, if the plugin runs, have it reloaded."""
        keys = [local_key(self.directory, name) for name in members]
        new = configuration(self.plugin, keys, [endpoint("main", self.socket, epoch, members)])
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    def create(self, name: str, namespace: str = "default") -> str:
        """Create a Secret with a content of its own and return its path."""
        path, marker = f"{secrets(namespace)}/{name}", f"this must stay secret: {namespace} {name}"
        content = {"password": marker, "user": name}
        self.apiserver.kube.create(secrets(namespace), secret(name, content))
        self.contents[path], self.markers[path] = content, marker
        return path

    def read_all(self) -> int:
        """GET every Secret, compare it, and return how many there were."""
        for path, content in self.contents.items():
            assert content_of(self.apiserver.kube.get(path)) == content, path
        return len(self.contents)

    def sealed(self) -> list[Sealed]:
        """Return every Secret as it is in etcd."""
        values = self.etcd.reader.values("/registry/secrets/")
        assert len(values) == len(self.contents)
        return [parse_sealed(value) for value in values.values()]

    def move_to_new_key_id(self) -> float:
        """Wait for a new key_id in Status and for the apiserver to encrypt under it; return the seconds it took."""
        start = time.monotonic()
        self.key_id = self.plugin.wait_for_status(self.socket, other_than=self.key_id).key_id
        path = self.create(f"first-under-{self.key_id}")
        until(lambda: self._is_rewritten(path), 60, f"the apiserver encrypts under {self.key_id}")
        seconds = time.monotonic() - start
        for number in range(LATER):
            self.create(f"under-{self.key_id}-{number}")
        return round(seconds, 1)

    def _is_rewritten(self, path: str) -> bool:
        """Write a Secret again, and look whether it is under the new key_id now."""
        self.apiserver.is_healthy()
        self.contents[path]["written"] = str(time.monotonic())
        name = path.rsplit("/", 1)[1]
        self.apiserver.kube.replace(path, secret(name, self.contents[path]))
        (value,) = self.etcd.reader.values(f"/registry/secrets/default/{name}").values()
        return parse_sealed(value).key_id == self.key_id


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory), Etcd(binaries, directory)
    socket = plugin.socket()
    write_encryption_configuration(encryption, (["secrets"], [kms(PROVIDER, socket)]))
    apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    lab = Lab(directory, etcd, plugin, apiserver, socket, key_id="")
    lab.configure(epoch=1, members={"lab": "active"})
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        lab.key_id = plugin.wait_for_status(socket).key_id
        stack.callback(apiserver.kill)
        apiserver.start()
        yield lab


def test_two_hundred_secrets_are_created(lab: Lab, count: Count) -> None:
    lab.apiserver.kubectl("create", "namespace", "team-a")
    for number in range(SECRETS):
        lab.create(f"s-{number:03}", NAMESPACES[number % 2])
    assert len(lab.contents) == SECRETS
    count("created", len(lab.contents))


def test_each_is_encrypted_in_etcd_and_none_can_be_read_there(lab: Lab, count: Count) -> None:
    raw = lab.etcd.reader.values("/registry/secrets/")
    assert len(raw) == SECRETS
    assert all(value.startswith(f"k8s:enc:kms:v2:{PROVIDER}:".encode()) for value in raw.values())
    sealed = lab.sealed()
    assert _key_ids(sealed) == {lab.key_id}
    assert all(value.record.cluster == "e2e" for value in sealed)

    everything = lab.etcd.reader.values().values()
    assert sum(readable_in(everything, marker) for marker in lab.markers.values()) == 0
    count("encrypted values", len(raw))
    count("seeds", _seeds(sealed))
    count("markers searched for", len(lab.markers))
    count("values searched", len(everything))


def test_the_search_finds_what_is_not_encrypted(lab: Lab, count: Count) -> None:
    marker = "this may be read by anybody"
    (in_base64,) = secret("any", {"key": f"..{marker}.."})["data"].values()
    for name, text in (("plain", marker), ("base64", in_base64)):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}
        lab.apiserver.kube.create(config_maps("default"), body)
    found = readable_in(lab.etcd.reader.values().values(), marker)
    assert found == 2
    count("found", found)


def test_each_reads_back_as_it_was_written(lab: Lab, count: Count) -> None:
    count("read", lab.read_all())


def test_a_restarted_apiserver_reads_all_after_one_decrypt_per_seed(lab: Lab, count: Count) -> None:
    seeds = _seeds(lab.sealed())
    lab.apiserver.restart()
    count("read", lab.read_all())
    decrypts = lab.apiserver.kms_calls("Decrypt")
    # From 1.37 on ten workers fill the watch cache, and each asks for itself.
    assert seeds <= decrypts <= 10 * seeds
    count("Decrypts", decrypts)


def test_no_call_fails_while_the_plugin_is_killed_six_times(lab: Lab, count: Count) -> None:
    with Traffic(lab.apiserver.kube, lab.contents) as traffic:
        for _ in range(KILLS):
            lab.plugin.kill()
            lab.plugin.start(lab.socket)
            assert lab.plugin.wait_for_status(lab.socket).key_id == lab.key_id
            traffic.goes_on()
    count("kills", KILLS)
    count("reads", traffic.reads)
    count("writes", traffic.writes)
    assert not traffic.failures, traffic.failures[:5]
    assert lab.apiserver.failed_transformations() == 0
    calls = lab.apiserver.kms_calls("Status")
    until(lambda: lab.apiserver.is_healthy() and lab.apiserver.kms_calls("Status") > calls, 60, "a Status call")


def test_a_new_epoch_gives_a_new_key_id_and_old_secrets_stay_readable(lab: Lab, count: Count) -> None:
    old = lab.key_id
    lab.configure(epoch=2, members={"lab": "active"})
    count("seconds to the new seed", lab.move_to_new_key_id())
    assert _key_ids(lab.sealed()) == {old, lab.key_id}
    lab.apiserver.restart()
    count("read", lab.read_all())


def test_a_second_key_for_decryption_does_not_change_the_key_id(lab: Lab) -> None:
    lab.configure(epoch=2, members={"lab": "active", "lab2": "decrypt"})
    assert lab.plugin.wait_for_status(lab.socket).key_id == lab.key_id
    assert _refs(lab.sealed()) == {"lab"}


def test_once_active_the_second_key_protects_new_secrets(lab: Lab, count: Count) -> None:
    assert _refs(lab.sealed()) == {"lab"}
    lab.configure(epoch=3, members={"lab2": "active", "lab": "decrypt"})
    count("seconds to the new seed", lab.move_to_new_key_id())
    lab.apiserver.restart()
    count("read", lab.read_all())
    lab.under_old_key = [value for value in lab.sealed() if _refs([value]) == {"lab"}]
    assert len(lab.under_old_key) >= SECRETS
    count("under the old key", len(lab.under_old_key))
    count("key_ids", len(_key_ids(lab.sealed())))


def test_migration_leaves_nothing_under_the_old_key(lab: Lab, count: Count) -> None:
    migrated = lab.apiserver.kubectl.migrate("secrets")
    assert migrated == len(lab.contents)
    sealed = lab.sealed()
    assert _key_ids(sealed) == {lab.key_id}
    assert _refs(sealed) == {"lab2"}
    count("migrated", migrated)
    count("seeds", _seeds(sealed))


def test_all_is_readable_after_the_old_key_is_destroyed(lab: Lab, count: Count) -> None:
    lab.configure(epoch=3, members={"lab2": "active"})
    (lab.directory / "lab.key").unlink()
    lab.plugin.stop()
    lab.plugin.start(lab.socket)
    assert lab.plugin.wait_for_status(lab.socket).key_id == lab.key_id
    lab.apiserver.restart()
    lab.create("after-the-destruction")
    count("read", lab.read_all())
    count("Decrypts", lab.apiserver.kms_calls("Decrypt"))
    assert lab.apiserver.failed_transformations() == 0


def test_what_was_under_the_destroyed_key_cannot_be_decrypted_any_more(lab: Lab, count: Count) -> None:
    for value in lab.under_old_key:
        with pytest.raises(CallFailed) as failed:
            decrypt(lab.socket, value)
        assert failed.value.code == grpc.StatusCode.FAILED_PRECONDITION
    count("refused", len(lab.under_old_key))


def _key_ids(sealed: list[Sealed]) -> set[str]:
    return {value.key_id for value in sealed}


def _seeds(sealed: list[Sealed]) -> int:
    """Count the different seeds, each of which costs one Decrypt after a restart."""
    return len({value.seed for value in sealed})


def _refs(sealed: list[Sealed]) -> set[str]:
    """Name the remote keys that the records name; the provider `local` knows a key by its name."""
    return {wrap.ref for value in sealed for wrap in value.record.wraps}
