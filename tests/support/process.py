"""`keystead serve` as a process of its own, over the provider `local` or over a fake one whose pace a file sets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from support.fakes import CLUSTER
from support.serving import Client

PATIENCE = 30.0
"""Seconds to wait for what takes a fraction of one on a machine that has nothing else to do."""
KEYSTEAD = Path(sys.executable).with_name("keystead")

TESTS = Path(__file__).parents[1]


def install_paced_provider(site: Path) -> None:
    """Put a distribution that offers the provider `fake` into a directory for PYTHONPATH."""
    metadata = site / "paced_provider-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: paced-provider\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[keystead.providers]\nfake = support.paced:PacedProvider\n")


@dataclass
class Process:
    """One `keystead serve`. Its standard error goes to a file."""

    popen: subprocess.Popen[bytes]
    address: str
    log_file: Path
    client: Client

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def until_ok(self, seconds: float = PATIENCE) -> str:
        """Wait until Status says ok, and return its key_id."""
        return self.until_key_id(bool, seconds)

    def until_key_id(self, wanted: Callable[[str], bool], seconds: float = PATIENCE) -> str:
        """Wait until Status says ok with a key_id that satisfies `wanted`, and return it."""
        ends = time.monotonic() + seconds
        seen = "nothing"
        while time.monotonic() < ends:
            assert self.popen.poll() is None, self.log
            with contextlib.suppress(grpc.RpcError):
                status = self.client.status(timeout=1.0)
                seen = f"{status.healthz} {status.key_id}"
                if status.healthz == "ok" and wanted(status.key_id):
                    return status.key_id
            time.sleep(0.01)
        raise AssertionError(f"Status said {seen} after {seconds} s\n{self.log}")

    def until_event(self, name: str, count: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until the log has an event that often, and return the last one."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            found = self.events(name)
            if len(found) >= count:
                return found[-1]
            time.sleep(0.01)
        raise AssertionError(f"no {count} events {name} within {seconds} s\n{self.log}")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the end, and return the exit code."""
        return self.popen.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        pages = int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def serving(
    arguments: list[str],
    socket: str,
    log_file: Path,
    environment: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Process]:
    """Run `keystead serve ARGUMENTS`; `socket` is the gRPC address to call. Killed at the end if it still runs.

    `under` is a command that runs it and becomes it, such as a tracer.
    """
    with log_file.open("ab") as log:
        popen = subprocess.Popen(
            [*under, str(KEYSTEAD), "serve", *arguments],
            stderr=log,
            stdout=log,
            env={**clean_environment(), **(environment or {})},
        )
    client = Client(socket)
    try:
        yield Process(popen, socket, log_file, client)
    finally:
        client.close()
        if popen.poll() is None:
            popen.kill()
        popen.wait()


def clean_environment() -> dict[str, str]:
    """The environment without what would configure Keystead."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("KEYSTEAD", "GRPC"))}


@dataclass
class Files:
    """A directory with a key, a configuration and a socket, for processes that start one after the other."""

    directory: Path
    provider: str = "local"
    options: dict[str, Any] = field(default_factory=dict)
    config_name: str = "config.yaml"

    def __post_init__(self) -> None:
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(bytes(range(32)))
        install_paced_provider(self.directory / "site")

    @property
    def key_file(self) -> Path:
        return self.directory / "lab.key"

    @property
    def pace_file(self) -> Path:
        return self.directory / "pace"

    @property
    def socket(self) -> Path:
        return self.directory / "kms.sock"

    @property
    def config(self) -> Path:
        return self.directory / self.config_name

    def pace(self, **seconds: float) -> None:
        """Set how long the fake remote takes for each operation."""
        new = self.pace_file.with_suffix(".new")
        new.write_text(json.dumps(seconds))
        new.rename(self.pace_file)

    def document(self, **changes: Any) -> dict[str, Any]:
        """The configuration as a tree; `changes` are fields of its endpoint."""
        key: dict[str, Any] = {"name": "lab", "provider": self.provider}
        key |= {"keyFile": str(self.key_file)} if self.provider == "local" else {"paceFile": str(self.pace_file)}
        endpoint = {
            "name": "main",
            "socket": f"unix://{self.socket}",
            "kmsVersions": ["v2", "v1beta1"],
            "epoch": 1,
            "members": [{"key": "lab", "stage": "active"}],
        }
        return {
            "apiVersion": "config.keystead.dev/v1alpha1",
            "kind": "KeysteadConfiguration",
            "cluster": CLUSTER,
            "stateDir": str(self.directory / "state"),
            "keys": [key],
            "endpoints": [endpoint | changes],
            "observability": {"http": {"address": ""}, "logging": {"format": "json"}},
        } | self.options

    def write(self, document: dict[str, Any] | None = None) -> Path:
        """Write the configuration; JSON is YAML."""
        self.config.write_text(json.dumps(document if document is not None else self.document()))
        return self.config

    @contextlib.contextmanager
    def run(
        self,
        *arguments: str,
        log: str = "log",
        environment: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> Iterator[Process]:
        """Serve the configuration as it is on disk."""
        paths = {"PYTHONPATH": f"{self.directory}/site:{TESTS}", **(environment or {})}
        command = ["--config", str(self.config), *arguments]
        with serving(command, f"unix:{self.socket}", self.directory / log, paths, under) as process:
            yield process
