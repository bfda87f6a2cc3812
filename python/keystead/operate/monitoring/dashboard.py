"""A dashboard of Grafana. Panels are rows of a table here, and the JSON is made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

UID = "keystead"
WIDTH, HEIGHT = 12, 8
"""Of a panel; Grafana's grid is 24 wide."""
_DECRYPTS = 'grpc_server_handled_total{grpc_service=~".*KeyManagementService", grpc_method="Decrypt"}'


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: its queries with what each line is called."""

    title: str
    help: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "table"] = "timeseries"


PANELS = (
    Panel(
        "Key per node",
        "The key_id that each node encrypts under, hashed as kube-apiserver hashes it. One colour is agreement.",
        (("keystead_endpoint_info", "{{instance}} {{endpoint}} epoch {{epoch_in_use}} {{key_id_hash}}"),),
        kind="table",
    ),
    Panel(
        "Agreement with the API servers",
        "1 where a key_id that Keystead shows is one that an API server has seen in Status.",
        (
            (
                "count by (key_id_hash) (keystead_endpoint_info) and on (key_id_hash) "
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
                "{{key_id_hash}}",
            ),
        ),
    ),
    Panel(
        "Key_ids that are still read",
        "By API servers, within an hour. An old one here is data that was not rewritten.",
        (
            (
                "sum by (key_id_hash) (increase(apiserver_envelope_encryption_key_id_hash_total"
                '{transformation_type="from_storage"}[1h]))',
                "{{key_id_hash}}",
            ),
        ),
    ),
    Panel(
        "Status is ok",
        "1 while Status says ok.",
        (("keystead_kms_healthz", "{{instance}} {{endpoint}}"),),
    ),
    Panel(
        "State of endpoints",
        "The state of each endpoint: docs/operate/outage.md.",
        (("keystead_endpoint_state == 1", "{{instance}} {{endpoint}} {{state}}"),),
    ),
    Panel(
        "Remotes that work",
        "1 while a key answers, by its probes and by real traffic.",
        (("keystead_remote_up", "{{instance}} {{key}}"),),
    ),
    Panel(
        "Calls of kube-apiserver",
        "Per second, by method and code.",
        (
            (
                "sum by (grpc_method, grpc_code) "
                '(rate(grpc_server_handled_total{grpc_service=~".*KeyManagementService"}[$__rate_interval]))',
                "{{grpc_method}} {{grpc_code}}",
            ),
        ),
        unit="ops",
    ),
    Panel(
        "Time to answer",
        "p50 and p99 of each method.",
        tuple(
            (
                f"histogram_quantile({quantile}, sum by (le, grpc_method) "
                "(rate(grpc_server_handling_seconds_bucket[$__rate_interval])))",
                f"{{{{grpc_method}}}} {name}",
            )
            for quantile, name in (("0.5", "p50"), ("0.99", "p99"))
        ),
        unit="s",
    ),
    Panel(
        "Where Decrypts come from",
        "From memory, or after a wait for a remote; and the unwraps that were made for those.",
        (
            (f"sum(rate({_DECRYPTS}[$__rate_interval]))", "all"),
            ("sum(rate(keystead_cold_decrypt_seconds_count[$__rate_interval])) or vector(0)", "waited for a remote"),
            (
                'sum(rate(keystead_provider_request_duration_seconds_count{operation="unwrap"}[$__rate_interval]))',
                "unwraps, with those of probes",
            ),
        ),
        unit="ops",
    ),
    Panel(
        "Calls of remotes that fail",
        "Per second, by key and class of error.",
        (
            (
                'sum by (key, result) (rate(keystead_provider_request_duration_seconds_count{result!="OK"}'
                "[$__rate_interval]))",
                "{{key}} {{result}}",
            ),
        ),
        unit="ops",
    ),
    Panel(
        "Time of remotes",
        "p99 of each key and operation.",
        (
            (
                "histogram_quantile(0.99, sum by (le, key, operation) "
                "(rate(keystead_provider_request_duration_seconds_bucket[$__rate_interval])))",
                "{{key}} {{operation}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Since the last round trip",
        "Time since each node wrapped and unwrapped a value with each key.",
        (("time() - keystead_key_last_verified_timestamp_seconds", "{{instance}} {{key}}"),),
        unit="s",
    ),
    Panel(
        "Age of local KEKs",
        "They are replaced after localKEK.maxAge, or a new epoch.",
        (("time() - keystead_local_kek_created_timestamp_seconds", "{{instance}} {{endpoint}}"),),
        unit="s",
    ),
    Panel(
        "Credentials that end",
        "Only those that somebody has to renew. Nothing here is good.",
        (("keystead_credential_expiry_timestamp_seconds - time()", "{{instance}} {{key}}"),),
        unit="s",
    ),
    Panel(
        "Since Status was asked for",
        "kube-apiserver asks once a minute at least, and writes for three after the last good answer.",
        (("time() - keystead_last_status_timestamp_seconds", "{{instance}} {{endpoint}}"),),
        unit="s",
    ),
    Panel(
        "Unwrapped KEKs, and Decrypts that wait",
        "In memory of each endpoint.",
        (
            ("keystead_kek_store_size", "{{instance}} {{endpoint}} KEKs"),
            ("keystead_decrypts_waiting", "{{instance}} {{endpoint}} waiting"),
        ),
    ),
    Panel(
        "Configuration",
        "1 while the file seen last is in use, and when it was taken up.",
        (
            ("keystead_config_last_reload_successful", "{{instance}} in use"),
            ("changes(keystead_config_last_reload_success_timestamp_seconds[1h])", "{{instance}} reloads in an hour"),
        ),
    ),
    Panel(
        "Versions",
        "What runs where.",
        (("keystead_build_info", "{{instance}} {{version}}"),),
        kind="table",
    ),
)


def dashboard() -> str:
    """The JSON that Grafana imports."""
    tree = {
        "uid": UID,
        "title": "Keystead",
        "tags": ["keystead", "kubernetes", "kms"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "annotations": {"list": []},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(tree, indent=2) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    instant = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": source,
            "expr": expression,
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": source,
        "gridPos": {"x": number % 2 * WIDTH, "y": number // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": targets,
    }
