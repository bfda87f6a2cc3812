"""The HTTP side: what it answers, and that it can neither stop the KMS nor wait for the network."""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from keystead.host.endpoint import Endpoint
from keystead.host.report import KeyReport, RecordReport, Report
from keystead.server import pages
from keystead.server.http import HttpServer
from keystead.server.metrics import Metrics
from keystead.server.reload import Standing

LAB = KeyReport(
    name="lab",
    provider="local",
    ref="lab",
    stage="active",
    role="online",
    up=True,
    since=1_790_000_000.0,
    error=None,
    version="1",
    observed_version="1",
    refused_versions=(),
    proven=True,
    proven_at=1_790_000_000.0,
    last_success=1_790_000_000.0,
    staged_since=None,
    soak_left=0.0,
    credential_expiry=None,
)
KEY_ID = "ks1.e1." + 32 * "a"
GOOD = Report(
    name="main",
    cluster="prod",
    epoch=1,
    state="ok",
    since=1_790_000_000.0,
    healthz="ok",
    key_id=KEY_ID,
    refused=None,
    activation_unproven=False,
    overdue=None,
    record=RecordReport("00" * 32, KEY_ID, 1_790_000_000, uses=1, persisted=True, wraps=()),
    keys=(LAB, replace(LAB, name="far", ref=None, up=False)),
    keks=3,
    waiting=2,
)
UNSAVED = replace(cast("RecordReport", GOOD.record), persisted=False)


class Reporting:
    """An endpoint as far as /readyz and /metrics look at one."""

    def __init__(self, **changes: Any) -> None:
        self._report = replace(GOOD, **changes)

    def report(self) -> Report:
        return self._report


class Site:
    """A running server, and what it answers."""

    def __init__(self, endpoints: dict[str, Reporting], host: str = "127.0.0.1") -> None:
        self._metrics = Metrics()
        shown = cast("Mapping[str, Endpoint]", endpoints)
        self.host = host
        self.standing = Standing("config.yaml", "ab" * 32, datetime(2026, 11, 24, tzinfo=UTC))
        self._metrics.watch(lambda: shown, lambda: self.standing)
        self.server = HttpServer.on_port(host, 0, pages.public(self._metrics, lambda: shown, lambda: self.standing))
        self.server.start()

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, self.server.port, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


@pytest.fixture
def endpoints() -> dict[str, Reporting]:
    return {"main": Reporting()}


@pytest.fixture
def site(endpoints: dict[str, Reporting]) -> Iterator[Site]:
    site = Site(endpoints)
    yield site
    site.server.stop()


def test_livez_is_ok_whatever_the_keys_do(site: Site, endpoints: dict[str, Reporting]) -> None:
    endpoints["main"] = Reporting(healthz="remote denies key", state="denied")
    assert site.get("/livez") == (200, "ok\n")


def test_readyz_is_ok_when_every_endpoint_is(site: Site) -> None:
    assert site.get("/readyz") == (200, "ok\n")
    assert site.get("/readyz?verbose") == (200, "[+]endpoint main ok: ok\nready\n")


def test_readyz_names_each_endpoint_key_and_refusal(site: Site, endpoints: dict[str, Reporting]) -> None:
    endpoints["main"] = Reporting(
        state="degraded", keys=(LAB, replace(LAB, name="bao-dr", up=False, error="key bao-dr: wrap: sealed"))
    )
    endpoints["old"] = Reporting(
        state="init", healthz="starting: key lab: open: away", refused="epoch 1 is below 2", record=UNSAVED
    )
    code, text = site.get("/readyz")
    assert code == 503
    assert text.splitlines() == [
        "[+]endpoint main degraded: ok",
        "[-]endpoint main key bao-dr: key bao-dr: wrap: sealed",
        "[-]endpoint old init: starting: key lab: open: away",
        "[-]endpoint old configuration: epoch 1 is below 2",
        "[-]endpoint old state directory: the record in use is not on disk",
        "not ready",
    ]


def test_readyz_says_what_is_overdue_or_unproven_without_being_red(site: Site, endpoints: dict[str, Reporting]) -> None:
    endpoints["main"] = Reporting(overdue="epoch raised from 1 to 2: key b is down", activation_unproven=True)
    assert site.get("/readyz") == (200, "ok\n")
    assert site.get("/readyz?verbose")[1].splitlines() == [
        "[+]endpoint main ok: ok",
        "[-]endpoint main configuration: keys are active that this node never had as decrypt",
        "[-]endpoint main local KEK: epoch raised from 1 to 2: key b is down",
        "ready",
    ]


def test_metrics_show_what_is_known_of_each_key(site: Site, endpoints: dict[str, Reporting]) -> None:
    lost = replace(LAB, name="far", up=False, proven_at=None, refused_versions=("1", "2"), soak_left=90.0)
    safe = replace(LAB, name="safe", provider="age-x25519", role="recovery", proven_at=None)
    endpoints["main"] = Reporting(state="degraded", overdue="x", activation_unproven=True, keys=(LAB, lost, safe))
    endpoints["new"] = Reporting(state="init", key_id="", record=None, keys=())
    lines = set(site.get("/metrics")[1].splitlines())
    key_id_hash = "sha256:" + hashlib.sha256(GOOD.key_id.encode()).hexdigest()
    assert {
        'keystead_endpoint_state{endpoint="main",state="degraded"} 1.0',
        'keystead_endpoint_state{endpoint="main",state="ok"} 0.0',
        'keystead_endpoint_state{endpoint="new",state="init"} 1.0',
        'keystead_activation_unproven{endpoint="main"} 1.0',
        'keystead_kek_overdue{endpoint="main"} 1.0',
        'keystead_kek_overdue{endpoint="new"} 0.0',
        'keystead_local_kek_created_timestamp_seconds{endpoint="main"} 1.79e+09',
        'keystead_local_kek_uses{endpoint="main"} 1.0',
        'keystead_remote_up{endpoint="main",key="lab"} 1.0',
        'keystead_remote_up{endpoint="main",key="far"} 0.0',
        'keystead_key_last_verified_timestamp_seconds{endpoint="main",key="lab"} 1.79e+09',
        'keystead_key_soak_left_seconds{endpoint="main",key="far"} 90.0',
        'keystead_key_version_refused{endpoint="main",key="far"} 2.0',
        'keystead_key_version_refused{endpoint="main",key="lab"} 0.0',
        'keystead_key_info{endpoint="main",key="safe",'
        f'key_id_hash="{key_id_hash}",provider="age-x25519",role="recovery",stage="active",version="1"}} 1.0',
    } <= lines
    assert sum(line.startswith("keystead_endpoint_state{") for line in lines) == 14, "seven states for each"
    for absent in (
        'keystead_remote_up{endpoint="main",key="safe"}',
        'keystead_key_last_verified_timestamp_seconds{endpoint="main",key="far"}',
        'keystead_local_kek_uses{endpoint="new"}',
    ):
        assert not [line for line in lines if line.startswith(absent)]


def test_metrics_show_each_endpoint(site: Site) -> None:
    code, text = site.get("/metrics")
    assert code == 200
    for line in (
        'keystead_kms_healthz{endpoint="main"} 1.0',
        'keystead_kek_store_size{endpoint="main"} 3.0',
        'keystead_key_open{endpoint="main",key="lab"} 1.0',
        'keystead_key_open{endpoint="main",key="far"} 0.0',
        'keystead_decrypts_waiting{endpoint="main"} 2.0',
        'keystead_configuration_refused{endpoint="main"} 0.0',
    ):
        assert line in text.splitlines()
    assert "ks1.e1" not in text


def test_an_unknown_path_says_what_there_is(site: Site) -> None:
    code, text = site.get("/")
    assert code == 404
    assert "/readyz" in text


def test_nothing_but_get_is_served(site: Site) -> None:
    assert site.get("/livez", "POST")[0] == 501


def test_a_report_that_fails_costs_one_answer_and_prints_nothing(
    site: Site, endpoints: dict[str, Reporting], capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Any:
        raise RuntimeError("canary-77")

    endpoints["main"].report = broken  # type: ignore[method-assign]
    with pytest.raises(http.client.HTTPException):
        site.get("/readyz")
    assert site.get("/livez") == (200, "ok\n")
    assert "canary-77" not in "".join(capfd.readouterr())


def test_no_name_is_looked_up_to_bind(endpoints: dict[str, Reporting], monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_the_dns(*_: object) -> str:
        raise AssertionError("a look-up may hang, and the DNS may be the cluster's")

    monkeypatch.setattr(socket, "getfqdn", ask_the_dns)
    monkeypatch.setattr(socket, "gethostbyaddr", ask_the_dns)
    site = Site(endpoints)
    assert site.get("/livez") == (200, "ok\n")
    site.server.stop()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_binds_an_ipv6_address_too(endpoints: dict[str, Reporting]) -> None:
    site = Site(endpoints, "::1")
    assert site.get("/livez") == (200, "ok\n")
    site.server.stop()


def test_a_refused_configuration_is_a_line_and_takes_nothing_out_of_service(site: Site) -> None:
    site.standing = replace(site.standing, problems=("config.yaml:3:1: stateDir: unknown field",))
    assert site.get("/readyz") == (200, "ok\n")
    assert site.get("/readyz?verbose")[1].splitlines() == [
        "[+]endpoint main ok: ok",
        "[-]configuration file refused: config.yaml:3:1: stateDir: unknown field",
        "ready",
    ]
    assert "keystead_config_last_reload_successful 0.0" in site.get("/metrics")[1].splitlines()


def test_the_time_of_the_configuration_in_use_is_a_metric(site: Site) -> None:
    lines = site.get("/metrics")[1].splitlines()
    assert "keystead_config_last_reload_successful 1.0" in lines
    (line,) = [line for line in lines if line.startswith("keystead_config_last_reload_success_timestamp_seconds ")]
    assert float(line.split()[1]) == site.standing.loaded_at.timestamp()
