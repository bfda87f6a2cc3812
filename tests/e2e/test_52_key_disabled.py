"""The only remote key is disabled under reads and writes: health is red at the third probe and says why.

What becomes of the local KEK in memory is the choice of `onRevoked`. In a real OpenBao the key is soft-deleted, which
can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from .binaries import Binaries
from .conftest import Count
from .etcd import parse_sealed
from .outage import EACH, HEALS, HEALTH_CACHE, PROMPT, SLACK, Lab, cluster
from .plugin import CallFailed, decrypt, status
from .processes import until
from .remotes import keystead

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

WORDS = "transit/k8s is soft-deleted: restore it"


@pytest.fixture(scope="module", params=["keep", "zeroize"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, directory: Path) -> Iterator[Lab]:
    with cluster(binaries, directory, PROMPT, onRevoked=variant) as lab:
        yield lab


def test_health_is_red_at_the_third_probe_with_the_providers_words(lab: Lab, count: Count) -> None:
    lab.traffic.goes_on()
    lab.left = lab.timeline.now
    lab.remotes[0].disable()
    until(lambda: _refused(lab) >= 3, 60, "the third probe is refused")
    # The next one is 5 s away.
    text = until(lambda: status(lab.socket).healthz.partition("remote denies key: ")[2], 3, "Status is red")
    count("probes until Status is red", _refused(lab))
    count("seconds until Status is red", round(lab.timeline.now - lab.left, 1))
    print(text)
    assert WORDS in text
    assert lab.is_in_state("denied")
    red = lab.timeline.wait_for("kms", 500, after=lab.left, timeout=HEALTH_CACHE + SLACK)
    count("seconds until /readyz/kms-providers is red", round(red - lab.left, 1))
    assert WORDS in lab.timeline.texts["kms", 500]
    lab.traffic.goes_on()


def test_the_local_kek_in_memory_is_kept_or_wiped(lab: Lab, variant: str, count: Count) -> None:
    left = lab.plugin.metric("keystead_kek_store_size", endpoint="main")
    count("local KEKs in memory", left)
    assert left == {"keep": 1, "zeroize": 0}[variant]
    assert len(lab.plugin.events("kek.wiped")) == {"keep": 0, "zeroize": 1}[variant]
    sealed = parse_sealed(next(iter(lab.etcd.reader.values("/registry/secrets/default/first").values())))
    if variant == "keep":
        assert len(decrypt(lab.socket, sealed)) == 32
    else:
        with pytest.raises(CallFailed) as failed:
            decrypt(lab.socket, sealed)
        print(failed.value)
        assert failed.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "soft-deleted" in str(failed.value)
    done = keystead("status", "--config", lab.plugin.file)
    print(done.stdout)
    assert done.returncode == 1
    assert WORDS in done.stdout


def test_an_apiserver_that_starts_now_reads_what_was_kept_and_nothing_of_what_was_wiped(
    lab: Lab, variant: str, count: Count
) -> None:
    if variant == "keep":
        count("seconds to the first Secret", lab.newcomer_reads_everything())
        return
    lab.newcomer.start(ready="")
    until(lambda: lab.newcomer.kube.raw("GET", "/api/v1/namespaces")[0] == 200, 30, "the newcomer serves the rest")
    code, text = lab.newcomer.kube.raw("GET", "/readyz/kms-providers")
    assert (code, WORDS in text) == (500, True)
    assert not lab.newcomer_reads()
    refusals = [event["error"] for event in lab.plugin.events("rpc") if event["method"] == "Encrypt"]
    print(refusals[-1])
    assert refusals[-1].startswith("the local KEKs were wiped, for every active key refuses: key bao-1: ")


def test_once_it_is_enabled_all_is_green_within_25_seconds(lab: Lab, count: Count) -> None:
    lab.remotes[0].enable()
    lab.back = lab.timeline.now
    green = lab.timeline.wait_for("kms", 200, after=lab.back, timeout=60) - lab.back
    count("seconds to green", round(green, 1))
    assert green <= HEALS
    until(lab.newcomer_reads, 60, "the newcomer reads", lab.newcomer.child)
    count("seconds until the newcomer reads", round(lab.timeline.now - lab.back, 1))
    lab.stored.read_all(lab.newcomer.kube)


def test_no_call_of_the_apiserver_that_ran_has_failed_and_nothing_was_restarted_or_made_anew(
    lab: Lab, count: Count
) -> None:
    lab.traffic.goes_on()
    assert lab.traffic.failures == []
    assert lab.timeline.seen("livez") == {200}
    assert lab.apiserver.failed_transformations() == 0
    assert lab.stored.read_all(lab.apiserver.kube) == 2 * EACH
    assert len(lab.plugin.events("server.started")) == len(lab.plugin.events("kek.minted")) == 1
    count("reads", lab.traffic.reads)
    count("writes", lab.traffic.writes)
    count("failed", len(lab.traffic.failures))


def _refused(lab: Lab) -> int:
    """Count the calls of the remote that were refused, of which each probe makes one."""
    return lab.plugin.metric("keystead_provider_request_duration_seconds_count", result="KeyDisabled")
