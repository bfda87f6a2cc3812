"""What the plugin tells about itself over HTTP: /livez, /readyz, /metrics, and /status for its owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from keystead.host.endpoint import Endpoint
from keystead.server.http import Page, Pages
from keystead.server.metrics import Metrics
from keystead.server.reload import Standing

Endpoints = Callable[[], Mapping[str, Endpoint]]
CurrentStanding = Callable[[], Standing]

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def public(metrics: Metrics, endpoints: Endpoints, standing: CurrentStanding) -> Pages:
    """The pages for everybody on this node."""
    return {
        "/livez": lambda _query: Page(200, "ok\n"),
        "/readyz": lambda query: readyz(endpoints(), standing(), verbose="verbose" in query),
        "/metrics": lambda _query: Page(200, metrics.render().decode(), _EXPOSITION),
    }


def readyz(endpoints: Mapping[str, Endpoint], standing: Standing, *, verbose: bool) -> Page:
    """200 while Status of every endpoint is ok; the reasons if it is not, or if they are asked for."""
    lines = []
    ready = True
    for name, endpoint in endpoints.items():
        report = endpoint.report()
        good = report.healthz == "ok"
        ready = ready and good
        lines.append(f"[{'+' if good else '-'}]endpoint {name} {report.state}: {report.healthz}")
        lines += [f"[-]endpoint {name} key {key.name}: {key.error}" for key in report.keys if key.error is not None]
        if report.refused is not None:
            lines.append(f"[-]endpoint {name} configuration: {report.refused}")
        if report.activation_unproven:
            lines.append(f"[-]endpoint {name} configuration: keys are active that this node never had as decrypt")
        if report.overdue is not None:
            lines.append(f"[-]endpoint {name} local KEK: {report.overdue}")
        if report.unsaved:
            lines.append(f"[-]endpoint {name} state directory: the record in use is not on disk")
    lines += _configuration(standing)
    lines.append("ready" if ready else "not ready")
    text = "\n".join(lines) if verbose or not ready else "ok"
    return Page(200 if ready else 503, text + "\n")


def _configuration(standing: Standing) -> Iterator[str]:
    """A refused file takes nothing out of service, so it is a line and no reason to be not ready."""
    for problem in standing.problems:
        yield f"[-]configuration file refused: {problem}"
