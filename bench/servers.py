"""The servers that are compared: Keystead as an operator runs it, and two that only echo."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.process import SERVER_CORE, Server
from keystead.host.keyring import WAITING_LIMIT
from keystead.server.listener import HOT_THREADS

GOOD_STATUS = b"\x12\x02ok"
"""Field 2 of a StatusResponse, `healthz`, when all is well."""

STANDARD_LISTENER = {"GRPC_EXPERIMENTS": ""}
"""Keeps `keystead.server.tuning` from choosing grpcio's other listener."""


_AWAY = "127.0.0.1:9"
"""Nobody listens there."""
AWAY: dict[str, dict[str, object]] = {
    "vault-transit": {
        "address": f"http://{_AWAY}",
        "transitKey": "k8s",
        "auth": {"method": "token", "tokenFile": "/nonexistent/token"},
    },
    "aws-kms": {
        "keyID": "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "endpoint": f"http://{_AWAY}",
        "sharedCredentialsFile": "/nonexistent/credentials",
    },
    "gcp-kms": {
        "keyName": "projects/lab-1/locations/europe-west1/keyRings/keystead/cryptoKeys/k8s",
        "endpoint": _AWAY,
        "credentialsFile": "/nonexistent/credentials.json",
    },
}
"""Keys of remotes that do not answer, by provider."""


def keystead(
    directory: Path,
    name: str,
    *,
    core: int | None = SERVER_CORE,
    environment: dict[str, str] | None = None,
    away: Sequence[str] = (),
) -> Server:
    """Start `keystead serve` with a local key, metrics on HTTP and the default logging.

    `away` names remotes out of `AWAY`, whose keys take the place of the local one.
    """
    home = directory / name
    home.mkdir(exist_ok=True)
    key, path = home / "local.key", home / "kms.sock"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(32))
    keys = [{"name": provider, "provider": provider, **AWAY[provider]} for provider in away] or [
        {"name": "local", "provider": "local", "keyFile": str(key)}
    ]
    members = [{"key": entry["name"], "stage": "active"} for entry in keys]
    configuration = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": "bench",
        "stateDir": str(home / "state"),
        "keys": keys,
        "endpoints": [{"name": "main", "socket": f"unix://{path}", "epoch": 1, "members": members}],
        "observability": {"http": {"address": f"127.0.0.1:{_free_port()}"}},
    }
    file = home / "keystead.yaml"
    file.write_text(json.dumps(configuration))
    command = [sys.executable, "-m", "keystead", "serve", "--config", str(file)]
    return Server(name, command, path, core=core, environment=environment or {})


def echo(
    directory: Path,
    name: str,
    *,
    protobuf: bool = False,
    core: int | None = SERVER_CORE,
    environment: dict[str, str] | None = None,
) -> Server:
    """Start the echo server of `bench.echo`."""
    path = directory / f"{name}.sock"
    threads = str(WAITING_LIMIT + HOT_THREADS)
    command = [sys.executable, "-m", "bench.echo", str(path), threads, *(["--protobuf"] if protobuf else [])]
    return Server(name, command, path, core=core, environment=environment or {})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
