"""Counts and times in Prometheus' form. Labels are bounded: no key id, path, uid or error text ever becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keystead import __version__, errors
from keystead.host.endpoint import Endpoint
from keystead.server.endpoint_metrics import EndpointCollector
from keystead.server.reload import Standing

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5)
_UNARY = "unary"
_UNKNOWN: dict[type[errors.KeysteadError], str] = {
    errors.NoConfiguredMember: "no_configured_member",
    errors.ClusterNotAccepted: "cluster_not_accepted",
    errors.KeyNotFound: "key_not_found",
    errors.MalformedRequest: "not_keystead",
}


class Metrics:
    """All metrics of one process; the `Observer` of its endpoints."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        # The names and labels of go-grpc-prometheus, which dashboards know, and the endpoint, which one process may
        # have several of.
        labels = ("endpoint", "grpc_type", "grpc_service", "grpc_method")
        self._handled = Counter(
            "grpc_server_handled", "RPCs completed on the server.", (*labels, "grpc_code"), registry=self.registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Time to answer an RPC.", labels, buckets=_BUCKETS, registry=self.registry
        )
        self._cold = Histogram(
            "keystead_cold_decrypt_seconds",
            "Decrypts that waited for a remote unwrap, by how it ended.",
            ("endpoint", "result"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._calls = Histogram(
            "keystead_provider_request_duration_seconds",
            "Calls of a provider, by what they were and how they ended.",
            ("key", "provider", "operation", "result"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._stuck = Gauge(
            "keystead_provider_calls_stuck",
            "Calls of a provider that have not ended although their time is over. At 32 the key makes no more.",
            ("key",),
            registry=self.registry,
        )
        self._unknown = Counter(
            "keystead_unknown_key_requests",
            "Decrypts of what this endpoint has no key for, by why.",
            ("endpoint", "reason"),
            registry=self.registry,
        )
        self._last_status = Gauge(
            "keystead_last_status_timestamp_seconds",
            "When Status was last asked for; 0 if never.",
            ("endpoint",),
            registry=self.registry,
        )
        self._minted = Counter("keystead_keks_minted", "Local KEKs made.", ("endpoint",), registry=self.registry)
        self._persist_failed = Gauge(
            "keystead_state_persist_failed",
            "1 while the record of the local KEK in use is not on disk.",
            ("endpoint",),
            registry=self.registry,
        )
        build = Gauge("keystead_build_info", "Version of this process.", ("version",), registry=self.registry)
        build.labels(__version__).set(1)

    def watch(
        self, endpoints: Callable[[], Mapping[str, Endpoint]], standing: Callable[[], Standing] | None = None
    ) -> None:
        """Read the endpoints' state, and that of the configuration file, at each scrape."""
        self.registry.register(EndpointCollector(endpoints))
        if standing is not None:
            self.registry.register(_ConfigurationCollector(standing))

    def call(self, endpoint: str, service: str, method: str) -> Callable[[float], None]:
        """A function that counts one success and its seconds, with every label looked up beforehand."""
        count = self._handled.labels(endpoint, _UNARY, service, method, "OK").inc
        observe = self._seconds.labels(endpoint, _UNARY, service, method).observe
        asked = self._last_status.labels(endpoint).set_to_current_time if method == "Status" else None

        def succeeded(seconds: float) -> None:
            count()
            observe(seconds)
            if asked is not None:
                asked()

        return succeeded

    def refused(self, endpoint: str, error: errors.KeysteadError) -> None:
        """Count a Decrypt of what is under no key of this endpoint: perhaps one that was taken away too early."""
        reason = _UNKNOWN.get(type(error))
        if reason is not None:
            self._unknown.labels(endpoint, reason).inc()

    def failed_call(self, endpoint: str, service: str, method: str, code: str, seconds: float) -> None:
        """Count one failure."""
        self._handled.labels(endpoint, _UNARY, service, method, code).inc()
        self._seconds.labels(endpoint, _UNARY, service, method).observe(seconds)

    def persisted(self, endpoint: str, ok: bool) -> None:
        self._persist_failed.labels(endpoint).set(0 if ok else 1)

    def minted(self, endpoint: str) -> None:
        self._minted.labels(endpoint).inc()

    def cold(self, endpoint: str, seconds: float, error: errors.KeysteadError | None) -> None:
        self._cold.labels(endpoint, "OK" if error is None else type(error).__name__).observe(seconds)

    def called(
        self, key: str, provider: str, operation: str, seconds: float, error: errors.KeysteadError | None
    ) -> None:
        self._calls.labels(key, provider, operation, "OK" if error is None else type(error).__name__).observe(seconds)

    def stuck(self, key: str, count: int) -> None:
        self._stuck.labels(key).set(count)

    def render(self) -> bytes:
        """The exposition that a scrape gets."""
        return generate_latest(self.registry)


class _ConfigurationCollector(Collector):
    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing

    def collect(self) -> Iterable[Metric]:
        standing = self._standing()
        successful = GaugeMetricFamily(
            "keystead_config_last_reload_successful", "1 while the configuration seen last is the one in use."
        )
        successful.add_metric([], float(standing.successful))
        loaded = GaugeMetricFamily(
            "keystead_config_last_reload_success_timestamp_seconds", "When the configuration in use was taken up."
        )
        loaded.add_metric([], standing.loaded_at.timestamp())
        return [successful, loaded]
