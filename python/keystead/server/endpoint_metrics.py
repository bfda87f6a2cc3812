"""What the reports of the endpoints say, as metrics: read anew at each scrape.

A `key_id` appears as the hash that kube-apiserver shows too, so that the two can be compared; it is not secret, but a
label that changes with each rotation is, for all else, a name of which there should be few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keystead._core import key_id_epoch
from keystead.host.endpoint import Endpoint
from keystead.host.health import State
from keystead.host.report import KeyReport, Report

_ENDPOINT: tuple[tuple[str, str, Callable[[Report], float | None]], ...] = (
    ("kms_healthz", "1 while Status says ok.", lambda report: report.healthz == "ok"),
    ("kek_store_size", "Unwrapped KEKs in memory.", lambda report: report.keks),
    ("decrypts_waiting", "Decrypts that wait for a remote unwrap.", lambda report: report.waiting),
    (
        "configuration_refused",
        "1 while a rule keeps the configured keys from use.",
        lambda report: report.refused is not None,
    ),
    (
        "activation_unproven",
        "1 while a key is active that this node never had as decrypt before.",
        lambda report: report.activation_unproven,
    ),
    (
        "kek_overdue",
        "1 while a local KEK is in use that should have been replaced.",
        lambda report: report.overdue is not None,
    ),
    (
        "local_kek_created_timestamp_seconds",
        "When the local KEK in use was made.",
        lambda report: report.record.created if report.record is not None else None,
    ),
    (
        "local_kek_uses",
        "Values that this process has sealed under the local KEK in use.",
        lambda report: report.record.uses if report.record is not None else None,
    ),
)
"""Name without `keystead_`, help, and the value, `None` if there is none."""

_KEY: tuple[tuple[str, str, Callable[[KeyReport], float | None]], ...] = (
    ("key_open", "1 once a member has been opened, so that it can unwrap.", lambda key: key.ref is not None),
    (
        "remote_up",
        "1 while a member answers, by its probes and by real traffic.",
        lambda key: key.up if key.role == "online" else None,
    ),
    (
        "key_last_verified_timestamp_seconds",
        "When this node last wrapped and unwrapped a value with a member.",
        lambda key: key.proven_at,
    ),
    (
        "remote_last_success_timestamp_seconds",
        "When a probe, a mint or an unwrap for a Decrypt last succeeded.",
        lambda key: key.last_success,
    ),
    (
        "credential_expiry_timestamp_seconds",
        "When the credentials end, while somebody has to act before: they are not renewed, or the last try failed.",
        lambda key: key.credential_expiry,
    ),
    (
        "key_soak_left_seconds",
        "Seconds that a member has still to decrypt before it may become active.",
        lambda key: key.soak_left,
    ),
    (
        "key_version_refused",
        "Versions that a member unwrapped once and refuses now, though records may need them.",
        lambda key: len(key.refused_versions),
    ),
)


class EndpointCollector(Collector):
    """Asks every endpoint for its report at each scrape."""

    def __init__(self, endpoints: Callable[[], Mapping[str, Endpoint]]) -> None:
        self._endpoints = endpoints

    def collect(self) -> Iterable[Metric]:
        """Yield all families, also without any endpoint."""
        reports = {name: endpoint.report() for name, endpoint in self._endpoints().items()}
        for name, text, value_of in _ENDPOINT:
            family = GaugeMetricFamily(f"keystead_{name}", text, labels=["endpoint"])
            for endpoint, report in reports.items():
                _add(family, [endpoint], value_of(report))
            yield family
        for name, text, key_value_of in _KEY:
            family = GaugeMetricFamily(f"keystead_{name}", text, labels=["endpoint", "key"])
            for endpoint, report in reports.items():
                for key in report.keys:
                    _add(family, [endpoint, key.name], key_value_of(key))
            yield family
        yield _states(reports)
        yield _keys(reports)
        yield _infos(reports)


def _states(reports: Mapping[str, Report]) -> Metric:
    family = GaugeMetricFamily(
        "keystead_endpoint_state",
        "1 for the state that an endpoint is in, 0 for the others.",
        labels=["endpoint", "state"],
    )
    for endpoint, report in reports.items():
        for state in State:
            family.add_metric([endpoint, state.value], float(state.value == report.state))
    return family


def _keys(reports: Mapping[str, Report]) -> Metric:
    labels = ["endpoint", "key", "provider", "stage", "role", "version", "key_id_hash"]
    family = GaugeMetricFamily(
        "keystead_key_info", "1 for each member, with the endpoint's key_id as kube-apiserver hashes it.", labels=labels
    )
    for endpoint, report in reports.items():
        for key in report.keys:
            values = [endpoint, key.name, key.provider, key.stage, key.role, key.version or "", report.key_id_hash]
            family.add_metric(values, 1.0)
    return family


def _infos(reports: Mapping[str, Report]) -> Metric:
    labels = ["endpoint", "cluster", "epoch", "epoch_in_use", "key_id_hash"]
    family = GaugeMetricFamily(
        "keystead_endpoint_info", "1 for each endpoint, with what all nodes must agree on.", labels=labels
    )
    for endpoint, report in reports.items():
        in_use = str(key_id_epoch(report.key_id)) if report.key_id else ""
        family.add_metric([endpoint, report.cluster, str(report.epoch), in_use, report.key_id_hash], 1.0)
    return family


def _add(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, float(value))
