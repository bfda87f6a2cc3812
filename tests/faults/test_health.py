"""What Status says during a fault that lasts: nothing of a remote that is away, and that of one which denies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.all import remotes
from faults.plugin import Plugin
from support.serving import short_directory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LASTING = {"aws-kms": "server stopped (SIGSTOP)", "gcp-kms": "denied", "vault-transit": "sealed"}


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_status_stays_ok_without_a_remote_and_is_red_after_three_denials(directory: Path) -> None:
    with remotes(directory) as every, Plugin(directory / "plugin", list(every.values()), "1s").run() as running:
        said: dict[str, set[str]] = {name: set() for name in every}
        with ExitStack() as faults:
            for name, fault in LASTING.items():
                faults.enter_context(every[name].fault(fault))
            # A probe waits for its remote for ten seconds, and the next one comes after five.
            ends, calls, longest = time.monotonic() + 50, 0, 0.0
            while time.monotonic() < ends:
                for name, client in running.clients.items():
                    start = time.monotonic()
                    said[name].add(client.status().healthz)
                    longest = max(longest, time.monotonic() - start)
                    calls += 1
                time.sleep(0.05)
            changes = [event for event in running.process.events("health.changed") if event["before"] == "ok"]
            assert len(changes) == len(LASTING)
            down = {event["endpoint"]: event["after"] for event in changes}
        assert down == {"aws-kms": "lost", "gcp-kms": "denied", "vault-transit": "lost"}
        assert calls > 1000
        assert longest < 1.5
        assert said["aws-kms"] == said["vault-transit"] == {"ok"}
        assert said["gcp-kms"] > {"ok"}
        assert all(text.startswith("remote denies key: key gcp-kms: unwrap: ") for text in said["gcp-kms"] - {"ok"})
        for client in running.clients.values():
            start = time.monotonic()
            while client.status().healthz != "ok":
                assert time.monotonic() < start + 30
                time.sleep(0.1)
