"""Keystead as a process, and a client of its socket."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from .cluster import write_yaml
from .etcd import Sealed
from .metrics import total
from .processes import Child, free_port, until
from .wire import Message, encode

Configuration = dict[str, Any]


def command() -> list[str]:
    """Return the program to test: this tree's, unless KEYSTEAD_E2E_PLUGIN names an installed one."""
    return shlex.split(os.environ.get("KEYSTEAD_E2E_PLUGIN", "")) or [sys.executable, "-m", "keystead"]


class Plugin:
    """One `keystead serve` with its configuration file, its state directory and its log."""

    def __init__(self, directory: Path, name: str = "plugin", program: Sequence[str] = ()) -> None:
        """Name a plugin; `program` is what to run instead of the program to test."""
        self.directory = directory / name
        self.directory.mkdir()
        self.state = self.directory / "state"
        self.file = self.directory / "keystead.yaml"
        self.http = f"127.0.0.1:{free_port()}"
        self._log = directory / f"{name}.log"
        self.run(program or command())

    def socket(self, endpoint: str = "kms") -> str:
        """Return the address of a socket in this plugin's directory, as configurations write it."""
        path = self.directory / f"{endpoint}.sock"
        assert len(str(path)) < 108, f"{path} is too long for a socket; point TMPDIR to a shorter directory"
        return f"unix://{path}"

    def run(self, program: Sequence[str]) -> None:
        """Run another program from the next start on, with the same configuration, state and log."""
        self.child = Child(self.directory.name, [*program, "serve", "--config", self.file], self._log)

    def configure(self, configuration: Configuration) -> None:
        """Write the configuration file, in one step."""
        write_yaml(self.file, configuration)

    def start(self, *sockets: str) -> None:
        """Start, and wait until every given socket answers Status with `ok`.

        A socket file proves nothing: one that a killed plugin left behind looks the same.
        """
        self.child.start()
        for socket in sockets:
            self.wait_for_status(socket)

    def wait_for_status(self, socket: str, other_than: str | None = None, timeout: float = 30) -> Status:
        """Wait until Status is `ok`, and its key_id another one than given; return it."""

        def good() -> Status | None:
            answer = status(socket)
            return answer if answer.healthz == "ok" and answer.key_id != other_than else None

        return until(good, timeout, f"{self.child.name}: a good Status other than {other_than}", self.child)

    def wait_until_ready(self, timeout: float = 30) -> None:
        """Wait until /readyz finds every endpoint ready, whichever version of KMS it serves."""
        until(self._is_ready, timeout, f"{self.child.name}: /readyz", self.child)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as not_ready:
            not_ready.close()
            return False

    def reload(self, configuration: Configuration) -> None:
        """Edit the configuration file, tell the process, and wait until its log says that it has taken it up."""
        before = self._reloads()
        self.configure(configuration)
        self.child.signal(signal.SIGHUP)
        until(lambda: self._reloads() > before, 10, f"{self.child.name}: config.reloaded in its log", self.child)

    def _reloads(self) -> int:
        log = self.child.log.read_text(errors="replace")
        assert "config.rejected" not in log, log[-2000:]
        return log.count("config.reloaded")

    def calls(self, method: str, code: str = "OK") -> int:
        """Count the calls of `v2/Status`, `v1beta1/Encrypt` and the like on all sockets since the process started."""
        service, _, name = method.partition("/")
        labels = {"grpc_service": f"{service}.KeyManagementService", "grpc_method": name, "grpc_code": code}
        return self.metric("grpc_server_handled_total", **labels)

    def metric(self, name: str, **labels: str) -> int:
        """Return the sum of a metric's samples that carry these labels; 0 if there is none."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=5) as answer:
            return int(total(answer.read().decode(), name, **labels))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name in the log, over all starts of the process."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def stop(self) -> None:
        self.child.terminate()

    def kill(self) -> None:
        self.child.kill()


def configuration(plugin: Plugin, keys: list[dict[str, Any]], endpoints: list[dict[str, Any]]) -> Configuration:
    """Return a configuration. /metrics is served on a port that nothing else uses."""
    return {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": "e2e",
        "stateDir": str(plugin.state),
        "keys": keys,
        "endpoints": endpoints,
        "observability": {"http": {"address": plugin.http}},
    }


def local_key(directory: Path, name: str) -> dict[str, Any]:
    """Make a key file unless it is there, and return its entry for `keys:`."""
    path = directory / f"{name}.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return {"name": name, "provider": "local", "keyFile": str(path)}


def endpoint(name: str, socket: str, epoch: int, members: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return an entry for `endpoints:` from key names and their stages, without the waits of a rollout."""
    stages = [{"key": key, "stage": stage} for key, stage in members.items()]
    made: dict[str, Any] = {"name": name, "socket": socket, "epoch": epoch, "members": stages, "kmsVersions": ["v2"]}
    return made | {"soak": "0s", "versionDelay": "0s"} | more


@dataclass(frozen=True)
class Status:
    """The answer of the KMS v2 call of that name."""

    version: str
    healthz: str
    key_id: str


def status(socket: str) -> Status:
    """Ask for Status; raise `CallFailed` for a gRPC error."""
    answer = Message.parse(_call(socket, "Status", b""))
    return Status(answer.text(1), answer.text(2), answer.text(3))


def decrypt(socket: str, sealed: Sealed) -> bytes:
    """Ask for the seed of one value, as an apiserver does that reads it for the first time."""
    annotations = [(4, encode((1, name.encode()), (2, value))) for name, value in sealed.annotations.items()]
    request = encode((1, sealed.seed), (2, b"e2e"), (3, sealed.key_id.encode()), *annotations)
    return Message.parse(_call(socket, "Decrypt", request)).raw(1)


class CallFailed(ConnectionError):
    """The plugin answered with a gRPC error, or not at all."""

    def __init__(self, method: str, error: grpc.RpcError) -> None:
        assert isinstance(error, grpc.Call)
        super().__init__(f"{method}: {error.code().name}: {error.details()}")
        self.code: grpc.StatusCode = error.code()


def _call(socket: str, method: str, request: bytes) -> bytes:
    """Make one KMS v2 call over a connection of its own."""
    path = socket.removeprefix("unix://")
    target = f"unix-abstract:{path[2:]}" if path.startswith("/@") else f"unix:{path}"
    with grpc.insecure_channel(target) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/v2.KeyManagementService/{method}")
        try:
            return call(request, timeout=3)
        except grpc.RpcError as error:
            raise CallFailed(method, error) from error
