"""`keystead serve` as a process of its own, over the provider `local` or over a fake one whose pace a file sets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from support.serving import Client

KEYSTEAD = Path(sys.executable).with_name("keystead")

_FAKE_PROVIDER = '''
"""A remote key in memory that takes as long as its pace file says: {"unwrap": seconds, "open": seconds}."""
import json, time
from pathlib import Path
from typing import Literal
from keystead._core import AeadKey
from keystead.provider import Capabilities, InvalidCiphertext, Provider, ProviderConfig, Wrapped
from keystead.errors import NotAuthentic

class PacedConfig(ProviderConfig):
    provider: Literal["hooked"]
    paceFile: Path

class Paced(Provider[PacedConfig]):
    api = 1
    config_type = PacedConfig
    capabilities = Capabilities(binds_context=True, has_versions=False, authenticated_wrap=True, max_blob=72)
    def _pause(self, operation):
        try:
            time.sleep(json.loads(self.config.paceFile.read_text()).get(operation, 0))
        except FileNotFoundError:
            pass
    def open(self, deadline):
        self._pause("open")
        self.key = AeadKey(bytearray(range(32)))
        return "hooked"
    def current_version(self, deadline):
        return ""
    def wrap(self, kek, context, version, deadline):
        return Wrapped(self.key.seal(kek, context.aad), "")
    def unwrap(self, blob, context, version, deadline):
        self._pause("unwrap")
        try:
            return self.key.open(blob, context.aad)
        except NotAuthentic as exc:
            raise InvalidCiphertext("did not wrap this") from exc
    def close(self):
        pass
'''


def install_paced_provider(directory: Path) -> Path:
    """Put a distribution that offers the provider `hooked` into a directory for PYTHONPATH."""
    site = directory / "site"
    (site / "paced_provider-1.dist-info").mkdir(parents=True)
    (site / "paced_provider.py").write_text(_FAKE_PROVIDER)
    (site / "paced_provider-1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: paced-provider\nVersion: 1\n"
    )
    (site / "paced_provider-1.dist-info/entry_points.txt").write_text(
        "[keystead.providers]\nhooked = paced_provider:Paced\n"
    )
    return site


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

    def until_ok(self, seconds: float = 10.0) -> str:
        """Wait until Status says ok, and return its key_id."""
        return self.until_key_id(lambda key_id: bool(key_id), seconds)

    def until_key_id(self, wanted: Any, seconds: float = 10.0) -> str:
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

    def until_event(self, name: str, count: int = 1, seconds: float = 10.0) -> dict[str, Any]:
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

    def wait(self, seconds: float = 15.0) -> int:
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
    arguments: list[str], socket: str, log_file: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run `keystead serve ARGUMENTS`; `socket` is the gRPC address to call. Killed at the end if it still runs."""
    with log_file.open("ab") as log:
        popen = subprocess.Popen(
            [str(KEYSTEAD), "serve", *arguments],
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

    def __post_init__(self) -> None:
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(bytes(range(32)))
        self.site = install_paced_provider(self.directory)

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
        return self.directory / "config.yaml"

    def pace(self, **seconds: float) -> None:
        """Set how long the fake remote takes for each operation."""
        self.pace_file.write_text(json.dumps(seconds))

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
            "cluster": "test",
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
    def run(self, *arguments: str, log: str = "log", environment: Mapping[str, str] | None = None) -> Iterator[Process]:
        """Serve the configuration as it is on disk."""
        paths = {"PYTHONPATH": str(self.site), **(environment or {})}
        command = ["--config", str(self.config), *arguments]
        with serving(command, f"unix:{self.socket}", self.directory / log, paths) as process:
            yield process
