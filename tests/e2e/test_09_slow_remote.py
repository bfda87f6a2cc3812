"""A remote KMS that is slower than kube-apiserver waits for its plugin: with Secrets encrypted, and with everything."""

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
from .plugin import Plugin, configuration, endpoint
from .processes import until
from .stored import COLLECTION, Stored
from .timeline import Timeline, health

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

EACH = 10
SLOW = 3.5
"""Seconds of each call: more than the 3 s that an apiserver waits, and less than the 10 s that an unwrap may take."""
VERY_SLOW = 6
"""Seconds of each call, with which wrapping and unwrapping a new local KEK takes longer than 10 s."""


@dataclass
class Lab:
    """The cluster."""

    everything: bool
    remote: slow.Remote
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    stored: Stored

    def configure(self, epoch: int, unwrap_timeout: str = "10s") -> None:
        members = {"lab": "active"}
        new = configuration(self.plugin, [self.remote.key("lab")], [endpoint("main", self.socket, epoch, members)])
        new["unwrapTimeout"] = unwrap_timeout
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    def start_plugin(self, travel: float, count: Count) -> None:
        """Start the plugin anew with a remote that is so many seconds away, and wait until Status is good."""
        self.plugin.stop()
        self.remote.answers_after(travel)
        start = time.monotonic()
        self.plugin.start(self.socket)
        count("seconds to a good Status", round(time.monotonic() - start, 1))

    def timeline(self) -> Timeline:
        return Timeline(
            known=health(self.apiserver, f"{COLLECTION}/epoch-2-000"),
            older=health(self.apiserver, f"{COLLECTION}/epoch-1-000"),
            list=health(self.apiserver, COLLECTION),
            livez=health(self.apiserver, "/livez"),
            readyz=health(self.apiserver, "/readyz"),
            kms=health(self.apiserver, "/readyz/kms-providers"),
        )


@pytest.fixture(scope="module", params=["secrets", "everything"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, directory: Path) -> Iterator[Lab]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory, program=slow.program()), Etcd(binaries, directory)
    socket = plugin.socket()
    resources = {"secrets": ["secrets"], "everything": ["*.*"]}[variant]
    write_encryption_configuration(encryption, (resources, [kms("keystead", socket)]))
    apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    stored = Stored(etcd.reader)
    lab = Lab(variant == "everything", slow.Remote(directory), plugin, socket, apiserver, stored)
    lab.configure(1)
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        apiserver.start()
        stored.create(apiserver.kube, "epoch-1", EACH)
        before = plugin.wait_for_status(socket).key_id
        lab.configure(2)
        plugin.wait_for_status(socket, other_than=before)
        apiserver.restart()
        stored.create(apiserver.kube, "epoch-2", EACH)
        yield lab


def test_a_remote_of_one_second_makes_nothing_fail(lab: Lab, count: Count) -> None:
    lab.start_plugin(1, count)
    assert _start(lab, count).isdisjoint({500})
    assert _unavailable(lab) == 0


def test_a_remote_slower_than_the_apiservers_timeout_fails_a_first_read_only(lab: Lab, count: Count) -> None:
    lab.start_plugin(SLOW, count)
    _start(lab, count)
    unavailable = _unavailable(lab)
    assert unavailable >= 1
    count("Decrypts that were told to try again", unavailable)
    # The unwrap that they did not wait for ended by itself, and was the only one.
    assert len(lab.plugin.events("kek.unwrap_failed")) == 0


def test_a_plugin_that_starts_with_its_apiserver_is_late_by_two_calls(lab: Lab, count: Count) -> None:
    lab.apiserver.kill()
    lab.plugin.stop()
    lab.plugin.start()
    if lab.everything:
        # As in test_06, that may be too late for a hook of the start.
        lab.apiserver.start(ready="")
        hook = lab.apiserver.given_up_by()
        assert hook in ("", "start-service-ip-repair-controllers")
        count("hook that ended the apiserver", hook or "none")
    if not (lab.everything and lab.apiserver.child.running):
        _start(lab, count)


def test_a_remote_too_slow_for_a_new_local_kek_leaves_the_old_one_in_use(lab: Lab, count: Count) -> None:
    old = lab.plugin.wait_for_status(lab.socket).key_id
    lab.remote.answers_after(VERY_SLOW)
    lab.configure(3)
    overdue = until(lambda: lab.plugin.events("kek.overdue"), 60, "kek.overdue in the log")
    # A probe may have come first, and found the key down by the same slowness.
    assert overdue[-1]["error"] == "key lab is down" or "within the time limit" in overdue[-1]["error"]
    assert lab.plugin.wait_for_status(lab.socket).key_id == old
    lab.stored.create(lab.apiserver.kube, "while-overdue")
    assert lab.apiserver.is_healthy()
    count("seconds of each call", VERY_SLOW)


def test_a_longer_unwrap_timeout_helps(lab: Lab, count: Count) -> None:
    old = lab.plugin.wait_for_status(lab.socket).key_id
    start = time.monotonic()
    lab.configure(3, unwrap_timeout="60s")
    lab.plugin.wait_for_status(lab.socket, other_than=old, timeout=120)
    count("seconds to the new key_id", round(time.monotonic() - start, 1))
    lab.remote.answers_after(0)
    lab.apiserver.kill()
    lab.apiserver.start()
    count("read", lab.stored.read_all(lab.apiserver.kube))


def _start(lab: Lab, count: Count) -> set[int]:
    """Start the apiserver among a slow remote; return every status of a GET under an older local KEK."""
    lab.apiserver.kill()
    lab.apiserver.start(ready="")
    with lab.timeline() as timeline:
        for probe in ("known", "older", "list", "readyz"):
            count(f"seconds to {probe}", timeline.wait_for(probe, 200, after=0, timeout=90))
        assert lab.apiserver.child.running
    print(timeline)
    if ("older", 500) in timeline.texts:
        text = timeline.texts["older", 500]
        assert "try again [temporary, nothing is lost: do not delete objects]" in text or "nil transformer" in text
    # Those that failed were tried again by whoever made them.
    assert lab.stored.read_all(lab.apiserver.kube) == len(lab.stored.contents)
    return timeline.seen("older")


def _unavailable(lab: Lab) -> int:
    return lab.apiserver.kms_calls("Decrypt", code="Unavailable")
