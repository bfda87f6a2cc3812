"""A node as its metrics show it: less than a status document has, from whoever may scrape it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from keystead.operate.admin import CannotTell
from keystead.operate.nodes import Endpoint, Key, Node

SEE_THERE = "the reason is in its log, in /readyz?verbose and in keystead status there"

Labels = Mapping[str, str]


class _Samples:
    """The samples of an exposition, by the name of their metric."""

    def __init__(self, text: str) -> None:
        """Raises `ValueError` for what is no exposition."""
        self._samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def all(self, name: str, **labels: str) -> list[tuple[Labels, float]]:
        """Those that carry these labels."""
        return [sample for sample in self._samples[name] if labels.items() <= sample[0].items()]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the first of them, if there is one."""
        return next((value for _, value in self.all(name, **labels)), None)


def node(text: str, url: str) -> Node:
    """Read the exposition that `url` gave. Raises `CannotTell`."""
    try:
        samples = _Samples(text)
        (build, _), *_ = samples.all("keystead_build_info")
        endpoints = {
            labels["endpoint"]: _endpoint(samples, labels) for labels, _ in samples.all("keystead_endpoint_info")
        }
    except (ValueError, KeyError):
        raise CannotTell(f"{url}: not the metrics of a keystead that can be compared: give its /metrics") from None
    clusters = {labels["cluster"] for labels, _ in samples.all("keystead_endpoint_info")}
    taken_up = samples.value("keystead_config_last_reload_successful")
    return Node(
        name=urlsplit(url).netloc,
        age=0.0,
        version=build["version"],
        cluster=", ".join(sorted(clusters)),
        problems=() if taken_up else (f"the file is refused; {SEE_THERE}",),
        endpoints=endpoints,
    )


def _endpoint(samples: _Samples, info: Labels) -> Endpoint:
    name = info["endpoint"]
    healthy = samples.value("keystead_kms_healthz", endpoint=name) == 1
    return Endpoint(
        name=name,
        healthy=healthy,
        healthz="ok" if healthy else f"not ok; {SEE_THERE}",
        configured_epoch=int(info["epoch"]),
        epoch_in_use=int(info["epoch_in_use"]) if info["epoch_in_use"] else None,
        key_id="",
        key_id_hash=info["key_id_hash"],
        refused=SEE_THERE if samples.value("keystead_configuration_refused", endpoint=name) else None,
        overdue=SEE_THERE if samples.value("keystead_kek_overdue", endpoint=name) else None,
        keys={labels["key"]: _key(samples, labels) for labels, _ in samples.all("keystead_key_info", endpoint=name)},
    )


def _key(samples: _Samples, info: Labels) -> Key:
    where = {"endpoint": info["endpoint"], "key": info["key"]}
    up = samples.value("keystead_remote_up", **where) == 1
    return Key(
        name=info["key"],
        provider=info["provider"],
        ref=None,
        stage=info["stage"],
        role=info["role"],
        up=up,
        proven=up and bool(samples.value("keystead_key_last_verified_timestamp_seconds", **where)),
        soak_left=samples.value("keystead_key_soak_left_seconds", **where) or 0.0,
        version=info["version"] or None,
        error=None if up or info["role"] != "online" else f"down; {SEE_THERE}",
    )
