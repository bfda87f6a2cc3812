"""A cluster moves from Vault to AWS behind one socket, and Vault is stopped for good: its apiserver never restarts.

Vault is a real OpenBao; AWS is the project's FAKE over real connections to its own SDK.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.aws import Aws
from faults.vault import Vault

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .plugin import Plugin, configuration, endpoint
from .processes import until
from .remotes import keystead, program, schemes
from .stored import Stored, put_unchanged

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

SECRETS = 100
LATER = 5
"""Secrets that are created after each change."""
AWS, VAULT = "aws-kms", "vault-transit"


@dataclass
class Lab:
    """The cluster."""

    directory: Path
    etcd: Etcd
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    newcomer: ApiServer
    """A second apiserver, which at the end reads everything for the first time."""
    stored: Stored
    aws: Aws
    vault: Vault
    pids: set[int]
    """The processes that the apiserver and the plugin were."""

    def configure(self, epoch: int, **stages: str) -> None:
        """Give the keys `aws` and `vault` these stages; one without is not in the configuration."""
        remotes = {"aws": self.aws, "vault": self.vault}
        keys = [remotes[name].key for name in stages]
        members = {remotes[name].name: stage for name, stage in stages.items()}
        new = configuration(self.plugin, keys, [endpoint("main", self.socket, epoch, members)])
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    @property
    def key_id(self) -> str:
        return self.plugin.wait_for_status(self.socket).key_id

    def move(self, epoch: int, **stages: str) -> float:
        """Raise the epoch with these keys; return the seconds until the apiserver encrypts under the new key_id."""
        old, start = self.key_id, time.monotonic()
        self.configure(epoch, **stages)
        new = self.plugin.wait_for_status(self.socket, other_than=old).key_id
        (path,) = self.stored.create(self.apiserver.kube, f"first-of-epoch-{epoch}")

        def written() -> bool:
            self.apiserver.is_healthy()
            put_unchanged(self.apiserver.kube, path)
            return self.stored.sealed()[path].key_id == new

        until(written, 60, f"the apiserver encrypts under {new}")
        self.stored.create(self.apiserver.kube, f"epoch-{epoch}", LATER)
        return round(time.monotonic() - start, 1)

    def migrate(self, count: Count) -> None:
        """Rewrite all Secrets, as the Kubernetes page says, and see that nothing else is left."""
        migrated = self.apiserver.kubectl.migrate("secrets")
        assert migrated == len(self.stored.contents)
        assert self.stored.key_ids() == {self.key_id}
        count("migrated", migrated)

    def proven(self, key: str) -> bool:
        """Whether this node has wrapped and unwrapped a value with a key."""
        return self.plugin.metric("keystead_key_last_verified_timestamp_seconds", endpoint="main", key=key) > 0

    def retire_check(self) -> int:
        """Ask whether Vault's key can be destroyed; return the exit code."""
        shown = self.directory / "status.json"
        shown.write_text(keystead("status", "--config", self.plugin.file, "-o", "json").stdout)
        done = keystead("key", "retire-check", VAULT, "--etcd", self.etcd.url, "--from", shown, "-o", "json")
        print(done.stdout, done.stderr)
        json.loads(done.stdout)
        return done.returncode


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        aws, vault = Aws(directory), Vault(directory)
        for remote in (aws, vault):
            stack.callback(remote.stack.close)
        plugin, etcd = Plugin(directory, program=program(directory)), Etcd(binaries, directory)
        socket, encryption, credentials = plugin.socket(), directory / "encryption.yaml", Credentials(directory)
        write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
        apiserver, newcomer = (
            ApiServer(binaries, directory, etcd, credentials, encryption, name=name)
            for name in ("apiserver", "newcomer")
        )
        lab = Lab(directory, etcd, plugin, socket, apiserver, newcomer, Stored(etcd.reader), aws, vault, set())
        lab.configure(1, vault="active")
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        apiserver.start()
        lab.pids = {apiserver.child.pid, plugin.child.pid}
        stack.callback(newcomer.kill)
        yield lab


def test_at_first_everything_is_under_vault(lab: Lab, count: Count) -> None:
    lab.stored.create(lab.apiserver.kube, "under-vault", SECRETS)
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({VAULT})}
    assert not lab.aws.line.heard
    count("Secrets", len(lab.stored.contents))


def test_aws_is_added_for_decryption_which_changes_no_key_id_and_is_proven(lab: Lab) -> None:
    before = lab.key_id
    lab.configure(1, vault="active", aws="decrypt")
    until(lambda: lab.proven(AWS), 30, "AWS is proven")
    assert lab.key_id == before
    lab.stored.create(lab.apiserver.kube, "aws-may-decrypt", LATER)
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({VAULT})}


def test_once_active_aws_wraps_new_local_keks_beside_vault(lab: Lab, count: Count) -> None:
    count("seconds to the new seed", lab.move(2, vault="active", aws="active"))
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({VAULT}), frozenset({VAULT, AWS})}
    assert len(lab.stored.key_ids()) == 2


def test_vaults_key_may_not_be_retired_yet(lab: Lab) -> None:
    assert lab.retire_check() == 4


def test_migration_leaves_nothing_that_vault_alone_can_open(lab: Lab, count: Count) -> None:
    lab.migrate(count)
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({VAULT, AWS})}


def test_vault_is_kept_for_decryption_only(lab: Lab, count: Count) -> None:
    count("seconds to the new seed", lab.move(3, aws="active", vault="decrypt"))
    lab.migrate(count)
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({AWS})}


def test_now_vaults_key_may_be_retired(lab: Lab) -> None:
    assert lab.retire_check() == 0


def test_vault_is_removed_and_stopped_for_good_and_all_is_readable(lab: Lab, count: Count) -> None:
    before = lab.key_id
    lab.configure(3, aws="active")
    lab.vault.bao.stop()
    assert lab.vault.bao.process.poll() is not None
    assert lab.key_id == before
    lab.stored.create(lab.apiserver.kube, "without-vault", LATER)
    count("read", lab.stored.read_all(lab.apiserver.kube))
    assert lab.apiserver.failed_transformations() == 0


def test_neither_the_apiserver_nor_the_plugin_was_restarted_for_it(lab: Lab, count: Count) -> None:
    assert {lab.apiserver.child.pid, lab.plugin.child.pid} == lab.pids
    assert lab.apiserver.child.running
    assert lab.plugin.child.running
    assert len(lab.plugin.events("server.started")) == 1
    # The apiserver asked for Status only, and for one seed under each key_id.
    count("Encrypts", lab.apiserver.kms_calls("Encrypt"))
    assert lab.apiserver.kms_calls("Encrypt") == 3
    count("reloads", len(lab.plugin.events("config.reloaded")))


def test_an_apiserver_and_a_plugin_that_start_without_vault_read_all_of_it(lab: Lab, count: Count) -> None:
    unwraps = lab.aws.unwraps()
    lab.plugin.stop()
    lab.plugin.start(lab.socket)
    lab.newcomer.start()
    count("read by a second apiserver", lab.stored.read_all(lab.newcomer.kube))
    count("Decrypts", lab.newcomer.kms_calls("Decrypt"))
    assert lab.newcomer.kms_calls("Decrypt") > 0
    assert lab.aws.unwraps() > unwraps
    count("unwraps by AWS", lab.aws.unwraps() - unwraps)
    assert {lab.apiserver.child.pid} < lab.pids
    assert lab.apiserver.child.running
