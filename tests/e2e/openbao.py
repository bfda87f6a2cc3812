"""A real OpenBao that a scenario stops and starts again: its storage outlives its process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from providers.vault.bao import Bao, running

from .processes import free_port, until

TRANSIT_KEY = "k8s"
_SERVER = """
storage "raft" {{
  path = "{directory}/storage"
  node_id = "n1"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "k1"
  current_key = "file://{directory}/seal.key"
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
"""


class OpenBao:
    """One server with one Transit key. `entry` is what a configuration has of it; each node has a token of its own."""

    def __init__(self, directory: Path, name: str = "bao") -> None:
        """Start it in a directory of its own, and make the key."""
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        (self.directory / "seal.key").write_bytes(os.urandom(32))
        (self.directory / "storage").mkdir()
        port = free_port()
        self._address = f"http://127.0.0.1:{port}"
        self._configuration = _SERVER.format(directory=self.directory, port=port, cluster_port=free_port())
        self._process = contextlib.ExitStack()
        self.bao: Bao
        self._run()
        self.bao.token = self.bao.call("POST", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1})[
            "root_token"
        ]
        until(self._is_active, 30, f"{name} is active")
        self.bao.key(TRANSIT_KEY)
        self.token = self.directory / "token"
        self.token.write_text(self.bao.make_token(TRANSIT_KEY))

    @property
    def entry(self) -> dict[str, Any]:
        """The key in a configuration."""
        auth = {"method": "token", "tokenFile": str(self.token)}
        entry = {"name": self.name, "provider": "vault-transit", "address": self._address, "transitKey": TRANSIT_KEY}
        # Two servers with a key of the same path differ by their lineage only.
        return {**entry, "lineage": self.name, "auth": auth}

    def pause(self) -> None:
        """Stop it so that connections are accepted by the kernel and never answered."""
        os.kill(self.bao.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.bao.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, paused or not: connections are refused from then on."""
        self.bao.process.kill()
        self.bao.process.wait(10)

    def start(self) -> None:
        """Start it again on the same storage, and return once its key works."""
        token = self.bao.token
        self._process.close()
        self._run()
        self.bao.token = token
        until(self._works, 60, f"{self.name} wraps again")

    def stop(self) -> None:
        self._process.close()

    def rotate(self) -> None:
        """Add a version to the key."""
        self.bao.write(f"transit/keys/{TRANSIT_KEY}/rotate")

    def refuse_below(self, version: int) -> None:
        """Let the key unwrap nothing that is under a lower version."""
        self.bao.write(f"transit/keys/{TRANSIT_KEY}/config", min_decryption_version=version)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Have the key deleted, in the way that can be taken back, until the end of the block."""
        self.disable()
        try:
            yield
        finally:
            self.enable()

    def disable(self) -> None:
        """Delete the key in the way that can be taken back."""
        self.bao.call("DELETE", f"transit/keys/{TRANSIT_KEY}/soft-delete")

    def enable(self) -> None:
        self.bao.write(f"transit/keys/{TRANSIT_KEY}/soft-delete-restore")

    def _run(self) -> None:
        self.bao = self._process.enter_context(running(self.directory, self._configuration, self._address))

    def _is_active(self) -> bool:
        health = self.bao.call("GET", "sys/health")
        return bool(health["initialized"] and not health["sealed"] and not health["standby"])

    def _works(self) -> bool:
        return bool(self.bao.encrypt(TRANSIT_KEY, b"x"))
