"""Reports of endpoints as a test wants them, and the documents and metrics that a plugin makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from keystead._core import key_id
from keystead.config import Configuration, load_text
from keystead.host.endpoint import Endpoint
from keystead.host.report import KeyReport, RecordReport, Report, WrapReport
from keystead.server import status
from keystead.server.metrics import Metrics
from keystead.server.reload import Standing

THEN = 1_790_000_000.0
"""Unix seconds at which the nodes of tests say what they say."""
STANDING = Standing("/etc/keystead/config.yaml", "ab" * 32, datetime.fromtimestamp(THEN - 3600, UTC))


def key(name: str, stage: str = "active", **changes: Any) -> KeyReport:
    """A key that works and is proven."""
    return replace(
        KeyReport(
            name=name,
            provider="local",
            ref=name,
            stage=stage,
            role="online",
            up=True,
            since=THEN - 3000,
            error=None,
            version="1" if stage == "active" else None,
            observed_version="1",
            refused_versions=(),
            proven=True,
            proven_at=THEN - 40,
            last_success=THEN - 40,
            staged_since=None,
            soak_left=0.0,
            credential_expiry=None,
        ),
        **changes,
    )


def endpoint(*keys: KeyReport, epoch: int = 1, in_use: int | None = None, name: str = "main", **changes: Any) -> Report:
    """An endpoint that is well, under the key_id that its active keys and its epoch give."""
    members = [(one.provider, str(one.ref), one.version or "1", 1) for one in keys if one.stage == "active"]
    written = key_id("prod", in_use if in_use is not None else epoch, members)
    wraps = tuple(WrapReport(scheme, ref, version, "online") for scheme, ref, version, _ in members)
    return replace(
        Report(
            name=name,
            cluster="prod",
            epoch=epoch,
            state="ok",
            since=THEN - 3000,
            healthz="ok",
            key_id=written,
            refused=None,
            activation_unproven=False,
            overdue=None,
            record=RecordReport("5c" * 32, written, THEN - 3000, 7, True, wraps),
            keys=keys,
            keks=2,
            waiting=0,
        ),
        **changes,
    )


def configuration(*reports: Report) -> Configuration:
    """A configuration with these endpoints, as far as a status shows it."""
    names = dict.fromkeys(one.name for report in reports for one in report.keys)
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": "prod",
        "stateDir": "/var/lib/keystead",
        "keys": [{"name": name, "provider": "local", "keyFile": f"/etc/keystead/{name}.key"} for name in names],
        "endpoints": [
            {
                "name": report.name,
                "socket": f"unix:///run/keystead/{report.name}.sock",
                "epoch": report.epoch,
                "members": [{"key": one.name, "stage": one.stage} for one in report.keys],
            }
            for report in reports
        ],
    }
    return load_text(json.dumps(document), "test")


def document(*reports: Report, node: str = "cp-1", standing: Standing = STANDING, **changes: Any) -> dict[str, Any]:
    """The status document of a node, through JSON as it travels."""
    made = status.document(configuration(*reports), {one.name: one for one in reports}, standing, THEN - 4000)
    travelled: dict[str, Any] = json.loads(status.encode(made | {"node": node, "time": THEN, "pid": 7} | changes))
    return travelled


def exposition(*reports: Report, standing: Standing = STANDING) -> str:
    """What /metrics of a node shows."""
    shown = {one.name: SimpleNamespace(report=lambda one=one: one) for one in reports}
    metrics = Metrics()
    metrics.watch(lambda: cast("Mapping[str, Endpoint]", shown), lambda: standing)
    return metrics.render().decode()
