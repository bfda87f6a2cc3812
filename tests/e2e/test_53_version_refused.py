"""A remote refuses the version of its key that everything is under, and works otherwise: an alarm, and no failed call.

In a real OpenBao, `min_decryption_version` is raised past the record in use. What has to be done before anything is
restarted is then done: every object is rewritten.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .binaries import Binaries
from .conftest import Count
from .outage import EACH, PROMPT, Lab, cluster
from .plugin import status
from .processes import until
from .remotes import keystead
from .stored import put_unchanged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    # The new version is not to be used for its own sake.
    with cluster(binaries, directory, PROMPT, versionDelay="1h") as lab:
        yield lab


def test_a_newer_version_alone_changes_nothing(lab: Lab) -> None:
    before = lab.key_id
    lab.remotes[0].rotate()
    until(lambda: _key(lab)["observedVersion"] == "2", 60, "the plugin has heard of version 2")
    assert _key(lab)["version"] == "1"
    assert lab.key_id == before


def test_the_alarm_rises_within_three_probes_and_names_the_version(lab: Lab, count: Count) -> None:
    before, start = lab.key_id, lab.timeline.now
    lab.remotes[0].refuse_below(2)
    until(lambda: lab.plugin.metric("keystead_key_version_refused", key="bao-1") == 1, 60, "the metric shows it")
    # A probe unwraps a fresh value, which works, and one under the record's version, which does not.
    refused = lab.plugin.metric(
        "keystead_provider_request_duration_seconds_count", operation="unwrap", result="KeyDisabled"
    )
    count("probes until the alarm", refused)
    count("seconds until the alarm", round(lab.timeline.now - start, 1))
    assert refused <= 3
    (event,) = lab.plugin.events("key.version_refused")
    print(event["error"])
    assert event["error"].startswith("restore version 1: what was wrapped under it, in etcd and in backups, cannot be")
    assert "min_decryption_version" in event["error"]
    assert _key(lab)["refusedVersions"] == ["1"]
    done = keystead("status", "--config", lab.plugin.file)
    print(done.stdout)
    assert done.returncode == 1
    assert "refuses its version 1, which records may need" in done.stdout
    with urllib.request.urlopen(f"http://{lab.plugin.http}/readyz?verbose", timeout=5) as answer:
        assert "restore version 1: " in answer.read().decode()
    assert lab.plugin.wait_for_status(lab.socket, other_than=before).healthz == "ok"


def test_new_objects_are_under_the_version_that_works_and_the_old_ones_are_named(lab: Lab, count: Count) -> None:
    until(lambda: _objects_by_version(lab).get("2"), 60, "traffic is written under version 2")
    counts = _objects_by_version(lab)
    print(counts)
    # Those that traffic does not replace.
    assert counts["1"] >= len(lab.stored.contents)
    count("objects under the version that is refused", counts["1"])
    lab.traffic.goes_on()
    lab.stored.read_all(lab.apiserver.kube)


def test_rewritten_before_any_restart_nothing_needs_the_old_version(lab: Lab, count: Count) -> None:
    """And health was green all the time until then."""
    for path in lab.stored.contents:  # the others are rewritten by traffic
        put_unchanged(lab.apiserver.kube, path)
    until(lambda: _objects_by_version(lab).keys() == {"2"}, 60, "nothing is under version 1")
    assert lab.timeline.seen("kms") == {200}
    lab.plugin.stop()
    lab.plugin.start(lab.socket)
    count("seconds until a new apiserver reads everything", lab.newcomer_reads_everything())
    assert lab.newcomer.is_healthy()
    assert lab.plugin.metric("keystead_key_version_refused", key="bao-1") == 0
    assert keystead("status", "--config", lab.plugin.file).returncode == 0


def test_no_read_and_no_write_has_failed(lab: Lab, count: Count) -> None:
    lab.traffic.goes_on()
    assert lab.traffic.failures == []
    assert lab.timeline.seen("livez") == {200}
    for apiserver in (lab.apiserver, lab.newcomer):
        assert apiserver.failed_transformations() == 0
    assert lab.stored.read_all(lab.apiserver.kube) == 2 * EACH
    assert len(lab.plugin.events("kek.minted")) == 2
    count("reads", lab.traffic.reads)
    count("writes", lab.traffic.writes)
    count("failed", len(lab.traffic.failures))
    assert status(lab.socket).healthz == "ok"


def _key(lab: Lab) -> dict[str, Any]:
    """What `keystead status` says of the key."""
    (endpoint,) = json.loads(keystead("status", "--config", lab.plugin.file, "-o", "json").stdout)["endpoints"]
    (key,) = endpoint["keys"]
    assert isinstance(key, dict)
    return key


def _objects_by_version(lab: Lab) -> dict[str, int]:
    """Count the objects in etcd under each version of the key, as an operator does."""
    done = keystead("key", "list", "--etcd", lab.etcd.url, "-o", "json")
    return {key["version"]: key["objects"] for key in json.loads(done.stdout)["keys"]}
