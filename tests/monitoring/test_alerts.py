"""Each alert fires for its fault and is silent on a healthy node, by Prometheus' own evaluation."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from keystead.operate.monitoring.alerts import alerts, prometheus_rule, rules
from keystead.operate.monitoring.dashboard import PANELS
from keystead.server.metrics import Metrics
from keystead.server.reload import Standing
from monitoring.programs import program

PAGES = Path(__file__).parents[2] / "docs/alerts"
ALERTS = {alert.name: alert for alert in alerts()}
KUBE = {
    "apiserver_storage_transformation_operations_total",
    "apiserver_envelope_encryption_key_id_hash_total",
    "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
}
"""What kube-apiserver exposes (1.36)."""
NODE = 'instance="cp-1", job="keystead"'
ENDPOINT = f'{NODE}, endpoint="main"'
KEY = f'{ENDPOINT}, key="a"'
HANDLED = f'grpc_server_handled_total{{{ENDPOINT}, grpc_service="v2.KeyManagementService", grpc_method="Decrypt"'
OF_KUBE = (
    'apiserver_storage_transformation_operations_total{instance="cp-1", resource="secrets", '
    'transformation_type="from-storage"'
)

HEALTHY = {
    f"up{{{NODE}}}": "1x9000",
    f"keystead_kms_healthz{{{ENDPOINT}}}": "1x9000",
    f'{HANDLED}, grpc_code="OK"}}': "0+5x9000",
    f'keystead_unknown_key_requests_total{{{ENDPOINT}, reason="no_configured_member"}}': "0x9000",
    f'keystead_endpoint_info{{{ENDPOINT}, key_id_hash="sha256:1"}}': "1x9000",
    'keystead_endpoint_info{instance="cp-2", job="keystead", endpoint="main", key_id_hash="sha256:1"}': "1x9000",
    f"keystead_key_version_refused{{{KEY}}}": "0x9000",
    f"keystead_remote_up{{{KEY}}}": "1x9000",
    f"keystead_key_last_verified_timestamp_seconds{{{KEY}}}": "0+60x9000",
    f"keystead_last_status_timestamp_seconds{{{ENDPOINT}}}": "0+60x9000",
    f"keystead_credential_expiry_timestamp_seconds{{{KEY}}}": "99999999x9000",
    f"keystead_configuration_refused{{{ENDPOINT}}}": "0x9000",
    f"keystead_config_last_reload_successful{{{NODE}}}": "1x9000",
    f"keystead_kek_overdue{{{ENDPOINT}}}": "0x9000",
    f"keystead_local_kek_created_timestamp_seconds{{{ENDPOINT}}}": "0+60x9000",
    f"keystead_state_persist_failed{{{ENDPOINT}}}": "0x9000",
    f'keystead_provider_calls_stuck{{{NODE}, key="a"}}': "0x9000",
    f'{OF_KUBE}, status="OK"}}': "0+5x9000",
}
"""A node that is well, minute by minute."""
SICK: dict[str, dict[str, str]] = {
    "KeysteadDown": {f"up{{{NODE}}}": "0x9000"},
    "KeysteadNotHealthy": {f"keystead_kms_healthz{{{ENDPOINT}}}": "0x9000"},
    "KeysteadDecryptsFail": {f'{HANDLED}, grpc_code="DATA_LOSS"}}': "0+1x9000"},
    "KeysteadUnknownKeyRequested": {
        f'keystead_unknown_key_requests_total{{{ENDPOINT}, reason="no_configured_member"}}': "0x110 0+1x9000"
    },
    "KeysteadNodesDisagree": {
        'keystead_endpoint_info{instance="cp-3", job="keystead", endpoint="main", key_id_hash="sha256:2"}': "1x9000"
    },
    "KeysteadVersionRefused": {f"keystead_key_version_refused{{{KEY}}}": "1x9000"},
    "KeysteadAllRemotesDown": {f"keystead_remote_up{{{KEY}}}": "0x9000"},
    "KeysteadKeyUnproven": {f"keystead_key_last_verified_timestamp_seconds{{{KEY}}}": "0x9000"},
    "KeysteadRemoteDown": {
        f'keystead_remote_up{{{ENDPOINT}, key="b"}}': "0x9000",
    },
    "KeysteadNoStatusPolls": {f"keystead_last_status_timestamp_seconds{{{ENDPOINT}}}": "0x9000"},
    "KeysteadCredentialsExpire": {f"keystead_credential_expiry_timestamp_seconds{{{KEY}}}": "100000x9000"},
    "KeysteadConfigurationRefused": {f"keystead_configuration_refused{{{ENDPOINT}}}": "1x9000"},
    "KeysteadReloadFailed": {f"keystead_config_last_reload_successful{{{NODE}}}": "0x9000"},
    "KeysteadKEKOverdue": {f"keystead_kek_overdue{{{ENDPOINT}}}": "1x9000"},
    "KeysteadKEKOld": {f"keystead_local_kek_created_timestamp_seconds{{{ENDPOINT}}}": "-8000000x9000"},
    "KeysteadStateNotSaved": {f"keystead_state_persist_failed{{{ENDPOINT}}}": "1x9000"},
    "KeysteadCallsStuck": {f'keystead_provider_calls_stuck{{{NODE}, key="a"}}': "3x9000"},
    "KubeAPIServerTransformationFails": {f'{OF_KUBE}, status="DataLoss"}}': "0+1x9000"},
}
"""What is otherwise when each alert has to fire."""
BESIDES = {"KeysteadAllRemotesDown": {"KeysteadRemoteDown"}}
AT = 180
"""Minutes after the beginning, when all have had time."""


def exposed() -> set[str]:
    """Names of the samples at /metrics."""
    metrics = Metrics()
    metrics.watch(dict, lambda: Standing("config.yaml", "", datetime.now(UTC)))
    names = set()
    for family in metrics.registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:keystead|grpc_server|apiserver)_[a-z_]+\b(?=[\[{) ]|$)", expression))


QUERIES = [alert.expression for alert in ALERTS.values()] + [query for panel in PANELS for query, _ in panel.queries]


@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_names_metrics_that_are_exposed(expression: str) -> None:
    names = named(expression)
    assert names or "up{" in expression
    assert names <= exposed() | KUBE


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    pages = {page.stem: page.read_text() for page in PAGES.glob("*.md") if page.stem != "README"}
    assert pages.keys() == ALERTS.keys()
    for name, text in pages.items():
        assert text.startswith(f"# {name}\n")
        assert "## What it does to the cluster" in text
        assert "## What to do\n\n1. " in text


def test_both_forms_have_the_same_rules_and_links_that_lead_to_their_pages() -> None:
    plain = YAML(typ="safe").load(rules())
    operator = YAML(typ="safe").load(prometheus_rule())
    assert plain["groups"] == operator["spec"]["groups"]
    (group,) = plain["groups"]
    assert [rule["alert"] for rule in group["rules"]] == list(ALERTS)
    for rule in group["rules"]:
        assert (PAGES.parents[1] / rule["annotations"]["runbook_url"]).is_file()


def test_a_job_and_a_place_of_pages_of_ones_own() -> None:
    text = rules("kms", "https://wiki.example/")
    assert 'up{job=\\"kms\\"}' in text
    assert "runbook_url: https://wiki.example/KeysteadDown.md" in text


def promtool(*words: str | Path) -> str:
    outcome = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False, timeout=300)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(rules())
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "--lint-fatal", path)


def _case(name: str, series: dict[str, str], firing: set[str]) -> dict[str, Any]:
    merged = {**HEALTHY, **series}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in merged.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"}) > 0',
                "eval_time": f"{AT}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)],
            }
        ],
    }


def test_each_alert_fires_for_its_fault_alone_and_none_on_a_healthy_node(tmp_path: Path) -> None:
    assert SICK.keys() == ALERTS.keys()
    (tmp_path / "alerts.yaml").write_text(rules())
    cases = [_case("healthy", {}, set())]
    cases += [_case(name, series, {name, *BESIDES.get(name, ())}) for name, series in SICK.items()]
    path = tmp_path / "cases.yaml"
    with path.open("w") as file:
        yaml = YAML()
        yaml.width = 10_000
        yaml.dump({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": cases}, file)
    assert "SUCCESS" in promtool("test", "rules", path)
