"""The key of a real OpenBao is rotated under two nodes: both follow by themselves, and everything migrates, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from .binaries import Binaries
from .conftest import Count
from .fleet import Fleet, Node, fleet
from .plugin import status
from .processes import until
from .stored import COLLECTION, put_unchanged
from .traffic import Contents, Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(500)]

SECRETS = 40
"""Through each node, half of which traffic replaces."""
MINT = 15
"""Seconds that a probe and a new local KEK may take on a busy machine."""
POLLS = 200
WAITS = {"5s": (5, 10), "defaults": (60, 120)}
"""Seconds between two probes, and for which a new version has to be named before it is used."""


@pytest.fixture(scope="module", params=["5s", "defaults"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Watch:
    """Asks a node for Status all the time, and keeps every key_id that differs from the one before."""

    def __init__(self, node: Node) -> None:
        self.polls = 0
        self.seen: list[str] = []
        self.changed: list[float] = []
        self._socket = node.socket
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            key_id = status(self._socket).key_id
            if key_id not in self.seen[-1:]:
                self.seen.append(key_id)
                self.changed.append(time.monotonic())
            self.polls += 1


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, directory: Path) -> Iterator[Fleet]:
    interval, delay = WAITS[variant]
    settings, more = {"versionDelay": f"{delay}s"}, {"health": {"probeInterval": f"{interval}s"}}
    with fleet(binaries, directory, ["bao"], settings, more) as lab:
        for name in ("a", "b"):
            lab.start(name, 1, bao="active")
        yield lab


def test_at_first_both_are_under_version_1(lab: Fleet, count: Count) -> None:
    for node in lab.nodes.values():
        lab.stored.create(node.apiserver.kube, f"by-{node.name}", SECRETS)
    assert lab.stored.key_ids() == {node.key_id for node in lab.nodes.values()}
    assert len(lab.stored.key_ids()) == 1
    assert [node.main["keys"][0]["version"] for node in lab.nodes.values()] == ["1", "1"]
    count("Secrets", len(lab.stored.contents))


def test_both_follow_a_rotation_once_and_in_time_under_traffic(lab: Fleet, variant: str, count: Count) -> None:
    a, b = lab.nodes.values()
    old = a.key_id
    within = sum(WAITS[variant]) + MINT
    moving = {node.name: _every_second(lab.stored.contents, f"by-{node.name}") for node in (a, b)}
    with (
        Watch(a) as watch_a,
        Watch(b) as watch_b,
        Traffic(a.apiserver.kube, moving["a"], pause=0.1, reader=b.apiserver.kube) as from_a,
        Traffic(b.apiserver.kube, moving["b"], pause=0.1, reader=a.apiserver.kube) as from_b,
    ):
        lab.remotes[0].rotate()
        start = time.monotonic()
        until(lambda: len(watch_a.seen) == len(watch_b.seen) == 2, within + 60, "both nodes show a new key_id")
        for node in (a, b):
            lab.follows(node, watch_a.seen[-1])
        count("seconds until both apiservers write under it", round(time.monotonic() - start, 1))
        for traffic in (from_a, from_b):
            traffic.goes_on()
        until(lambda: min(watch_a.polls, watch_b.polls) >= POLLS, 120, f"{POLLS} polls")
    lab.stored.contents |= moving["a"] | moving["b"]
    for node, watch in ((a, watch_a), (b, watch_b)):
        assert watch.seen == [old, a.key_id]
        took = watch.changed[1] - start
        count(f"seconds until {node.name} follows", round(took, 1))
        assert took <= within
        count(f"polls of {node.name}", watch.polls)
    assert from_a.failures + from_b.failures == []
    count("reads", from_a.reads + from_b.reads)
    count("writes", from_a.writes + from_b.writes)


def test_everything_migrates_once(lab: Fleet, count: Count) -> None:
    a, b = lab.nodes.values()
    assert len(lab.stored.key_ids()) == 2
    count("migrated", a.apiserver.kubectl.migrate("secrets"))
    assert lab.stored.key_ids() == {a.key_id}
    before = _versions(b)
    for node in (a, b):
        node.apiserver.kubectl.migrate("secrets")
    assert _versions(a) == _versions(b) == before
    count("rewritten by two further passes", 0)


def test_nothing_becomes_stale_again(lab: Fleet, count: Count) -> None:
    a, b = lab.nodes.values()
    before, path = _versions(a), next(iter(lab.stored.contents))
    with Watch(a) as watch_a, Watch(b) as watch_b:
        versions = [put_unchanged(node.apiserver.kube, path) for _ in range(5) for node in (a, b)]
        until(lambda: min(watch_a.polls, watch_b.polls) >= POLLS, 120, f"{POLLS} polls")
        versions += [put_unchanged(node.apiserver.kube, path) for _ in range(5) for node in (a, b)]
    assert watch_a.seen == watch_b.seen == [a.key_id]
    assert len(set(versions)) == 1
    assert _versions(b) == before
    assert lab.stored.read_all(a.apiserver.kube) == lab.stored.read_all(b.apiserver.kube)
    count("resourceVersions after 20 unchanged PUTs", len(set(versions)))
    count("polls of each", min(watch_a.polls, watch_b.polls))


def test_the_nodes_agree_and_the_old_version_is_needed_by_nothing_in_etcd(lab: Fleet) -> None:
    assert lab.agree("rotate", "verify").endswith("the rotation is complete on all 2 nodes\n")
    for node in lab.nodes.values():
        (key,) = node.main["keys"]
        assert (key["version"], key["observedVersion"], key["refusedVersions"]) == ("2", "2", [])
        assert len(node.plugin.events("kek.minted")) == 2
        assert node.apiserver.failed_transformations() == 0
    done = lab.compare("key", "retire-check", "bao@1", "--etcd", lab.etcd.url)
    assert done.returncode == 0
    lab.remotes[0].refuse_below(2)
    for node in lab.nodes.values():
        node.apiserver.kill()
        node.plugin.stop()
        node.plugin.start(node.socket)
        node.apiserver.start()
        assert lab.stored.read_all(node.apiserver.kube) == len(lab.stored.contents)


def _every_second(contents: Contents, prefix: str) -> Contents:
    return dict([item for item in contents.items() if f"/{prefix}-" in item[0]][::2])


def _versions(node: Node) -> set[tuple[str, str]]:
    """Name every Secret with its resourceVersion."""
    items = node.apiserver.kube.get(COLLECTION)["items"]
    return {(item["metadata"]["name"], item["metadata"]["resourceVersion"]) for item in items}
