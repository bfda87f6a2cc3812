"""Secrets of a real apiserver under an HSM and Vault: either one reads them all, and the HSM's key is rotated.

The HSM is a real SoftHSM behind `keystead-pkcs11`, a package of its own; Vault is a real OpenBao.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.vault import Vault

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import readable_in
from .hsm import Hsm
from .plugin import Plugin, configuration, endpoint
from .processes import until
from .remotes import program, schemes
from .stored import Stored, put_unchanged

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

EACH = 20
"""Secrets under each local KEK."""
CALLS = "keystead_provider_request_duration_seconds_count"


@dataclass
class Lab:
    """The cluster and both remotes."""

    etcd: Etcd
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    stored: Stored
    hsm: Hsm
    vault: Vault

    @property
    def key_id(self) -> str:
        return self.plugin.wait_for_status(self.socket).key_id

    def unwraps(self, key: str) -> int:
        return self.plugin.metric(CALLS, key=key, operation="unwrap", result="OK")

    def is_open(self, key: str) -> bool:
        return self.plugin.metric("keystead_key_open", key=key) == 1

    def restart_and_read(self, count: Count) -> None:
        """Stop plugin and apiserver, start both anew, so that nothing that was in memory is left, and read all."""
        self.apiserver.kill()
        self.plugin.stop()
        start = time.monotonic()
        self.plugin.start(self.socket)
        count("seconds to a good Status", round(time.monotonic() - start, 1))
        self.apiserver.start()
        count("seconds to readyz", round(time.monotonic() - start, 1))
        count("Secrets read", self.stored.read_all(self.apiserver.kube))
        assert self.apiserver.failed_transformations() == 0

    def without(self, gone: str, there: str, absence: contextlib.AbstractContextManager[None], count: Count) -> None:
        """Restart, read and write while one of the remotes is away; then it has to be taken up again by itself."""
        before = self.key_id
        with absence:
            self.restart_and_read(count)
            self.stored.create(self.apiserver.kube, f"without-{gone}", 5)
            assert self.key_id == before
            assert self.apiserver.is_healthy()
            assert (self.unwraps(gone), self.is_open(gone)) == (0, False)
            assert self.unwraps(there) >= self.stored.records()
            assert self.is_open(there)
            count(f"unwraps by {there}", self.unwraps(there))
        until(lambda: self.is_open(gone), 60, f"{gone} is open again", self.plugin.child)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        hsm, vault = Hsm(directory), Vault(directory)
        stack.callback(vault.stack.close)
        plugin, etcd = Plugin(directory, program=hsm.program(program(directory))), Etcd(binaries, directory)
        socket, encryption = plugin.socket(), directory / "encryption.yaml"
        write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
        apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
        members = {"hsm": "active", "vault-transit": "active"}
        tree = configuration(plugin, [hsm.key, vault.key], [endpoint("main", socket, 1, members)])
        plugin.configure(tree | {"health": {"probeInterval": "5s"}})
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        apiserver.start()
        yield Lab(etcd, plugin, socket, apiserver, Stored(etcd.reader), hsm, vault)


def test_each_secret_is_under_the_hsm_and_vault(lab: Lab, count: Count) -> None:
    lab.stored.create(lab.apiserver.kube, "first", EACH)
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({"pkcs11", "vault-transit"})}
    values = lab.etcd.reader.values().values()
    assert sum(readable_in(values, content["password"]) for content in lab.stored.contents.values()) == 0
    count("Secrets", len(lab.stored.contents))


def test_a_second_version_of_the_key_in_the_hsm_is_taken_up(lab: Lab, count: Count) -> None:
    old, start = lab.key_id, time.monotonic()
    lab.hsm.make(2)
    new = lab.plugin.wait_for_status(lab.socket, other_than=old, timeout=60).key_id
    count("seconds to the new key_id", round(time.monotonic() - start, 1))
    (path,) = lab.stored.create(lab.apiserver.kube, "between")

    def written() -> bool:
        lab.apiserver.is_healthy()
        put_unchanged(lab.apiserver.kube, path)
        return lab.stored.sealed()[path].key_id == new

    until(written, 60, "the apiserver encrypts under the new key_id")
    lab.stored.create(lab.apiserver.kube, "second", EACH)
    assert lab.stored.records() == 2
    used = {
        wrap.version
        for sealed in lab.stored.sealed().values()
        for wrap in sealed.record.wraps
        if wrap.scheme == "pkcs11"
    }
    assert used == {"1", "2"}


def test_with_both_a_restart_reads_everything(lab: Lab, count: Count) -> None:
    lab.restart_and_read(count)


def test_without_the_hsm_vault_reads_everything_after_a_restart(lab: Lab, count: Count) -> None:
    lab.without("hsm", "vault-transit", lab.hsm.away(), count)


def test_without_vault_the_hsm_reads_everything_after_a_restart(lab: Lab, count: Count) -> None:
    lab.without("vault-transit", "hsm", lab.vault.line.refusing(), count)
