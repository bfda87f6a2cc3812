"""Automatic reload moves the encryption from KMS v1 to v2 without a restart; a bad configuration changes nothing."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .binaries import Binaries
from .broken import BrokenPlugin
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .kube import content_of, secret, secrets
from .plugin import Plugin, Status, configuration, endpoint, local_key
from .processes import until
from .traffic import Contents, Traffic

# The apiserver looks at its file once a minute.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

SECRETS = 50
CONTROLLER = "apiserver_encryption_config_controller"
BROKEN = {
    "mismatch": (Status("v2", "ok", "one"), "another", "failed to rotate DEK"),
    "unwell": (Status("v2", "broken on purpose", "one"), "one", "got unexpected healthz status: broken on purpose"),
    "unknown": (Status("v3", "ok", "one"), "one", "expected KMSv2 API version v2, got v3"),
}
"""Broken plugins: what Status answers, what Encrypt calls its key, and what the apiserver says to that."""
RELOADED_WITHIN = 150
"""Seconds: a minute until the file is read, up to 12 s for the health of two providers, and both once more at worst."""


@dataclass
class Lab:
    """One cluster, and one Keystead with two endpoints: `main` serves both versions of KMS at first, `next` only v2."""

    directory: Path
    encryption: Path
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    contents: Contents = field(default_factory=dict)

    def serve(self, *versions: str) -> None:
        """Have the endpoint `main` serve these versions of KMS."""
        keys = [local_key(self.directory, name) for name in ("main", "next")]
        endpoints = [
            endpoint("main", self.plugin.socket("main"), 1, {"main": "active"}, kmsVersions=list(versions)),
            endpoint("next", self.plugin.socket("next"), 1, {"next": "active"}),
        ]
        new = configuration(self.plugin, keys, endpoints)
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    def socket_of(self, provider: str) -> str:
        """Return the socket behind a provider: `main-v1` and `main-v2` share one, as two names of it."""
        return self.plugin.socket(provider.partition("-")[0])

    def write_configuration(self, *providers: str) -> None:
        """Write an EncryptionConfiguration with these providers, whose names end with their version of KMS."""
        entries = [kms(name, self.socket_of(name), name.rpartition("-")[2]) for name in providers]
        write_encryption_configuration(self.encryption, (["secrets"], entries))

    def reloads(self, status: str) -> int:
        """Count the reloads that ended with `success` or `failure`."""
        return int(self.apiserver.metric(f"{CONTROLLER}_automatic_reloads_total", status=status))

    def take_up(self, *providers: str) -> float:
        """Have a configuration reloaded; return the seconds from the file's change until it was in force."""
        pid, before, start = self.apiserver.child.pid, self.reloads("success"), time.monotonic()
        self.write_configuration(*providers)
        until(lambda: self.reloads("success") == before + 1, RELOADED_WITHIN, "a reload", self.apiserver.child)
        seconds = round(time.monotonic() - start, 1)
        file_hash = f"sha256:{hashlib.sha256(self.encryption.read_bytes()).hexdigest()}"
        assert self.apiserver.metric(f"{CONTROLLER}_last_config_info", hash=file_hash) == 1
        assert self.apiserver.child.pid == pid
        return seconds

    def is_refused(self, *providers: str, because: str) -> float:
        """Have a configuration refused with a reason in the log; return the seconds that took."""
        failures, successes, start = self.reloads("failure"), self.reloads("success"), time.monotonic()
        self.write_configuration(*providers)
        until(lambda: because in self._refusals(), RELOADED_WITHIN, f"a refusal with {because}", self.apiserver.child)
        seconds = round(time.monotonic() - start, 1)
        until(lambda: self.reloads("failure") > failures, 5, "a failure is counted")
        assert self.reloads("success") == successes
        return seconds

    def _refusals(self) -> str:
        lines = self.apiserver.child.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "error processing encryption config file" in line)

    def create(self, name: str) -> str:
        """Create a Secret and return the provider that encrypted it."""
        path, content = f"{secrets('default')}/{name}", {"text": f"the secret of {name}"}
        self.apiserver.kube.create(secrets("default"), secret(name, content))
        self.contents[path] = content
        (value,) = self.etcd.reader.values(f"/registry/secrets/default/{name}").values()
        return _provider(value)

    def read_all(self) -> int:
        """GET every Secret, compare it, and return how many there were."""
        for path, content in self.contents.items():
            assert content_of(self.apiserver.kube.get(path)) == content, path
        return len(self.contents)

    def by_provider(self) -> Counter[str]:
        """Count the Secrets in etcd that each provider encrypted."""
        values = self.etcd.reader.values("/registry/secrets/")
        assert len(values) == len(self.contents)
        return Counter(_provider(value) for value in values.values())


def _provider(value: bytes) -> str:
    """Return the name of the provider that encrypted a value, whose version is part of both names."""
    kind, version, name = value.split(b":", 5)[2:5]
    assert kind == b"kms", value[:40]
    assert name.endswith(b"-" + version), value[:40]
    return name.decode()


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory), Etcd(binaries, directory)
    apiserver = ApiServer(
        binaries, directory, etcd, Credentials(directory), encryption, feature_gates=["KMSv1=true"], reload=True
    )
    lab = Lab(directory, encryption, etcd, plugin, apiserver)
    lab.serve("v1beta1", "v2")
    lab.write_configuration("main-v1")
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start()
        plugin.wait_until_ready()
        stack.callback(apiserver.kill)
        apiserver.start()
        yield lab


def test_fifty_secrets_are_under_kms_v1(lab: Lab, count: Count) -> None:
    assert {lab.create(f"v1-{number}") for number in range(SECRETS)} == {"main-v1"}
    assert lab.by_provider() == {"main-v1": SECRETS}
    count("created", SECRETS)


def test_kms_v2_put_first_encrypts_what_is_new_without_a_restart(lab: Lab, count: Count) -> None:
    count("seconds to the reload", lab.take_up("main-v2", "main-v1"))
    assert lab.create("first-under-v2") == "main-v2"
    assert lab.by_provider() == {"main-v1": SECRETS, "main-v2": 1}
    count("read", lab.read_all())


def test_a_migration_leaves_nothing_under_kms_v1(lab: Lab, count: Count) -> None:
    encrypts = lab.plugin.calls("v2/Encrypt")
    count("migrated", lab.apiserver.kubectl.migrate("secrets"))
    assert lab.by_provider() == {"main-v2": SECRETS + 1}
    assert lab.plugin.calls("v2/Encrypt") == encrypts


def test_kms_v1_is_dropped_from_both_configurations_and_no_call_fails(lab: Lab, count: Count) -> None:
    with Traffic(lab.apiserver.kube, lab.contents, pause=0.05) as traffic:
        count("seconds to the reload", lab.take_up("main-v2"))
        traffic.goes_on()
    assert not traffic.failures, traffic.failures[:5]
    count("reads meanwhile", traffic.reads)
    count("writes meanwhile", traffic.writes)
    lab.serve("v2")
    lab.plugin.wait_for_status(lab.socket_of("main-v2"))
    calls = lab.plugin.calls("v1beta1/Encrypt"), lab.plugin.calls("v1beta1/Decrypt")
    assert lab.create("after-v1") == "main-v2"
    count("read", lab.read_all())
    until(lab.apiserver.is_healthy, 30, "the one health check is green")
    assert calls == (lab.plugin.calls("v1beta1/Encrypt"), lab.plugin.calls("v1beta1/Decrypt"))


def test_a_dead_plugin_in_the_first_place_is_refused_and_nothing_changes(lab: Lab, count: Count) -> None:
    count(
        "seconds to the refusal",
        lab.is_refused("dead-v2", "main-v2", because="dead.sock: connect: no such file or directory"),
    )
    assert lab.create("while-dead-is-refused") == "main-v2"
    assert lab.apiserver.is_healthy()
    count("read", lab.read_all())


def test_a_dead_plugin_in_the_last_place_is_refused_as_well(lab: Lab, count: Count) -> None:
    count(
        "seconds to the refusal",
        lab.is_refused("main-v2", "gone-v2", because="gone.sock: connect: no such file or directory"),
    )
    assert lab.create("while-gone-is-refused") == "main-v2"


def test_a_broken_plugin_is_refused_whatever_is_wrong_with_it(lab: Lab, count: Count) -> None:
    for fault, (status, encrypt_key_id, complaint) in BROKEN.items():
        provider = f"{fault}-v2"
        with BrokenPlugin(lab.socket_of(provider), status, encrypt_key_id) as plugin:
            because = f"kmsv2 Provider {provider} is not healthy, error: {complaint}"
            seconds = lab.is_refused(provider, "main-v2", because=because)
        assert set(plugin.calls) == {"Status", "Encrypt"}
        assert lab.create(f"while-{fault}-is-refused") == "main-v2"
        count(f"seconds to the refusal for {fault}", seconds)
    assert lab.apiserver.is_healthy()
    count("read", lab.read_all())
    count("failures", lab.reloads("failure"))


def test_a_good_configuration_is_taken_up_after_all_refusals(lab: Lab, count: Count) -> None:
    count("seconds to the reload", lab.take_up("next-v2", "main-v2"))
    assert lab.create("under-next") == "next-v2"
    count("read", lab.read_all())
    count("reloads", lab.reloads("success"))


def test_no_secret_was_ever_encrypted_by_what_was_refused(lab: Lab, count: Count) -> None:
    lab.apiserver.restart()
    count("read", lab.read_all())
    assert lab.by_provider() == {"main-v2": len(lab.contents) - 1, "next-v2": 1}
    assert lab.apiserver.failed_transformations() == 0
