"""Three real OpenBao servers with replicated storage, of which the one that leads is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.expected import LEADER_KILLED
from faults.measure import Measured, measure
from faults.plugin import Plugin
from faults.remotes import Remote
from keystead.providers._vault.config import VaultTransitConfig
from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault.bao import Bao
from providers.vault.raft import eventually, three_servers

KEY = "k8s"


class Cluster(Remote):
    """The plugin knows all three and asks the leader first; its peer knows the others."""

    name = "vault-transit"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        directory.mkdir()
        self.nodes = self.stack.enter_context(three_servers(directory))
        leader, *others = self.nodes
        leader.key(KEY)
        token = leader.make_token(KEY)
        (directory / "token").write_text(token)
        eventually(lambda: all(_knows(node, token) for node in others), "the key and the token on all servers")
        self.key = self._entry(directory, self.nodes)
        self.peer = VaultTransitProvider(VaultTransitConfig.model_validate(self._entry(directory, others)))
        self.open()

    def _entry(self, directory: Path, nodes: list[Bao]) -> dict[str, Any]:
        auth = {"method": "token", "tokenFile": str(directory / "token")}
        addresses = [node.address for node in nodes]
        return {"name": self.name, "provider": self.name, "addresses": addresses, "transitKey": KEY, "auth": auth}

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[None]:
        assert name == LEADER_KILLED
        self.nodes[0].process.kill()
        self.nodes[0].process.wait(5)
        yield


def measure_dead_leader(directory: Path) -> Measured:
    """Start three servers and a plugin, kill the leader, and measure."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(directory / "cluster")
        stack.callback(cluster.stack.close)
        running = stack.enter_context(Plugin(directory / "of-cluster", [cluster]).run())
        return measure(running, [cluster], cluster, LEADER_KILLED)


def _knows(node: Bao, token: str) -> bool:
    return bool(node.call("GET", f"transit/keys/{KEY}", token=token)["data"]["latest_version"] == 1)
