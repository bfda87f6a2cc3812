"""Three real OpenBao servers lose the one that leads, and a plugin that knows all three fails no call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from faults.expected import LEADER_KILLED
from faults.leader import Cluster
from faults.measure import COLD, longest, measure
from faults.plugin import Plugin
from support.serving import short_directory

pytestmark = pytest.mark.slow

ELECTION = 8.0
"""Seconds within which the others have elected one of them."""


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_no_decrypt_fails_when_the_leader_is_killed_nor_during_the_election(directory: Path) -> None:
    cluster = Cluster(directory / "cluster")
    with cluster.stack, Plugin(directory / "plugin", [cluster]).run() as running:
        client = running.clients[cluster.name]
        key_id = client.status().key_id
        later = cluster.cold(100)
        found = measure(running, [cluster], cluster, LEADER_KILLED)
        calls = [*found.cold, *found.hot, *found.status]
        assert {call.code for call in calls} == {StatusCode.OK}
        assert longest(calls) < 3
        assert found.decrypts == {"OK": COLD}
        assert found.unwraps["OK"] == COLD

        start, decrypted, slowest = time.monotonic(), 0, 0.0
        for sealed in later:
            began = time.monotonic()
            assert client.decrypt(sealed) == bytes(32)
            slowest = max(slowest, time.monotonic() - began)
            assert client.status().healthz == "ok"
            assert client.encrypt(bytes(32)).key_id == key_id
            decrypted += 1
            time.sleep(ELECTION / len(later))
        assert decrypted == 100
        assert time.monotonic() - start > ELECTION
        assert slowest < 3
