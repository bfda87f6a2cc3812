"""One `keystead serve` with an endpoint for each remote, its clients, and its metrics."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.metrics import total
from faults.remotes import Remote
from providers.vault.bao import free_port
from support.fakes import CLUSTER
from support.process import Process, serving
from support.serving import Client

COLD_DECRYPTS = "keystead_cold_decrypt_seconds_count"
PROVIDER_CALLS = "keystead_provider_request_duration_seconds_count"


@dataclass
class Plugin:
    """The directory of one plugin; `run` it as often as needed."""

    directory: Path
    remotes: Sequence[Remote]
    probe_interval: str = "1h"
    """Long, so that what is counted is there because of a Decrypt and not of a probe."""
    http: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    def document(self) -> dict[str, Any]:
        """The configuration."""
        endpoints = [
            {
                "name": remote.name,
                "socket": f"unix://{self._socket(remote)}",
                "epoch": 1,
                "members": [{"key": remote.name, "stage": "active"}],
            }
            for remote in self.remotes
        ]
        return {
            "apiVersion": "config.keystead.dev/v1alpha1",
            "kind": "KeysteadConfiguration",
            "cluster": CLUSTER,
            "stateDir": str(self.directory / "state"),
            "keys": [remote.key for remote in self.remotes],
            "endpoints": endpoints,
            "health": {"probeInterval": self.probe_interval},
            "observability": {"http": {"address": self.http}, "logging": {"format": "json"}},
        }

    @contextlib.contextmanager
    def run(self) -> Iterator[Running]:
        """Serve until the end of the block, from when every endpoint is ready."""
        self.directory.mkdir(exist_ok=True)
        config = self.directory / "config.yaml"
        config.write_text(json.dumps(self.document()))
        environment = {"HOME": str(self.directory)}
        for remote in self.remotes:
            environment |= remote.environment
        with contextlib.ExitStack() as stack:
            first, *_ = addresses = {remote.name: f"unix:{self._socket(remote)}" for remote in self.remotes}
            log = self.directory / "log"
            process = stack.enter_context(serving(["--config", str(config)], addresses[first], log, environment))
            clients = {name: Client(address) for name, address in addresses.items()}
            for client in clients.values():
                stack.callback(client.close)
            for client in clients.values():
                Process(process.popen, "", log, client).until_ok()
            yield Running(process, clients, self.http)

    def _socket(self, remote: Remote) -> Path:
        return self.directory / f"{remote.name}.sock"


@dataclass
class Running:
    """The process, with a client for each endpoint."""

    process: Process
    clients: dict[str, Client]
    http: str

    def metrics(self) -> str:
        """What a scrape gets."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def waiting(self, endpoint: str) -> int:
        """How many Decrypts wait for a remote now."""
        return int(total(self.metrics(), "keystead_decrypts_waiting", endpoint=endpoint))

    def flights(self, endpoint: str) -> int:
        """How many unwraps for Decrypts have ended, however."""
        ended = [*self.process.events("kek.unwrapped"), *self.process.events("kek.unwrap_failed")]
        return sum(event["endpoint"] == endpoint for event in ended)

    def until_flights(self, endpoint: str, count: int, seconds: float = 30.0) -> None:
        """Wait until that many unwraps have ended."""
        ends = time.monotonic() + seconds
        while self.flights(endpoint) < count:
            assert time.monotonic() < ends, f"{self.flights(endpoint)} of {count} unwraps have ended"
            time.sleep(0.05)


def until(condition: Callable[[], bool], seconds: float = 2.0) -> None:
    """Wait for what is about to be so: no longer than a call with the default time limit waits."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def results(exposition: str, name: str, **labels: str) -> Counter[str]:
    """Count the samples of a metric by their label `result`."""
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                counted[sample.labels["result"]] += int(sample.value)
    return counted
