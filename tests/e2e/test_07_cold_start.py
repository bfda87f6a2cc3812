"""Cold starts: how many Decrypts and how many remote unwraps they cost, and what users see while the KMS is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import slow
from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .kube import Object
from .plugin import Plugin, configuration, endpoint
from .processes import until
from .stored import COLLECTION, Stored

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

STARTS = 6
EACH = 20
"""Secrets under each seed: more than 1.37 has workers that fill the watch cache."""
TRAVEL = 0.3
"""Seconds that the remote takes for a call during a cold start, so that Decrypts of one record overlap."""
HINT = "[temporary, nothing is lost: do not delete objects]"
KNOWN, OLDER = f"{COLLECTION}/epoch-{STARTS + 1}-000", f"{COLLECTION}/epoch-2-000"
"""A Secret under the local KEK that the plugin loads at its start, and one under another."""
UNSAFE: Object = {"ignoreStoreReadErrorWithClusterBreakingPotential": True}


@dataclass
class Lab:
    """The cluster."""

    etcd: Etcd
    remote: slow.Remote
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    minor: int
    decoders: int
    stored: Stored

    def configure(self, epoch: int) -> None:
        new = configuration(
            self.plugin, [self.remote.key("lab")], [endpoint("main", self.socket, epoch, {"lab": "active"})]
        )
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    def restart_plugin(self) -> None:
        self.plugin.stop()
        self.plugin.start(self.socket)

    def start_cold(self, count: Count) -> None:
        """Start plugin and apiserver anew with a remote that takes its time, and read everything."""
        seeds, records = self.stored.seeds(), self.stored.records()
        self.apiserver.kill()
        self.remote.answers_after(TRAVEL)
        self.restart_plugin()
        before = len(self.plugin.events("kek.unwrapped"))
        start = time.monotonic()
        self.apiserver.start()
        count("seconds to readyz", round(time.monotonic() - start, 1))
        count("read", self.stored.read_all(self.apiserver.kube))
        self.remote.answers_after(0)

        decrypts = self.apiserver.kms_calls("Decrypt")
        assert decrypts == self.plugin.calls("v2/Decrypt")
        assert seeds <= decrypts <= seeds * self.decoders
        # The record that the plugin writes under was unwrapped when it started.
        unwraps = len(self.plugin.events("kek.unwrapped")) - before
        assert unwraps == records - 1
        count("seeds", seeds)
        count("Decrypts", decrypts)
        count("records", records)
        count("unwraps besides the one at the plugin's start", unwraps)
        count("Decrypts that waited", self.plugin.metric("keystead_cold_decrypt_seconds_count", result="OK"))


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory, program=slow.program()), Etcd(binaries, directory)
    socket = plugin.socket()
    write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
    apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    remote, stored = slow.Remote(directory), Stored(etcd.reader)
    lab = Lab(etcd, remote, plugin, socket, apiserver, binaries.minor, binaries.decoders, stored)
    lab.configure(1)
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        yield lab


def test_six_starts_of_the_apiserver_leave_six_seeds_under_one_local_kek(lab: Lab, count: Count) -> None:
    for start in range(STARTS):
        lab.apiserver.kill()
        lab.apiserver.start()
        lab.stored.create(lab.apiserver.kube, f"start-{start}", EACH)
    assert (lab.stored.seeds(), lab.stored.records()) == (STARTS, 1)
    count("Secrets", len(lab.stored.contents))


def test_a_cold_start_with_one_local_kek_needs_no_unwrap_but_the_plugins_own(lab: Lab, count: Count) -> None:
    lab.start_cold(count)


def test_a_migration_under_the_same_key_id_does_not_merge_seeds(lab: Lab, count: Count) -> None:
    assert lab.apiserver.kubectl.migrate("secrets") == len(lab.stored.contents)
    assert lab.stored.seeds() == STARTS
    count("seeds", STARTS)


def test_each_of_six_epochs_leaves_a_local_kek(lab: Lab, count: Count) -> None:
    for epoch in range(2, STARTS + 2):
        before = lab.plugin.wait_for_status(lab.socket).key_id
        lab.apiserver.kill()
        lab.configure(epoch)
        lab.plugin.wait_for_status(lab.socket, other_than=before)
        lab.apiserver.start()
        lab.stored.create(lab.apiserver.kube, f"epoch-{epoch}", EACH)
    assert (lab.stored.seeds(), lab.stored.records()) == (2 * STARTS, STARTS + 1)
    count("Secrets", len(lab.stored.contents))


def test_a_cold_start_unwraps_each_record_once_however_many_decrypts_ask(lab: Lab, count: Count) -> None:
    lab.start_cold(count)


def test_with_the_remote_away_an_apiserver_that_starts_serves_what_the_plugin_knows(lab: Lab, count: Count) -> None:
    lab.apiserver.kill()
    lab.restart_plugin()
    lab.remote.goes_away()
    start = time.monotonic()
    lab.apiserver.start(ready="")
    _wait_for(lab, KNOWN)
    count("seconds to a GET under the local KEK in use", round(time.monotonic() - start, 1))
    lab.stored.create(lab.apiserver.kube, "while-the-remote-is-away")
    assert _status(lab, "/api/v1/namespaces") == 200
    assert _status(lab, "/readyz/kms-providers") == 200
    count("GET under an older one", _status(lab, OLDER))
    count("LIST", _status(lab, COLLECTION))
    count("/livez", _status(lab, "/livez"))
    count("/readyz", _status(lab, "/readyz"))


def test_its_users_read_that_nothing_is_lost(lab: Lab, count: Count) -> None:
    name = _name(OLDER)
    for command in (["get", "secret", name], ["get", "secrets"], ["describe", "secret", name]):
        text = lab.apiserver.kubectl.refusal(*command)
        print(text)
        assert HINT in text
        assert ("StorageError: corrupt object" in text) == (lab.minor >= 37)
    count("commands", 3)


def test_a_plain_delete_of_what_cannot_be_read_is_refused(lab: Lab, count: Count) -> None:
    for options in ([_name(OLDER)], [_name(OLDER), "--force"], ["--all"]):
        text = lab.apiserver.kubectl.refusal("delete", "secret", "--wait=false", *options)
        assert HINT in text
    assert lab.stored.sealed()
    count("refused", 3)


def test_an_unsafe_delete_destroys_an_intact_secret_from_1_37_on(lab: Lab, count: Count) -> None:
    readable, text = lab.apiserver.kube.raw("DELETE", f"{COLLECTION}/while-the-remote-is-away-000", UNSAFE)
    if lab.minor >= 37:
        assert readable == 409
        assert "object is decodable from storage" in text
    else:
        assert readable == 200  # where the option is not known, this is a delete as any other
        del lab.stored.contents[f"{COLLECTION}/while-the-remote-is-away-000"]
    count("of a Secret that can be read", readable)
    count("of one that cannot be read now", _unsafe_delete(lab, f"{COLLECTION}/epoch-2-001"))


def test_once_the_remote_is_back_all_others_are_readable(lab: Lab, count: Count) -> None:
    lab.remote.answers_after(0)
    start = time.monotonic()
    count("read", lab.stored.read_all(lab.apiserver.kube))
    for what, path in (("LIST", COLLECTION), ("/readyz", "/readyz")):
        _wait_for(lab, path)
        count(f"seconds to {what}", round(time.monotonic() - start, 1))


def test_if_the_plugin_starts_without_its_remote_reads_do_not_show_why_but_health_does(lab: Lab, count: Count) -> None:
    lab.apiserver.kill()
    lab.plugin.stop()
    lab.remote.goes_away()
    lab.plugin.start()
    lab.apiserver.start(ready="")
    _wait_for(lab, "/api/v1/namespaces")
    for path in (KNOWN, OLDER):
        status, text = lab.apiserver.kube.raw("GET", path)
        assert (status, "got unexpected nil transformer" in text, HINT in text) == (500, True, False)
        assert ("StorageError: corrupt object" in text) == (lab.minor >= 37)
    status, text = lab.apiserver.kube.raw("GET", "/readyz/kms-providers")
    print(text)
    assert status == 500
    way_out = "starting: the local KEK on disk is to be unwrapped: mend key lab, and all goes on by itself: "
    assert f"healthz status: {way_out}key lab: open: connect to 192.0.2.1:443: connection refused" in text
    assert HINT in text
    assert "got unexpected nil transformer" in lab.apiserver.kubectl.refusal("delete", "secret", _name(OLDER))
    count("unsafe delete", _unsafe_delete(lab, f"{COLLECTION}/epoch-2-002"))


def test_it_heals_when_the_remote_comes_back(lab: Lab, count: Count) -> None:
    lab.remote.answers_after(0)
    start = time.monotonic()
    until(lab.apiserver.is_healthy, 60, "the KMS check is good")
    count("seconds to /readyz/kms-providers", round(time.monotonic() - start, 1))
    _wait_for(lab, "/readyz")
    count("seconds to /readyz", round(time.monotonic() - start, 1))
    count("read", lab.stored.read_all(lab.apiserver.kube))


def _unsafe_delete(lab: Lab, path: str) -> int:
    """Delete a Secret that cannot be read now with the option for it; return the status."""
    status, text = lab.apiserver.kube.raw("DELETE", path, UNSAFE)
    print(text)
    assert status == (200 if lab.minor >= 37 else 500)
    if status == 200:
        del lab.stored.contents[path]
    # What is in etcd is exactly what has not been deleted.
    assert len(lab.stored.sealed()) == len(lab.stored.contents)
    return status


def _status(lab: Lab, path: str) -> int:
    return lab.apiserver.kube.raw("GET", path)[0]


def _wait_for(lab: Lab, path: str) -> None:
    until(lambda: _status(lab, path) == 200, 120, f"GET {path} is 200", lab.apiserver.child)


def _name(path: str) -> str:
    return path.rsplit("/", 1)[1]
