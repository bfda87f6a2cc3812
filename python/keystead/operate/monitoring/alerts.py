"""The alerts: what is asked of Prometheus, after how long, and who is to be woken.

`page` is for what fails now or will with the next restart; `warning` for what somebody should see within a day. Each
has a page in docs/alerts of its own name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

RUNBOOKS = "docs/alerts/"
"""Where the pages are, unless somebody publishes them elsewhere."""
JOB = "keystead"
_WEEK = 7 * 86400
_STATUS_LIMIT = 180
"""Seconds: the API server asks every 60 at least, and stops writing 180 after the last good answer."""
_OLD = 90 * 86400
_UNPROVEN = 2 * 3600
"""Seconds: twice the longest `health.probeInterval`."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule."""

    name: str
    expression: str
    lasting: str
    """How long it has to hold."""
    severity: Literal["page", "warning"]
    summary: str
    """What is so, with Prometheus' templates."""


def alerts(job: str = JOB) -> tuple[Alert, ...]:
    """All of them; `job` is the name of the scrape job."""
    return (
        Alert(
            "KeysteadDown",
            f'up{{job="{job}"}} == 0',
            "2m",
            "page",
            "Keystead on {{ $labels.instance }} cannot be scraped.",
        ),
        Alert(
            "KeysteadNotHealthy",
            "keystead_kms_healthz == 0",
            "1m",
            "page",
            "Status of endpoint {{ $labels.endpoint }} on {{ $labels.instance }} is not ok.",
        ),
        Alert(
            "KeysteadDecryptsFail",
            "sum by (instance, endpoint, grpc_code) ("
            'rate(grpc_server_handled_total{grpc_service=~".*KeyManagementService", grpc_method="Decrypt", '
            'grpc_code!="OK"}[5m])) > 0',
            "5m",
            "page",
            "Decrypts of endpoint {{ $labels.endpoint }} on {{ $labels.instance }} fail with {{ $labels.grpc_code }}.",
        ),
        Alert(
            "KeysteadUnknownKeyRequested",
            "sum by (instance, endpoint, reason) (increase(keystead_unknown_key_requests_total[10m])) > 0",
            "0m",
            "page",
            "Endpoint {{ $labels.endpoint }} on {{ $labels.instance }} was asked for what it has no key for "
            "({{ $labels.reason }}).",
        ),
        Alert(
            "KeysteadNodesDisagree",
            'count by (endpoint) (count by (endpoint, key_id_hash) (keystead_endpoint_info{key_id_hash!=""})) > 1',
            "10m",
            "page",
            "Nodes show different key_ids for endpoint {{ $labels.endpoint }}.",
        ),
        Alert(
            "KeysteadVersionRefused",
            "keystead_key_version_refused > 0",
            "5m",
            "page",
            "Key {{ $labels.key }} on {{ $labels.instance }} refuses a version that records may need.",
        ),
        Alert(
            "KeysteadAllRemotesDown",
            "max by (instance, endpoint) (keystead_remote_up) == 0",
            "5m",
            "page",
            "No remote of endpoint {{ $labels.endpoint }} answers {{ $labels.instance }}: a restart there would not "
            "come back.",
        ),
        Alert(
            "KeysteadKeyUnproven",
            f"time() - keystead_key_last_verified_timestamp_seconds > {_UNPROVEN}",
            "5m",
            "page",
            "Key {{ $labels.key }} was last proven on {{ $labels.instance }} {{ $value | humanizeDuration }} ago.",
        ),
        Alert(
            "KeysteadRemoteDown",
            "keystead_remote_up == 0",
            "10m",
            "warning",
            "Key {{ $labels.key }} does not answer {{ $labels.instance }}.",
        ),
        Alert(
            "KeysteadNoStatusPolls",
            f"time() - keystead_last_status_timestamp_seconds > {_STATUS_LIMIT}",
            "5m",
            "warning",
            "No API server asks endpoint {{ $labels.endpoint }} on {{ $labels.instance }}.",
        ),
        Alert(
            "KeysteadCredentialsExpire",
            f"keystead_credential_expiry_timestamp_seconds - time() < {_WEEK}",
            "10m",
            "warning",
            "Credentials of key {{ $labels.key }} on {{ $labels.instance }} end in {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "KeysteadConfigurationRefused",
            "keystead_configuration_refused == 1",
            "15m",
            "warning",
            "A rule keeps the configured keys of {{ $labels.endpoint }} on {{ $labels.instance }} from use.",
        ),
        Alert(
            "KeysteadReloadFailed",
            "keystead_config_last_reload_successful == 0",
            "10m",
            "warning",
            "The changed configuration of {{ $labels.instance }} is not in use.",
        ),
        Alert(
            "KeysteadKEKOverdue",
            "keystead_kek_overdue == 1",
            "1h",
            "warning",
            "Endpoint {{ $labels.endpoint }} on {{ $labels.instance }} could not replace its local KEK.",
        ),
        Alert(
            "KeysteadKEKOld",
            f"time() - keystead_local_kek_created_timestamp_seconds > {_OLD}",
            "1h",
            "warning",
            "The local KEK of endpoint {{ $labels.endpoint }} on {{ $labels.instance }} is older than 90 days.",
        ),
        Alert(
            "KeysteadStateNotSaved",
            "keystead_state_persist_failed == 1",
            "10m",
            "warning",
            "The record of endpoint {{ $labels.endpoint }} on {{ $labels.instance }} is not on disk.",
        ),
        Alert(
            "KeysteadCallsStuck",
            "keystead_provider_calls_stuck > 0",
            "15m",
            "warning",
            "{{ $value }} calls of key {{ $labels.key }} on {{ $labels.instance }} do not end.",
        ),
        Alert(
            "KubeAPIServerTransformationFails",
            "sum by (instance, resource, transformation_type) ("
            'rate(apiserver_storage_transformation_operations_total{status!="OK"}[5m])) > 0',
            "5m",
            "page",
            "API server {{ $labels.instance }} fails {{ $labels.transformation_type }} of {{ $labels.resource }}.",
        ),
    )


def rules(job: str = JOB, runbooks: str = RUNBOOKS) -> str:
    """A file of rules as Prometheus reads it."""
    return f"""\
# Alerts of Keystead, for rule_files of Prometheus. `keystead generate alerts` prints them; docs/alerts explains each.
groups:
- name: keystead
  rules:
{"".join(_rule(alert, runbooks, 2) for alert in alerts(job))}"""


def prometheus_rule(job: str = JOB, runbooks: str = RUNBOOKS) -> str:
    """The same as an object of the Prometheus operator."""
    return f"""\
# Alerts of Keystead, for the Prometheus operator. `keystead generate alerts --form operator` prints them.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: keystead
  namespace: kube-system
  labels:
    app.kubernetes.io/name: keystead
spec:
  groups:
  - name: keystead
    rules:
{"".join(_rule(alert, runbooks, 4) for alert in alerts(job))}"""


def _rule(alert: Alert, runbooks: str, indent: int) -> str:
    lines: Iterator[str] = iter(
        (
            f"- alert: {alert.name}",
            f"  expr: {json.dumps(alert.expression)}",
            f"  for: {alert.lasting}",
            "  labels:",
            f"    severity: {alert.severity}",
            "  annotations:",
            f"    summary: {json.dumps(alert.summary)}",
            f"    runbook_url: {runbooks}{alert.name}.md",
        )
    )
    return "".join(f"{' ' * indent}{line}\n" for line in lines)
