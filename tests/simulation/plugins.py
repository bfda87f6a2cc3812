"""The same steps on real processes: plugins, two OpenBao servers and one etcd.

What an operator may release is decided by the rules of the exhaustive model here too, fed with what the admin sockets
of the plugins say. Time cannot be turned, so spans are short: a soak of a second, a probe each second.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from keystead._core import Record
from keystead._proto.v2 import api_pb2 as v2
from model import rollout
from providers.vault.bao import Bao
from simulation.release import Release
from support.etcd_server import EtcdServer
from support.http import get
from support.process import Files, Process
from support.serving import Sealed, decrypt_request

PATIENCE = 30.0
RIGHTS = ("transit/encrypt/{}=update", "transit/decrypt/{}=update")
MAY_PASS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Node:
    """A directory with a configuration, the process that serves it, and the API server's seed."""

    def __init__(self, number: int, directory: Path, servers: dict[str, Bao], release: Release) -> None:
        directory.mkdir()
        self.number = number
        self.files = Files(directory)
        self.seed: Sealed | None = None
        self.permitted = False
        """Whether it may use the new key."""
        self.release = release
        self._servers = servers
        self._stack = contextlib.ExitStack()
        for name, server in servers.items():
            server.policy(self._policy(name), f"transit/keys/{name}=read")
            (directory / f"{name}.token").write_text(server.make_token(self._policy(name)) + "\n")
        self.permit(rollout.OLD)
        self.configure(release)
        self.start()

    def permit(self, key: str) -> None:
        """Let this node use a key."""
        self.permitted = key == rollout.NEW
        rights = (right.format(key) for right in RIGHTS)
        self._servers[key].policy(self._policy(key), f"transit/keys/{key}=read", *rights)

    def configure(self, release: Release) -> None:
        """Write the configuration; a running plugin takes it up by itself."""
        self.release = release
        config = release.config
        members = [
            {"key": key, "stage": "active" if key in config.active else "decrypt"} for key in sorted(config.keys)
        ]
        document = self.files.document(
            kmsVersions=["v2"], epoch=release.epoch, soak="1s", versionDelay="1s", members=members
        )
        document["keys"] = [
            {
                "name": key,
                "provider": "vault-transit",
                "address": self._servers[key].address,
                "transitKey": key,
                "auth": {"method": "token", "tokenFile": str(self.files.directory / f"{key}.token")},
            }
            for key in sorted(config.keys)
        ]
        document["health"] = {"probeInterval": "1s"}
        new = self.files.config.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.rename(self.files.config)

    def start(self) -> None:
        self.process: Process = self._stack.enter_context(self.files.run())
        until(
            self.answers, lambda: f"node {self.number} answers, {self.process.popen.poll()}: {self.process.log[-4000:]}"
        )

    def kill(self) -> None:
        self.process.popen.kill()
        self._stack.close()

    def stop(self) -> None:
        self._stack.close()

    def lose_state(self) -> None:
        shutil.rmtree(self.files.directory / "state", ignore_errors=True)

    def answers(self) -> bool:
        """Whether Status and the admin socket answer."""
        with contextlib.suppress(grpc.RpcError, OSError):
            self.process.client.status(timeout=1.0)
            return get(self.files.directory / "admin.sock", "/status")[0] == 200
        return False

    def report(self) -> dict[str, Any]:
        """What the plugin says of its endpoint."""
        (endpoint,) = json.loads(get(self.files.directory / "admin.sock", "/status")[1])["endpoints"]
        found: dict[str, Any] = endpoint
        return found

    def _policy(self, key: str) -> str:
        return f"{key}-{self.number}"


class Cluster:
    """Plugins over two servers and one etcd."""

    def __init__(self, directory: Path, servers: dict[str, Bao], etcd: EtcdServer, nodes: int, seed: int) -> None:
        self.rules = rollout.Rules()
        self.servers = servers
        self.etcd = etcd
        self.released = Release(self.rules.configs[0], 1)
        self.backup: dict[bytes, bytes] = {}
        self.sealed: set[str] = set()
        """Names of the servers that answer nothing."""
        self.happened: Counter[str] = Counter()
        self.reads = 0
        self._chance = random.Random(seed)
        self._objects = 0
        for name, server in servers.items():
            server.key(name)
        self.nodes = [Node(number, directory / f"cp-{number}", servers, self.released) for number in range(nodes)]
        for node in self.nodes:
            until(lambda node=node: self.write(node), "the first write")  # type: ignore[misc]

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def step(self) -> str:
        """Let something happen; return what."""
        events: dict[str, tuple[int, Callable[[], object]]] = {
            "a release": (4, self.release),
            "a reload": (5, lambda: self.take_up(self.any_node(lambda node: node.release != self.released))),
            "a write": (3, lambda: self.write(self.any_node())),
            "everything is rewritten, and older backups are deleted": (3, lambda: self.migrate(self.any_node())),
            "a backup": (1, lambda: self.backup.update(self.table())),
            "a restore": (1, self.restore),
            "a plugin is killed": (2, lambda: self.restart(self.any_node())),
            "a node is replaced": (1, lambda: self.replace(self.any_node())),
            "a node gets permission": (2, lambda: self.permit(self.any_node(lambda node: not node.permitted))),
            "a key is rotated": (1, self.rotate),
            "a KMS is away, or back": (1, self.toggle),
        }
        (name,) = self._chance.choices(list(events), [weight for weight, _ in events.values()])
        events[name][1]()
        self.happened[name] += 1
        return name

    def check(self) -> None:
        """Invariant I1, and that Status answers: raise `AssertionError` if a node cannot decrypt what is in etcd."""
        for node in self.nodes:
            report = node.report()
            able = {key["name"] for key in report["keys"]}
            for request in set(self.table().values()):
                named = keys_of(request)
                due = not named & able or named & able - self.sealed
                try:
                    answer = self._decrypt(node, request, due=bool(due))
                except grpc.RpcError as exc:
                    if due:
                        told = f"{exc.code()}: {exc.details()}"
                        raise AssertionError(f"node {node.number} cannot decrypt {sorted(named)}: {told}") from None
                else:
                    self.reads += 1
                    assert answer.startswith(b"seed "), "it decrypts to something else"
            assert node.process.client.status(timeout=3.0).version == "v2"

    def settle(self) -> None:
        """Mend everything, and wait until all nodes agree on what was released last."""
        for name in sorted(self.sealed):
            self.servers[name].unseal()
        self.sealed.clear()
        for node in self.nodes:
            node.permit(rollout.NEW)
            self.take_up(node)

        def agrees() -> bool:
            reports = [node.report() for node in self.nodes]
            good = all(one["healthz"] == "ok" and one["state"] == "ok" and one["refused"] is None for one in reports)
            return good and len({one["keyID"] for one in reports}) == 1 and reports[0]["keyID"].startswith(wanted)

        wanted = f"ks1.e{self.released.epoch}."
        until(agrees, lambda: f"all nodes are at {wanted}: {[one.report() for one in self.nodes]}")

    # Events.

    def release(self) -> None:
        """Release what leads on, if the rules allow that, and now and then what leads back."""
        at = self.rules.configs.index(self.released.config)
        on: list[rollout.Config] = []
        back: list[rollout.Config] = []
        proven = [{key["name"] for key in node.report()["keys"] if key["proven"]} for node in self.nodes]
        for config in rollout._releasable(self.rules, self.as_model()):
            if not all(config.active - self.released.config.active <= one for one in proven):
                continue
            (on if self.rules.configs.index(config) > at else back).append(config)
        chosen = back if self._chance.random() < 0.2 else on
        if chosen:
            epoch = self.released.epoch + (chosen[0].active != self.released.config.active)
            self.released = Release(chosen[0], epoch)

    def take_up(self, node: Node) -> None:
        """Reload, and wait for it; while a KMS is away it may be refused, and is tried again by the plugin."""
        node.configure(self.released)
        wanted = {key: key in self.released.config.active for key in self.released.config.keys}

        def taken() -> bool:
            report = node.report()
            stages = {key["name"]: key["stage"] == "active" for key in report["keys"]}
            return bool(report["epoch"] == self.released.epoch and stages == wanted)

        with contextlib.suppress(TimeoutError):
            until(taken, "the reload", seconds=PATIENCE if not self.sealed else 2.0)

    def write(self, node: Node) -> bool:
        """Ask for Status and for a seed if the key_id calls for one, and write under the seed; return whether."""
        status = node.process.client.status()
        if status.key_id and (node.seed is None or node.seed.key_id != status.key_id):
            with contextlib.suppress(grpc.RpcError):
                node.seed = node.process.client.seal(b"seed of node %d" % node.number)
        if node.seed is not None:
            self._objects += 1
            self.etcd.put(b"/registry/%d" % self._objects, decrypt_request(node.seed))
        return node.seed is not None

    def migrate(self, node: Node) -> None:
        if node.seed is not None:
            for key in self.table():
                self.etcd.put(key, decrypt_request(node.seed))
            self.backup = self.table()

    def restore(self) -> None:
        for key, value in self.backup.items():
            self.etcd.put(key + b"-restored", value)

    def restart(self, node: Node) -> None:
        node.kill()
        node.start()

    def replace(self, node: Node) -> None:
        node.kill()
        node.lose_state()
        node.seed = None
        node.configure(self.released)
        node.start()

    def permit(self, node: Node) -> None:
        if rollout.NEW not in self.sealed:
            node.permit(rollout.NEW)

    def rotate(self) -> None:
        name = self._chance.choice(sorted(set(self.servers) - self.sealed) or [""])
        if name:
            self.servers[name].write(f"transit/keys/{name}/rotate")

    def toggle(self) -> None:
        """Seal one of the servers, if none is sealed, or unseal it."""
        if self.sealed:
            self.servers[self.sealed.pop()].unseal()
        else:
            name = self._chance.choice(sorted(self.servers))
            self.servers[name].seal()
            self.sealed.add(name)

    # What there is.

    def any_node(self, wanted: Callable[[Node], bool] = lambda _: True) -> Node:
        """One of those that are wanted, if there are any."""
        return self._chance.choice(list(filter(wanted, self.nodes)) or self.nodes)

    def table(self) -> dict[bytes, bytes]:
        """Everything in etcd."""
        return {key: value for key, (value, _, _) in self.etcd.table().items()}

    def as_model(self) -> rollout.State:
        """The cluster as its operator sees it, in the terms of the model."""
        etcd, backups = (frozenset(map(keys_of, table.values())) for table in (self.table(), self.backup))
        return rollout.State(tuple(map(_as_model, self.nodes)), etcd, backups, self.released.config, 0)

    def _decrypt(self, node: Node, request: bytes, *, due: bool) -> bytes:
        ends = time.monotonic() + (PATIENCE if due else 0.0)
        while True:
            try:
                answer = node.process.client.call("/v2.KeyManagementService/Decrypt", request)
                return bytes(v2.DecryptResponse.FromString(answer).plaintext)
            except grpc.RpcError as exc:
                # A server that has just been unsealed needs a moment, and so does a plugin that has just started.
                if exc.code() not in MAY_PASS or time.monotonic() > ends:
                    raise
                time.sleep(0.1)


def _as_model(node: Node) -> rollout.Node:
    report = node.report()
    stages = {key["name"]: key["stage"] for key in report["keys"]}
    active = frozenset(name for name, stage in stages.items() if stage == "active")
    config = rollout.Config(active, frozenset(stages) - active)
    usable = any(key["name"] == rollout.NEW and key["proven"] for key in report["keys"])
    record = report["record"]
    writes = frozenset(wrap["ref"].rpartition("/")[2] for wrap in record["wraps"]) if record is not None else active
    return rollout.Node(config, usable, 0, writes, _keys(node.seed.record) if node.seed is not None else writes)


def keys_of(request: bytes) -> rollout.Record:
    """The names of the keys that what is stored is wrapped under."""
    return _keys(v2.DecryptRequest.FromString(request).annotations["kek.keystead.dev"])


def _keys(record: bytes) -> rollout.Record:
    return frozenset(wrap.ref.rpartition("/")[2] for wrap in Record.parse(record).wraps)


def until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = PATIENCE) -> None:
    """Wait. Raises `TimeoutError`."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)
