"""The only remote KMS is away for minutes: nobody notices within the grace period, health alone after it.

Behind the plugin is a real OpenBao. Its process is stopped first, so that calls hang, and killed later, so that they
are refused. Reads and writes never stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .binaries import Binaries
from .conftest import Count
from .outage import EACH, HEALS, LENGTHS, Lab, cluster
from .plugin import status
from .processes import until
from .remotes import keystead

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["2min", pytest.param("10min", marks=pytest.mark.slow)])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, directory: Path) -> Iterator[Lab]:
    with cluster(binaries, directory, LENGTHS[variant], keys=1) as lab:
        yield lab


def test_metrics_and_status_show_it_long_before_health_does(lab: Lab, count: Count) -> None:
    lab.traffic.goes_on()
    lab.remote_leaves()
    failing = lab.length.probe_interval + 3 * lab.length.unwrap_timeout
    count("seconds until keystead_remote_up is 0", lab.reaches("lost", failing + 40))
    assert lab.plugin.metric("keystead_remote_up", key="bao-1") == 0
    assert status(lab.socket).healthz == "ok"
    done = keystead("status", "--config", lab.plugin.file)
    print(done.stdout)
    assert done.returncode == 1
    assert "key bao-1: " in done.stdout


def test_an_apiserver_that_starts_within_grace_is_ready_and_reads_everything(lab: Lab, count: Count) -> None:
    count("seconds", lab.newcomer_reads_everything())
    assert lab.newcomer.is_healthy()
    lab.stored.create(lab.newcomer.kube, "by-the-newcomer")
    lab.newcomer.stop()


def test_that_it_refuses_connections_instead_of_keeping_them_waiting_changes_nothing(lab: Lab) -> None:
    lab.remote_is_killed()
    lab.traffic.goes_on()


def test_health_turns_red_after_grace_and_not_before(lab: Lab, count: Count) -> None:
    red = lab.timeline.wait_for("kms", 500, after=lab.left, timeout=lab.length.to_red) - lab.left
    assert lab.length.grace <= red <= lab.length.to_red
    assert "remote unreachable for " in lab.timeline.texts["kms", 500]
    until(lambda: "Connection refused" in status(lab.socket).healthz, 30, "Status has the remote's latest words")
    print(status(lab.socket).healthz)
    count("seconds until /readyz/kms-providers is red", round(red, 1))
    count("grace", lab.length.grace)


def test_an_apiserver_that_starts_now_is_not_ready_and_reads_and_writes_all_the_same(lab: Lab, count: Count) -> None:
    count("seconds", lab.newcomer_reads_everything())
    lab.stored.create(lab.newcomer.kube, "by-the-newcomer-after-grace")
    code, text = lab.newcomer.kube.raw("GET", "/readyz/kms-providers")
    assert (code, "remote unreachable for " in text) == (500, True)
    lab.traffic.goes_on()


def test_once_the_remote_is_back_health_is_green_within_25_seconds(lab: Lab, count: Count) -> None:
    lab.remote_returns()
    assert lab.timeline.seen("kms", after=lab.back - 1) == {500}
    green = lab.timeline.wait_for("kms", 200, after=lab.back, timeout=60) - lab.back
    count("seconds that it was away", round(lab.back - lab.left))
    count("seconds to green", round(green, 1))
    assert green <= HEALS
    assert lab.plugin.wait_for_status(lab.socket).healthz == "ok"
    assert keystead("status", "--config", lab.plugin.file).returncode == 0


def test_no_read_and_no_write_has_failed_and_nothing_was_made_anew(lab: Lab, count: Count) -> None:
    lab.traffic.goes_on()
    assert lab.traffic.failures == []
    assert lab.timeline.seen("livez") == {200}
    for apiserver in (lab.apiserver, lab.newcomer):
        assert apiserver.failed_transformations() == 0
    assert lab.stored.read_all(lab.apiserver.kube) == 2 * EACH + 2
    assert len(lab.plugin.events("kek.minted")) == 1
    count("reads", lab.traffic.reads)
    count("writes", lab.traffic.writes)
    count("failed", len(lab.traffic.failures))
    print(lab.timeline)
