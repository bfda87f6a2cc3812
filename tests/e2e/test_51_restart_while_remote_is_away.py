"""The plugin is restarted while a remote KMS is away: beside a key that is left, and with none.

Behind the plugin are real OpenBaos. With a key that is left nobody notices anything. With none, the apiserver that runs
goes on, one that starts cannot, and every text says what to mend. Nothing else has to be done in either case.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from .binaries import Binaries
from .conftest import Count
from .etcd import parse_sealed
from .kube import KubeError
from .outage import EACH, HEALS, HEALTH_CACHE, LENGTHS, Lab, cluster
from .plugin import CallFailed, decrypt, status
from .processes import until
from .remotes import keystead

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

WAY_OUT = "mend key bao-1, and all goes on by itself"
"""What an operator has to do, in the words of Status."""


@pytest.fixture(
    scope="module",
    params=[
        "beside-another-2min",
        "alone-2min",
        "beside-another-10min",
        "alone-10min",
    ],
)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def alone(variant: str) -> bool:
    """Whether no key is left while the first one is away."""
    return variant.startswith("alone")


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, alone: bool, directory: Path) -> Iterator[Lab]:
    with cluster(binaries, directory, LENGTHS[variant.rpartition("-")[2]], keys=1 if alone else 2) as lab:
        yield lab


def test_the_remote_goes_away(lab: Lab, alone: bool, count: Count) -> None:
    lab.traffic.goes_on()
    lab.remote_leaves()
    failing = lab.length.probe_interval + 3 * lab.length.unwrap_timeout
    count("seconds until its key is down", lab.reaches("lost" if alone else "degraded", failing + 40))
    assert status(lab.socket).healthz == "ok"


def test_the_plugin_is_restarted_once_connections_are_refused(lab: Lab, alone: bool, count: Count) -> None:
    lab.remote_is_killed()
    before = status(lab.socket).key_id
    assert lab.timeline.seen("kms") == {200}
    start = lab.timeline.now
    lab.plugin.stop()
    lab.plugin.start()
    until(lambda: status(lab.socket).key_id == before, 30, "Status names the same key_id", lab.plugin.child)
    if alone:
        until(lambda: WAY_OUT in status(lab.socket).healthz, 30, "Status says what to do", lab.plugin.child)
        print(status(lab.socket).healthz)
    else:
        lab.plugin.wait_for_status(lab.socket)
    lab.restarted = lab.timeline.now
    count("seconds", round(lab.restarted - start, 1))
    lab.traffic.goes_on()


def test_an_apiserver_that_starts_now_works_beside_another_key_and_says_why_not_alone(
    lab: Lab, alone: bool, count: Count
) -> None:
    if not alone:
        count("seconds to the first Secret", lab.newcomer_reads_everything())
        assert lab.newcomer.is_healthy()
        lab.stored.create(lab.newcomer.kube, "by-the-newcomer")
        return
    lab.newcomer.start(ready="")
    path = next(iter(lab.stored.contents))
    code, text = until(lambda: _red(lab), 30, "the newcomer is up and not ready")
    print(code, text)
    assert WAY_OUT in text
    with pytest.raises(KubeError) as failed:
        lab.newcomer.kube.get(path)
    print(failed.value)
    assert failed.value.status == 500
    assert lab.newcomer.kube.raw("GET", "/api/v1/namespaces")[0] == 200


def test_each_place_says_what_to_mend(lab: Lab, alone: bool) -> None:
    done = keystead("status", "--config", lab.plugin.file)
    print(done.stdout)
    assert done.returncode == 1
    assert "key bao-1: " in done.stdout
    cold = next(iter(lab.etcd.reader.values("/registry/secrets/default/first").values()))
    if not alone:
        decrypt(lab.socket, parse_sealed(cold))
        return
    assert WAY_OUT in done.stdout
    with pytest.raises(CallFailed) as failed:
        decrypt(lab.socket, parse_sealed(cold))
    print(failed.value)
    assert failed.value.code is grpc.StatusCode.UNAVAILABLE
    assert str(failed.value).endswith("[temporary, nothing is lost: do not delete objects]")
    assert "key bao-1: " in str(failed.value)


def test_health_is_red_alone_and_stays_green_beside_another(lab: Lab, alone: bool, count: Count) -> None:
    if alone:
        red = lab.timeline.wait_for("kms", 500, after=lab.left, timeout=60)
        count("seconds from the remote's leaving to red", round(red - lab.left, 1))
        assert WAY_OUT in lab.timeline.texts["kms", 500]
    lab.remote_returns()
    if not alone:
        # On a busy machine the restart itself may have been seen.
        assert lab.timeline.seen("kms", after=lab.restarted + HEALTH_CACHE) == {200}


def test_once_the_remote_is_back_all_is_green_within_25_seconds(lab: Lab, alone: bool, count: Count) -> None:
    green = lab.timeline.wait_for("kms", 200, after=lab.back, timeout=60) - lab.back
    count("seconds that it was away", round(lab.back - lab.left))
    if alone:
        count("seconds to green", round(green, 1))
    assert green <= HEALS
    until(lambda: lab.is_in_state("ok"), 60, "the endpoint is ok", lab.plugin.child)
    count("seconds until every key is up", round(lab.timeline.now - lab.back, 1))
    until(lab.newcomer_reads, 60, "the newcomer reads", lab.newcomer.child)
    count("seconds until the newcomer reads", round(lab.timeline.now - lab.back, 1))
    until(lab.newcomer.is_healthy, 90, "the newcomer is ready", lab.newcomer.child)
    lab.stored.create(lab.newcomer.kube, "by-the-newcomer-at-last")
    lab.stored.read_all(lab.newcomer.kube)


def test_no_read_and_no_write_has_failed_and_nothing_was_made_anew(lab: Lab, count: Count) -> None:
    lab.traffic.goes_on()
    assert lab.traffic.failures == []
    assert lab.timeline.seen("livez") == {200}
    assert lab.apiserver.failed_transformations() == 0
    assert lab.stored.read_all(lab.apiserver.kube) >= 2 * EACH
    assert len(lab.plugin.events("kek.minted")) == 1
    assert len(lab.plugin.events("server.started")) == 2
    count("reads", lab.traffic.reads)
    count("writes", lab.traffic.writes)
    count("failed", len(lab.traffic.failures))
    print(lab.timeline)


def _red(lab: Lab) -> tuple[int, str] | None:
    answer = lab.newcomer.kube.raw("GET", "/readyz/kms-providers")
    return answer if answer[0] == 500 else None
