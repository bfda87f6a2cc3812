"""A day, or any number of hours, of three nodes by the clock, in which something fails all the time.

`PYTHONPATH=tests python -m simulation day`, in the root of the repository, prints each hour.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from keystead import errors
from keystead.host import caller
from model import rollout
from simulation.checks import BreachError, Checks, after_all
from simulation.cluster import AWAY, DENIED, Cluster
from simulation.node import Node
from simulation.release import Practice
from simulation.remotes import Remote

HOUR = 3600.0
FAULTS_PER_HOUR = 30
LONGEST = 1800.0
"""Seconds that a fault lasts at most."""
THROTTLED = errors.Throttled("quota exceeded")


class Hour(NamedTuple):
    """What an hour came to."""

    number: int
    resident: int
    """Bytes of memory of the process at its end."""
    objects: int
    """Objects that the garbage collector knows then."""
    events: int
    looks: int
    """How often everything was checked, on every node."""
    unwraps: int
    """Records that were brought in anew for a check."""
    key_ids: int
    """Different key_ids that Status has named until then."""

    def __str__(self) -> str:
        return (
            f"hour {self.number:3}: {self.resident / 2**20:6.1f} MiB, {self.objects} objects, {self.events} events, "
            f"{self.looks} checks, {self.unwraps} unwraps, {self.key_ids} key_ids"
        )


class Day:
    """A cluster under a random order of faults that ends after their time, with changes between."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        rules = rollout.Rules(configs=rollout.ALL, in_order=False, permitted=True)
        self.cluster = Cluster(Practice(rules, soak=900.0))
        self.checks = Checks(self.cluster)
        self.happened: Counter[str] = Counter()
        self.looks = 0
        self._key_ids: set[str] = set()
        self._to_mend: list[tuple[float, Callable[[], None]]] = []

    @property
    def now(self) -> float:
        """Seconds of the first node's monotonic clock."""
        return self.cluster.nodes[0].monotonic.now

    def hours(self, count: int) -> Iterator[Hour]:
        """Let hours pass. Raises `BreachError`."""
        began = self.now
        for number in range(1, count + 1):
            before, looks, unwraps = self.happened.total(), self.looks, self.checks.read
            while self.now < began + number * HOUR:
                self._minute()
            self._forget()
            gc.collect()
            yield Hour(
                number,
                resident_bytes(),
                len(gc.get_objects()),
                self.happened.total() - before,
                self.looks - looks,
                self.checks.read - unwraps,
                len(self._key_ids),
            )

    def end(self) -> None:
        """Mend everything, and look whether all is well."""
        self.cluster.settle()
        self.checks()
        for problem in after_all(self.cluster):
            raise BreachError(problem)
        self.cluster.close()

    def _minute(self) -> None:
        ends = self.now + 60.0
        while self.now < ends:
            self.cluster.turns(1)
            self._look()
        for due, mend in [*self._to_mend]:
            if due <= self.now:
                mend()
                self._to_mend.remove((due, mend))
        if self._chance.random() < FAULTS_PER_HOUR / 60:
            name = self._chance.choice(sorted(EVENTS))
            self.happened[name] += 1
            EVENTS[name](self)
            self._look()
        for node in self.cluster.nodes:
            self.cluster.poll(node)
            self.cluster.write(node)
        if len(self.cluster.etcd) > 12:
            self.migrate()
        self._look()

    def _look(self) -> None:
        self.checks()
        self.looks += 1
        for _, process in self.cluster.processes:
            self._key_ids.update(process.shown)

    def _forget(self) -> None:
        """Keep nothing of what is past, so that memory that grows is the plugins'."""
        self.checks.forget()
        needed = self.cluster.etcd | self.cluster.backups | {node.seed for node in self.cluster.nodes}
        self.cluster.plaintexts = {one: text for one, text in self.cluster.plaintexts.items() if one in needed}

    def any_node(self) -> Node:
        return self._chance.choice(self.cluster.nodes)

    def any_remote(self) -> Remote:
        return self._chance.choice(sorted(self.cluster.remotes.values(), key=lambda remote: remote.name))

    def later(self, mend: Callable[[], None]) -> None:
        self._to_mend.append((self.now + self._chance.uniform(5.0, LONGEST), mend))

    def fail(self, error: errors.ProviderError) -> None:
        remote = self.any_remote()
        self.cluster.fail(remote, error)
        self.later(lambda: self.cluster.recover(remote))

    def flap(self) -> None:
        """A remote that answers every other second, for a minute."""
        remote = self.any_remote()
        for second in range(60):
            remote.error = AWAY if second % 2 else None
            self.cluster._advance(1.0)
            for _, process in self.cluster.processes:
                process.tend()
        self.cluster.fail(remote, AWAY)
        self.cluster.recover(remote)

    def replica(self) -> None:
        """A replica that names an old version as the current one."""
        node, remote = self.any_node(), self.any_remote()
        self.cluster.name_version(node, remote, self._chance.randint(1, remote.newest))
        self.later(lambda: self.cluster.follow(node, remote))

    def block(self) -> None:
        node = self.any_node()
        node.block_state()
        self.later(node.unblock_state)

    def surge(self) -> None:
        node = self.any_node()
        self.cluster.surge(node)
        self.later(node.end_surge)

    def jump(self) -> None:
        self.cluster.jump(self.any_node(), self._chance.choice((-1, 1)) * self._chance.uniform(1.0, 400 * 24 * HOUR))

    def release(self) -> None:
        """A release, which the nodes take up one after the other."""
        possible = self.cluster.releasable()
        if possible:
            self.cluster.release(self._chance.choice(possible))
            for node in self.cluster.nodes:
                self.later(lambda node=node: self.cluster.take_up(node))  # type: ignore[misc]

    def migrate(self) -> None:
        """Rewrite everything through a node that writes as the configuration wants it, and back up."""
        self.cluster.rewrite(self.any_node())
        self.cluster.back_up(only=True)

    def read_much(self) -> None:
        """An API server that starts, and reads everything."""
        node = self.any_node()
        node.seed = None
        self.checks.forget()


EVENTS: dict[str, Callable[[Day], None]] = {
    "a KMS is away": lambda day: day.fail(AWAY),
    "a KMS throttles": lambda day: day.fail(THROTTLED),
    "a key is disabled": lambda day: day.fail(DENIED),
    "a KMS flaps every second": Day.flap,
    "a key is rotated": lambda day: day.any_remote().rotate(),
    "a replica is stale": Day.replica,
    "a plugin is killed": lambda day: day.cluster.restart(day.any_node(), changed=False),
    "a plugin is started beside the old one": Day.surge,
    "a self-test fails": lambda day: day.cluster.distrust(day.any_node()),
    "a node is replaced": lambda day: day.cluster.replace(day.any_node()),
    "the state directory fails": Day.block,
    "the state is deleted": lambda day: day.any_node().delete_state(),
    "the state is damaged": lambda day: day.any_node().damage_state(),
    "a wall clock jumps": Day.jump,
    "a configuration is released": Day.release,
    "everything is rewritten": Day.migrate,
    "an API server starts": Day.read_much,
}


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(hours: int, seed: int) -> None:
    """Print each hour, and what happened."""
    with mock.patch.object(caller, "RETRY_NEEDS", float("inf")):
        day = Day(seed)
        for hour in day.hours(hours):
            print(hour, flush=True)
        day.end()
    print(f"seed {seed}: " + ", ".join(f"{name} {count}" for name, count in sorted(day.happened.items())))
    sys.stdout.flush()
