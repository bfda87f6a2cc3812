"""Several control-plane nodes on one etcd, and the commands by which an operator looks at all of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .openbao import OpenBao
from .plugin import Plugin, configuration, endpoint
from .processes import until
from .remotes import keystead, program
from .stored import Stored, put_unchanged


@dataclass
class Node:
    """One control-plane node. `settings` are of its endpoint, `more` of its whole configuration."""

    name: str
    remotes: list[OpenBao]
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    settings: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def configure(self, epoch: int, **members: str) -> None:
        """Give the plugin these keys with these stages, by a reload if it runs."""
        keys = [remote.entry for remote in self.remotes if remote.name in members]
        served = endpoint("main", self.socket, epoch, members, **self.settings)
        new = {**configuration(self.plugin, keys, [served]), **self.more}
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    @property
    def key_id(self) -> str:
        return self.plugin.wait_for_status(self.socket).key_id

    def document(self) -> dict[str, Any]:
        """What `keystead status -o json` prints on this node."""
        document = json.loads(keystead("status", "--config", self.plugin.file, "-o", "json").stdout)
        assert isinstance(document, dict)
        return document | {"node": self.name}  # or all would have the name of this machine

    @property
    def main(self) -> dict[str, Any]:
        """What status says of the endpoint."""
        (served,) = self.document()["endpoints"]
        assert isinstance(served, dict)
        return served


@dataclass
class Fleet:
    """The nodes by name, and the operator's desk."""

    directory: Path
    binaries: Binaries
    etcd: Etcd
    credentials: Credentials
    remotes: list[OpenBao]
    settings: dict[str, Any]
    more: dict[str, Any]
    stored: Stored
    stack: ExitStack
    nodes: dict[str, Node] = field(default_factory=dict)

    def add(self, name: str) -> Node:
        """Set up a node that has not been started."""
        plugin, encryption = Plugin(self.directory, name, program(self.directory)), self.directory / f"{name}-enc.yaml"
        socket = plugin.socket()
        write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
        apiserver = ApiServer(
            self.binaries, self.directory, self.etcd, self.credentials, encryption, name=f"apiserver-{name}"
        )
        self.stack.callback(plugin.stop)
        self.stack.callback(apiserver.kill)
        node = Node(name, self.remotes, plugin, socket, apiserver, {**self.settings}, {**self.more})
        self.nodes[name] = node
        return node

    def start(self, name: str, epoch: int, **members: str) -> Node:
        """Set up a node and start it."""
        node = self.add(name)
        node.configure(epoch, **members)
        node.plugin.start(node.socket)
        node.apiserver.start()
        return node

    def compare(self, *command: str | Path, only: str = "") -> subprocess.CompletedProcess[str]:
        """Save what each node says, as over ssh, and run a command of `keystead` that compares."""
        saved = []
        for node in self.nodes.values():
            if only and node.name not in only.split():
                continue
            saved.append(self.directory / f"{node.name}.json")
            saved[-1].write_text(json.dumps(node.document()))
        done = keystead(*command, "--from", *saved)
        print(f"$ keystead {' '.join(map(str, command))} --from {' '.join(path.name for path in saved)}")
        print(f"{done.stdout}{done.stderr}(exit {done.returncode})\n")
        return done

    def agree(self, *command: str, timeout: float = 60, only: str = "") -> str:
        """Wait until a comparison succeeds, and return what it prints."""

        def succeeded() -> str | None:
            done = self.compare(*command, only=only)
            return done.stdout if done.returncode == 0 else None

        return until(succeeded, timeout, f"keystead {' '.join(command)} succeeds")

    def follows(self, node: Node, key_id: str) -> None:
        """Wait until a node's apiserver writes under a key_id."""
        prefix = f"{node.name}-follows-{len(self.stored.contents)}"
        (path,) = self.stored.create(node.apiserver.kube, prefix)

        def written() -> bool:
            node.apiserver.is_healthy()
            put_unchanged(node.apiserver.kube, path)
            return self.stored.sealed()[path].key_id == key_id

        until(written, 90, f"{node.apiserver.child.name} writes under {key_id}")


@contextmanager
def fleet(
    binaries: Binaries, directory: Path, remotes: list[str], settings: dict[str, Any], more: dict[str, Any]
) -> Iterator[Fleet]:
    """Run an etcd and real OpenBaos of these names, without any node."""
    with ExitStack() as stack:
        servers = [OpenBao(directory, name) for name in remotes]
        for server in servers:
            stack.callback(server.stop)
        etcd = Etcd(binaries, directory)
        stack.callback(etcd.stop)
        etcd.start()
        stored = Stored(etcd.reader)
        yield Fleet(directory, binaries, etcd, Credentials(directory), servers, settings, more, stored, stack)
