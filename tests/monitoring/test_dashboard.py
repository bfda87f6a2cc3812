"""Every panel of the dashboard shows something of a running plugin, asked of a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.operate.monitoring.alerts import alerts, rules
from keystead.operate.monitoring.dashboard import HEIGHT, PANELS, WIDTH, dashboard
from monitoring.programs import program
from support.http import free_port, get
from support.process import PATIENCE, Files
from support.serving import short_directory

SILENT = {
    "Agreement with the API servers": "needs metrics of a kube-apiserver",
    "Key_ids that are still read": "needs metrics of a kube-apiserver",
    "Calls of remotes that fail": "none fails",
    "Credentials that end": "none ends",
}
"""Panels that have nothing to show here."""
RANGE = "1m"


def test_the_dashboard_is_json_of_panels_that_do_not_overlap() -> None:
    tree: dict[str, Any] = json.loads(dashboard())
    assert len(tree["panels"]) == len(PANELS)
    places = set()
    for panel in tree["panels"]:
        place = panel["gridPos"]
        assert (place["w"], place["h"], place["x"] + WIDTH <= 24) == (WIDTH, HEIGHT, True)
        places.add((place["x"], place["y"]))
        assert panel["type"] in ("timeseries", "table", "stat")
        assert panel["description"].endswith(".")
        assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert len(places) == len(PANELS)
    assert len({panel["id"] for panel in tree["panels"]}) == len(PANELS)
    assert len({panel.title for panel in PANELS}) == len(PANELS)


class Prometheus:
    """A server that scrapes one target each second."""

    def __init__(self, directory: Path, target: int) -> None:
        self._port = free_port()
        (directory / "alerts.yaml").write_text(rules())
        (directory / "prometheus.yaml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["alerts.yaml"],
                    "scrape_configs": [
                        {"job_name": "keystead", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
                    ],
                }
            )
        )
        command = [
            str(program("prometheus")),
            f"--config.file={directory}/prometheus.yaml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._log = directory / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def query(self, expression: str) -> list[Any]:
        """The result of an instant query, now."""
        result: list[Any] = self._ask(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return result

    def rules(self) -> list[Any]:
        """The rules, each with its state and health."""
        return [rule for group in self._ask("/api/v1/rules")["groups"] for rule in group["rules"]]

    def until(self, expression: str, count: int = 1) -> None:
        """Wait until a query has that many results."""
        ends = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                if len(self.query(expression)) >= count:
                    return
            except OSError:
                pass
            assert time.monotonic() < ends, f"{expression}: {self._log.read_text()[-2000:]}"
            time.sleep(0.2)

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.mark.slow
def test_every_panel_returns_series_and_every_rule_is_evaluated(directory: Path) -> None:
    program("prometheus")
    port = free_port()
    files = Files(directory, provider="fake")
    files.options["observability"] = {"http": {"address": f"127.0.0.1:{port}"}, "logging": {"format": "json"}}
    files.write()
    with files.run() as process:
        process.until_ok()
        process.until_event("server.started")
        prometheus = Prometheus(directory, port)
        try:
            prometheus.until('up{job="keystead"} == 1')
            for _ in range(3):  # counters have to grow between two scrapes
                process.client.decrypt(process.client.seal(b"seed"))
                scraped = len(prometheus.query("keystead_build_info[1m]")[0]["values"])
                prometheus.until(f"count_over_time(keystead_build_info[1m]) > {scraped + 1}")
            shown = {panel.title: [_series(prometheus, query) for query, _ in panel.queries] for panel in PANELS}
            for title, counts in shown.items():
                print(f"{title:36} {counts}")
            assert {title for title, counts in shown.items() if not all(counts)} == SILENT.keys()
            found = {rule["name"]: rule for rule in prometheus.rules()}
            assert found.keys() == {alert.name for alert in alerts()}
            assert {rule["health"] for rule in found.values()} == {"ok"}
            assert {name for name, rule in found.items() if rule["state"] != "inactive"} <= {"KeysteadNoStatusPolls"}
            assert get(port, "/livez") == (200, "ok\n")
        finally:
            prometheus.stop()


def _series(prometheus: Prometheus, query: str) -> int:
    return len(prometheus.query(re.sub(r"\$__rate_interval", RANGE, query)))
