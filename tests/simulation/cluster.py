"""A cluster of nodes, its operator, and what may happen to them.

What the operator releases is decided by the very rules of the exhaustive model (`model.rollout`), fed with what the
nodes report; `checks.py` says what has to hold after every event.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keystead import errors
from keystead._core import Record, key_id_epoch
from model import rollout
from simulation.node import Node, Process
from simulation.release import LABELS, Practice, Release
from simulation.remotes import Remote, View
from support.messages import Ciphertext

AWAY, DENIED = errors.Unavailable("no route to host"), errors.KeyDisabled("pending deletion")
REMEMBERED = 11.0
"""Seconds after which a refusal of a record is asked for again: until then the answer is the old one, rightly."""
ENOUGH = 900.0
"""Seconds after which all must be well once everything is mended: pauses, delays and soaks are shorter."""
MOST_VERSIONS = 4
MEMORY = Path("/dev/shm")
"""Where a state directory costs no wait for a disk; what a crash leaves on disk is tested elsewhere."""


class Cluster:
    """The state of everything. Its methods are the events; one that cannot happen now does nothing."""

    def __init__(self, practice: Practice) -> None:
        self.practice = practice
        self.directory = Path(tempfile.mkdtemp(prefix="ks-", dir=MEMORY if MEMORY.is_dir() else None))
        self.remotes = {name: Remote(name) for name in (rollout.OLD, rollout.NEW)}
        self.released = Release(practice.rules.configs[0], 1)
        self.plaintexts: dict[Ciphertext, bytes] = {}
        self.etcd: set[Ciphertext] = set()
        self.backups: set[Ciphertext] = set()
        self.since_key = 0.0
        """Seconds since the new key was first released."""
        self._seeds = itertools.count(1)
        self.nodes = [self._node(number) for number in range(practice.nodes)]
        for node in self.nodes:
            self.poll(node)
            self.write(node)
        self.backups = set(self.etcd)

    def close(self) -> None:
        for node in self.nodes:
            node.end(node.processes)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def processes(self) -> Iterator[tuple[Node, Process]]:
        """All of them."""
        return ((node, process) for node in self.nodes for process in node.processes)

    # The operator.

    def releasable(self) -> list[Release]:
        """What the rules let the operator give to the nodes now, what leads on before what leads back."""
        released, rules = self.released, self.practice.rules
        found = []
        for config in reversed(list(rollout._releasable(rules, self.as_model()))):
            if self._are_proven(config.active - released.config.active):
                epoch = released.epoch + (config.active != released.config.active)
                found.append(released._replace(config=config, epoch=epoch))
        for label in (released.label + 1, released.label - 1):
            if self.practice.labels and 0 <= label < len(LABELS):
                release = released._replace(label=label)
                change = release.cluster != released.cluster
                if self._label_is_safe(release):
                    found.append(release._replace(epoch=released.epoch + change))
        return found

    def release(self, release: Release) -> None:
        self.released = release

    def as_model(self) -> rollout.State:
        """The cluster as the operator sees it, in the terms of the model: nodes by their reports, stores by records."""
        return rollout.State(
            tuple(self._as_model(node, process) for node, process in self.processes),
            frozenset(map(keys_of, self.etcd)),
            frozenset(map(keys_of, self.backups)),
            self.released.config,
            0,
        )

    def _as_model(self, node: Node, process: Process) -> rollout.Node:
        report = process.endpoint.report()
        config = process.release.config
        proven = any(key.name == rollout.NEW and key.proven for key in report.keys)
        writes = config.active
        if report.record is not None:
            writes = frozenset(wrap.ref.removeprefix("fake/") for wrap in report.record.wraps)
        return rollout.Node(config, proven, 0, writes, keys_of(node.seed) if node.seed is not None else writes)

    def _are_proven(self, keys: rollout.Record) -> bool:
        """Whether every plugin shows these keys as proven, also the old one, which the model takes for granted."""
        reports = [process.endpoint.report() for _, process in self.processes]
        proven = [{key.name for key in report.keys if key.proven} for report in reports]
        return self.practice.rules.barrier != "usable" or all(keys <= one for one in proven)

    def _label_is_safe(self, release: Release) -> bool:
        if not self.practice.label_barrier:
            return True
        written = release.cluster == self.released.cluster or all(
            release.cluster in process.release.accepts for _, process in self.processes
        )
        seeds = {node.seed for node in self.nodes if node.seed is not None}
        labels = {Record.parse(one.record).cluster for one in self.etcd | self.backups | seeds}
        labels |= {process.release.cluster for _, process in self.processes}
        in_use = [process.endpoint._caretaker._custody.current for _, process in self.processes]
        labels |= {state.record.cluster for state in in_use if state is not None}
        return written and labels <= release.accepts

    # The nodes.

    def take_up(self, node: Node) -> None:
        """Reload the configuration that was released last."""
        node.process.take_up(self.released)

    def restart(self, node: Node, *, changed: bool) -> None:
        """Kill and start the plugin, with the configuration released last or with the one it had."""
        if node.touched:
            node.highest = 0
            self._replicas_follow()
        node.restart(self.released if changed else None)

    def surge(self, node: Node) -> None:
        if node.touched:
            self._replicas_follow()
        if len(node.processes) == 1:
            node.surge(self.released)

    def end_surge(self, node: Node) -> None:
        node.end_surge()

    def replace(self, node: Node) -> None:
        if self.practice.replaced:
            self._replicas_follow()
            node.replace(self.released)

    def lose_state(self, node: Node) -> None:
        if self.practice.replaced:
            self._replicas_follow()
            node.lose_state()

    def distrust(self, node: Node) -> None:
        """Let a self-test fail, in each process of a node."""
        for process in node.processes:
            process.endpoint._caretaker.distrust()

    def _replicas_follow(self) -> None:
        """Who has no state takes the newest version at once: nodes are not made anew just after a rotation."""
        for node in self.nodes:
            for view in node.views.values():
                if view.knows < view.remote.newest:
                    view.follow()

    # The API servers.

    def poll(self, node: Node) -> None:
        """Let the API server ask for Status, and for a seed if it needs another one."""
        plaintext = next(self._seeds).to_bytes(32, "big")
        if node.poll(plaintext) and node.seed is not None:
            self.plaintexts[node.seed] = plaintext

    def write(self, node: Node) -> None:
        if node.seed is not None:
            self.etcd.add(node.seed)

    def rewrite(self, node: Node) -> None:
        """Rewrite everything through one API server."""
        if node.seed is not None:
            self.etcd = {node.seed}

    def back_up(self, *, only: bool) -> None:
        """Make a backup, and delete the older ones if `only`."""
        self.backups = set(self.etcd) if only else self.backups | self.etcd

    def restore(self) -> None:
        self.etcd |= self.backups

    # The KMS.

    def fail(self, remote: Remote, error: errors.ProviderError) -> None:
        remote.error = error

    def recover(self, remote: Remote) -> None:
        if remote.error is not None:
            remote.error = None
            self._advance(REMEMBERED)

    def permit(self, node: Node) -> None:
        """Let a node use the new key from now on."""
        view = node.views[rollout.NEW]
        if not view.permitted:
            view.permitted = True
            self._advance(REMEMBERED)

    def rotate(self, remote: Remote) -> None:
        if remote.newest < MOST_VERSIONS:
            remote.rotate()

    def follow(self, node: Node, remote: Remote) -> None:
        """Let the replica that a node talks to have the newest version."""
        node.views[remote.name].follow()

    def name_version(self, node: Node, remote: Remote, number: int) -> None:
        """Let that replica name any version that it has as the current one, as stale ones do."""
        view = node.views[remote.name]
        view.current = str(min(number, view.knows))

    # Time.

    def turns(self, count: int) -> None:
        """Let the plugins take so many turns, as their threads would."""
        for _ in range(count):
            now_due = min(process.due - node.monotonic.now for node, process in self.processes)
            self._advance(max(0.0, now_due))
            for node, process in self.processes:
                if process.due <= node.monotonic.now:
                    process.tend()

    def sleep(self, seconds: float) -> None:
        """Let time pass in which no process runs, as when machines are suspended."""
        self._advance(seconds)
        for _, process in self.processes:
            process.tend()

    def jump(self, node: Node, seconds: float) -> None:
        """Set the wall clock of a node."""
        node.wall.now = max(0.0, node.wall.now + seconds)

    def _advance(self, seconds: float) -> None:
        if not self._time_may_pass(seconds):
            for node in self.nodes:
                if rollout.NEW not in node.process.release.config.keys:
                    self.take_up(node)
        for remote in self.remotes.values():
            remote.age += seconds
            if remote.age >= self.practice.lag:
                for node in self.nodes:
                    view = node.views[remote.name]
                    if view.knows < remote.newest:
                        view.follow()
        if rollout.NEW in self.released.config.keys:
            self.since_key += seconds
        for node in self.nodes:
            node.advance(seconds)

    def _time_may_pass(self, seconds: float) -> bool:
        spread = self.practice.spread
        return spread is None or rollout.NEW not in self.released.config.keys or self.since_key + seconds < spread

    # The end.

    def settle(self) -> None:
        """Mend everything, and give the plugins the time that they need."""
        for remote in self.remotes.values():
            self.recover(remote)
        for node in self.nodes:
            self.permit(node)
            self.end_surge(node)
            node.unblock_state()
            for remote in self.remotes.values():
                self.follow(node, remote)
            if node.process.release != self.released:
                self.take_up(node)
        ends = self.nodes[0].monotonic.now + ENOUGH
        while self.nodes[0].monotonic.now < ends and not self._is_well():
            self.turns(3)
        for node in self.nodes:
            self.poll(node)

    def _is_well(self) -> bool:
        reports = [process.endpoint.report() for _, process in self.processes]
        names = {report.key_id for report in reports}
        well = all(one.state == "ok" and one.refused is None and one.overdue is None for one in reports)
        return well and len(names) == 1 and key_id_epoch(names.pop()) == self.released.epoch

    def _node(self, number: int) -> Node:
        views = {
            name: View(remote, permitted=name == rollout.OLD or self.practice.rules.permitted)
            for name, remote in self.remotes.items()
        }
        return Node(number, self.directory, views, self.released, self.practice)


def keys_of(ciphertext: Ciphertext) -> rollout.Record:
    """The names of the keys that the local KEK of a ciphertext is wrapped under."""
    return frozenset(wrap.ref.removeprefix("fake/") for wrap in Record.parse(ciphertext.record).wraps)
