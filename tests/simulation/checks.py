"""What has to hold in a cluster after every event, each as a sentence that says where it does not."""

from __future__ import annotations

from collections.abc import Iterator

from keystead import errors
from keystead._core import Record, key_id_epoch
from model import rollout
from simulation.cluster import Cluster, keys_of
from simulation.node import Node, Process
from support.messages import Ciphertext, decrypt, encrypt, status

PROBE = b"what the checks encrypt and nobody stores"


class BreachError(AssertionError):
    """Something does not hold."""


class Checks:
    """Looks at a cluster. What was found good stays good until something changes that it depends on."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._good: set[tuple[object, ...]] = set()
        self.read = 0
        """Records that were brought in anew, each by an unwrap."""

    def __call__(self) -> None:
        """Raise `BreachError` if anything does not hold."""
        for problem in self.problems():
            raise BreachError(problem)

    def forget(self) -> None:
        """Look at everything anew."""
        self._good.clear()

    def problems(self) -> Iterator[str]:
        for node, process in self._cluster.processes:
            where = f"node {node.number}"
            yield from (f"{where}: {problem}" for problem in self._of_writes(process))
            yield from (f"{where}: {problem}" for problem in self._of_names(node, process))
            yield from (f"{where}: {problem}" for problem in self._of_disk(node, process))
            yield from (f"{where}: {problem}" for problem in self._of_reads(node, process))

    def _of_reads(self, node: Node, process: Process) -> Iterator[str]:
        """Invariant I1: what is in etcd can be decrypted by every node, now and after a restart."""
        faults = tuple(remote.error for remote in self._cluster.remotes.values())
        views = tuple((view.permitted, view.knows) for view in node.views.values())
        for ciphertext in self._cluster.etcd:
            what = (process, process.release, faults, views, ciphertext.record, ciphertext.key_id)
            anew = what not in self._good
            ways = {"now": process.reads, "after a restart": process.reads_anew} if anew else {"now": process.reads}
            self.read += anew
            for when, reads in ways.items():
                try:
                    if reads(ciphertext) != self._cluster.plaintexts[ciphertext]:
                        yield f"{when}, decrypts to something else: {_name(ciphertext)}"
                except errors.KeysteadError as exc:
                    if self._is_due(process, ciphertext):
                        yield f"{when}, cannot decrypt {_name(ciphertext)}: {type(exc).__name__}: {exc}"
            self._good.add(what)

    def _is_due(self, process: Process, ciphertext: Ciphertext) -> bool:
        """Whether a process has to decrypt this: unless the KMSs of all its keys that can are away or refuse."""
        able = keys_of(ciphertext) & process.release.config.keys
        return not able or any(self._cluster.remotes[key].error is None for key in able)

    def _of_writes(self, process: Process) -> Iterator[str]:
        """P8: what Encrypt answers has the key_id of Status, and opens. Once begun, writes go on."""
        endpoint = process.endpoint
        report = endpoint.report()
        try:
            made = encrypt(endpoint, PROBE)
        except errors.KeysteadError as exc:
            wiped = self._cluster.practice.zeroize and report.state == "denied"
            if process.has_written and report.state != "unsafe" and not endpoint._caretaker._custody.unsafe:
                if wiped or endpoint._caretaker._custody.wiped:
                    process.has_written = False
                else:
                    yield f"stopped to encrypt: {exc}"
            return
        process.has_written = True
        if made.key_id != status(endpoint.status()).key_id:
            yield f"encrypts under {made.key_id}, and Status names another"
        if decrypt(endpoint, made) != PROBE:
            yield "does not decrypt what it encrypted"

    def _of_names(self, node: Node, process: Process) -> Iterator[str]:
        """P9: neither epoch nor version ever goes back, and no key_id returns, over restarts too."""
        if len(set(process.shown)) < len(process.shown):
            yield f"shows a key_id again that it had left: {process.shown}"
        if not process.shown:
            return
        epoch = key_id_epoch(process.shown[-1])
        if process is node.process and epoch < node.highest and not node.touched:
            yield f"shows epoch {epoch} after {node.highest}"
        node.highest = max(node.highest, epoch)

    def _of_disk(self, node: Node, process: Process) -> Iterator[str]:
        """P10: what is encrypted under is on disk before, or the plugin says that it is not."""
        record = process.endpoint.report().record
        if record is None or node.touched:
            return
        on_disk = node.file
        if record.persisted is not True:
            yield "does not say that its record is on disk, and nothing is wrong with it"
        elif on_disk is None:
            yield "has no state file, and says it has one"
        elif on_disk.record.kek_id.hex() != record.kek_id and not node.overlapped:
            yield "has another record on disk than it uses"
        elif key_id_epoch(on_disk.key_id) < key_id_epoch(record.key_id):
            yield f"has {on_disk.key_id} on disk, and uses {record.key_id}"


def after_all(cluster: Cluster) -> Iterator[str]:
    """What has to hold once everything is mended and had its time: all nodes agree, and write as released."""
    wanted = cluster.released
    names = set()
    for node, process in cluster.processes:
        report = process.endpoint.report()
        names.add(report.key_id)
        if report.healthz != "ok" or report.state != "ok" or report.refused or report.overdue:
            yield f"node {node.number} is {report.state}, {report.healthz}: {report.refused or report.overdue}"
        if key_id_epoch(report.key_id) != wanted.epoch:
            yield f"node {node.number} is at {report.key_id}, and {wanted} was released"
        if node.seed is None or node.seed.key_id != report.key_id:
            yield f"API server {node.number} writes under another key_id than Status names"
    if len(names) != 1:
        yield f"nodes differ: {names}"


def breach_of_model(cluster: Cluster) -> str | None:
    """What the exhaustive model says of this state, with what nodes may really use in the place of what they report."""
    state = cluster.as_model()
    true = [
        model._replace(usable=node.views[rollout.NEW].permitted)
        for model, (node, _) in zip(state.nodes, cluster.processes, strict=True)
    ]
    return rollout._breach(state._replace(nodes=tuple(true)))


def _name(ciphertext: Ciphertext) -> str:
    record = Record.parse(ciphertext.record)
    versions = ", ".join(f"{wrap.ref} {wrap.version}" for wrap in record.wraps)
    return f"{ciphertext.key_id} ({versions}; label {record.cluster})"
