"""A plugin that comes after its apiserver, or is away for three minutes: with Secrets encrypted, or everything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .kube import secret
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until
from .stored import COLLECTION, Stored
from .timeline import NOBODY, Timeline, health

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(500)]


SECRETS = 20
DEFAULT = "/api/v1/namespaces/default"
AWAY = 190
"""Seconds of the long absence: more than the three minutes for which an apiserver writes under a seed."""
PROBED = 20
"""Seconds between two Status calls of an apiserver whose health is probed."""
BACK_OFF = 150
"""Seconds within which an apiserver's gRPC client, which tries every two minutes in the end, finds a plugin again."""
LAG = 10
"""Seconds that this machine may be late with anything."""


@dataclass
class Lab:
    """The cluster."""

    everything: bool
    etcd: Etcd
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    stored: Stored

    @contextmanager
    def started_before_its_plugin(self, seconds: float) -> Iterator[Timeline]:
        """Start the apiserver without its plugin, and wait; nothing encrypted may be served meanwhile."""
        self.apiserver.kill()
        self.plugin.stop()
        self.apiserver.start(ready="")
        with self.timeline() as timeline:
            timeline.wait(seconds)
            for probe, served in (("get", 500), ("write", 500), ("list", 429), ("kms", 500)):
                timeline.wait_for(probe, served, after=0, timeout=30)
                assert timeline.seen(probe) == {NOBODY, served}, timeline
            for probe in ("get", "write", "list"):
                # Nothing of it names the plugin, which is why /readyz/kms-providers is the place to look.
                assert "got unexpected nil transformer" in timeline.texts[probe, 429 if probe == "list" else 500]
            assert "no such file or directory" in timeline.texts["kms", 500]
            assert timeline.seen("namespaces") == {NOBODY, 429 if self.everything else 200}, timeline
            yield timeline

    def plugin_comes(self, timeline: Timeline, count: Count) -> float:
        self.plugin.start(self.socket)
        count("the plugin is there after seconds", timeline.now)
        return timeline.now

    def is_clean(self, count: Count) -> None:
        """Start whatever has ended, and read everything."""
        if not self.plugin.child.running:
            self.plugin.start(self.socket)
        if not self.apiserver.child.running:
            start = time.monotonic()
            self.apiserver.start()
            count("seconds of the next start", round(time.monotonic() - start, 1))
        count("read", self.stored.read_all(self.apiserver.kube))

    def timeline(self) -> Timeline:
        turns = itertools.count()

        def write() -> tuple[int, str]:
            body = secret("written-all-the-time", {"turn": str(next(turns))})
            return self.apiserver.kube.raw("PUT", f"{COLLECTION}/written-all-the-time", body)

        return Timeline(
            livez=health(self.apiserver, "/livez"),
            readyz=health(self.apiserver, "/readyz"),
            kms=health(self.apiserver, "/readyz/kms-providers"),
            get=health(self.apiserver, f"{COLLECTION}/first-000"),
            list=health(self.apiserver, COLLECTION),
            write=write,
            namespaces=health(self.apiserver, "/api/v1/namespaces"),
        )


@pytest.fixture(scope="module", params=["secrets", "everything"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, directory: Path) -> Iterator[Lab]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory), Etcd(binaries, directory)
    socket = plugin.socket()
    resources = {"secrets": ["secrets"], "everything": ["*.*"]}[variant]
    write_encryption_configuration(encryption, (resources, [kms("keystead", socket)]))
    apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    plugin.configure(
        configuration(plugin, [local_key(directory, "lab")], [endpoint("main", socket, 1, {"lab": "active"})])
    )
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        stack.callback(apiserver.kill)
        yield Lab(variant == "everything", etcd, plugin, socket, apiserver, Stored(etcd.reader))


def test_a_new_cluster_without_its_plugin(lab: Lab, count: Count) -> None:
    lab.apiserver.start(ready="")
    start = time.monotonic()
    if lab.everything:
        # It creates its priority classes, which fails at once, while a cluster that has them waits half a minute.
        assert lab.apiserver.given_up_by() == "scheduling/bootstrap-system-priority-classes"
        count("ended after seconds", round(time.monotonic() - start, 1))
    else:
        until(lambda: lab.apiserver.kube.raw("GET", DEFAULT)[0] == 200, 60, "the namespace default is there")
        status, text = lab.apiserver.kube.raw("POST", COLLECTION, secret("too-early", {}))
        assert (status, "got unexpected nil transformer" in text) == (500, True)
    lab.plugin.start(lab.socket)
    if not lab.apiserver.child.running:
        lab.apiserver.start()
    until(lambda: lab.apiserver.is_healthy("/readyz"), BACK_OFF, "ready", lab.apiserver.child)
    lab.stored.create(lab.apiserver.kube, "first", SECRETS)
    lab.apiserver.kube.create(COLLECTION, secret("written-all-the-time", {}))


def test_a_plugin_that_comes_ten_seconds_late(lab: Lab, count: Count) -> None:
    with lab.started_before_its_plugin(seconds=10) as timeline:
        came = lab.plugin_comes(timeline, count)
        hook = lab.apiserver.given_up_by()
        count("hook that ended the apiserver", hook or "none")
        if hook:
            # With everything encrypted it is a matter of luck: what this hook read too early it reads again too late.
            assert (lab.everything, hook) == (True, "start-service-ip-repair-controllers")
            count("ended after seconds", timeline.now)
        else:
            _heals(timeline, came, count)
    lab.is_clean(count)


def test_a_plugin_that_comes_a_minute_late(lab: Lab, count: Count) -> None:
    with lab.started_before_its_plugin(seconds=60) as timeline:
        if lab.everything:
            # It has ended before the plugin comes.
            hook = lab.apiserver.given_up_by()
            assert hook == "scheduling/bootstrap-system-priority-classes"
            count("hook that ended the apiserver", hook)
            count("ended after seconds", timeline.changes["livez"][-1][0])
        else:
            came = lab.plugin_comes(timeline, count)
            _heals(timeline, came, count)
    lab.is_clean(count)


def test_a_plugin_that_is_away_for_three_minutes_stops_writes_but_no_reads(lab: Lab, count: Count) -> None:
    with lab.timeline() as timeline:
        for probe in ("get", "write", "kms"):
            timeline.wait_for(probe, 200, after=0, timeout=10)
        lab.plugin.stop()
        gone = timeline.now
        red = timeline.wait_for("kms", 500, gone, timeout=60)
        count("seconds to a red /readyz", round(red - gone, 1))
        refused = timeline.wait_for("write", 500, gone, timeout=200)
        count("seconds that writes go on", round(refused - gone, 1))
        timeline.wait(gone + AWAY)
        lab.plugin.start(lab.socket)
        back = timeline.now
        for probe in ("kms", "write", "readyz"):
            seconds = timeline.wait_for(probe, 200, back, timeout=BACK_OFF) - back
            count(f"seconds to {probe} after it came back", round(seconds, 1))
    print(timeline)
    assert 180 - PROBED - LAG <= refused - gone <= 180 + LAG
    assert "expired at" in timeline.texts["write", 500]
    for probe in ("get", "list", "namespaces", "livez"):
        assert timeline.seen(probe) == {200}, probe
    count("reads", timeline.calls["get"] + timeline.calls["list"])
    lab.is_clean(count)


def _heals(timeline: Timeline, came: float, count: Count) -> None:
    """Everything is served in the end; count how long that took."""
    for probe in ("kms", "get", "write", "list", "readyz"):
        count(f"seconds to {probe}", round(timeline.wait_for(probe, 200, came, timeout=BACK_OFF) - came, 1))
    livez = timeline.wait_for("livez", 200, after=0, timeout=10)
    count("livez is 200 after seconds", livez)
    print(timeline)
