"""The events of a cluster as a state machine of hypothesis, which looks for an order of them that loses something."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keystead.errors import ProviderError
from keystead.host import caller
from simulation.checks import BreachError, Checks, after_all, breach_of_model
from simulation.cluster import AWAY, DENIED, Cluster
from simulation.node import Node
from simulation.release import Practice, Release

DAY = 24 * 3600.0
NODES = st.integers(0, 2)
KEYS = st.sampled_from("ab")
PLUGIN: dict[str, Callable[[Cluster, Node], None]] = {
    "is killed and starts": lambda cluster, node: cluster.restart(node, changed=False),
    "is started with the configuration released last": lambda cluster, node: cluster.restart(node, changed=True),
    "is joined by another process": Cluster.surge,
    "leaves the socket to the other process": Cluster.end_surge,
    "fails a self-test": Cluster.distrust,
    "is lost with the node, which is replaced": Cluster.replace,
    "starts without what was on disk": Cluster.lose_state,
}
DISK: dict[str, Callable[[Node], None]] = {
    "the state is deleted": Node.delete_state,
    "the state is damaged": Node.damage_state,
    "the directory can neither be read nor written": Node.block_state,
    "the directory is there again": Node.unblock_state,
}
CLOCKS: dict[str, Callable[[Cluster, Node], None]] = {
    "all machines sleep for an hour": lambda cluster, _: cluster.sleep(3600.0),
    "all machines sleep until every local KEK is too old": lambda cluster, _: cluster.sleep(40 * DAY),
    "a wall clock jumps a year ahead": lambda cluster, node: cluster.jump(node, 365 * DAY),
    "a wall clock jumps ten years back": lambda cluster, node: cluster.jump(node, -3650 * DAY),
}


class Rollouts(RuleBasedStateMachine):
    """A cluster that is run by `practice`, and in which nothing fails."""

    practice = Practice()
    settles = True

    def __init__(self) -> None:
        super().__init__()
        # A second attempt of a call that failed waits on the real clock.
        self._patch = mock.patch.object(caller, "RETRY_NEEDS", float("inf"))
        self._patch.start()
        self.cluster = Cluster(self.practice)
        self.checks = Checks(self.cluster)
        self.told = False

    def teardown(self) -> None:
        try:
            if self.settles and not self.told:
                self.cluster.settle()
                self.checks()
                for problem in after_all(self.cluster):
                    raise BreachError(problem)
        finally:
            self.cluster.close()
            self._patch.stop()

    @invariant()
    def everything_can_be_read_and_written(self) -> None:
        self.told = True
        self.checks()
        assert breach_of_model(self.cluster) is None, "the model has a breach where the plugins have none"
        self.told = False

    @initialize(denied=st.integers(0, 2), ahead=st.integers(0, 3), rewrites=st.booleans())
    def begin(self, denied: int, ahead: int, rewrites: bool) -> None:
        """Begin anywhere on the way: most nodes may use the new key, and some releases are behind everybody."""
        for node in self.cluster.nodes[denied:]:
            self.cluster.permit(node)
        for _ in range(ahead):
            for release in self.cluster.releasable()[:1]:
                self._release_and_wait(release, polls=True)
            if rewrites:
                self.cluster.rewrite(self.cluster.nodes[0])

    # The operator.

    @precondition(lambda self: self.cluster.releasable())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.cluster.release(data.draw(st.sampled_from(self.cluster.releasable()), label="release"))

    @precondition(lambda self: self.cluster.releasable())
    @rule(data=st.data(), polls=st.booleans())
    def release_and_wait(self, data: st.DataObject, polls: bool) -> None:
        """What an operator does who has time."""
        self._release_and_wait(data.draw(st.sampled_from(self.cluster.releasable()), label="release"), polls=polls)

    @rule(number=NODES)
    def migrate(self, number: int) -> None:
        """Rewrite everything, and keep no older backup."""
        self.cluster.rewrite(self._node(number))
        self.cluster.back_up(only=True)

    # Nodes and API servers.

    @rule(number=NODES)
    def take_up(self, number: int) -> None:
        self.cluster.take_up(self._node(number))

    @rule(number=NODES)
    def poll(self, number: int) -> None:
        self.cluster.poll(self._node(number))

    @rule(number=NODES, asks=st.booleans())
    def write(self, number: int, asks: bool) -> None:
        """Write one object, under the seed that the API server has, or ask the plugin before."""
        if asks:
            self.cluster.poll(self._node(number))
        self.cluster.write(self._node(number))

    @rule(number=NODES)
    def rewrite(self, number: int) -> None:
        self.cluster.rewrite(self._node(number))

    @rule(only=st.booleans())
    def back_up(self, only: bool) -> None:
        self.cluster.back_up(only=only)

    @rule()
    def restore(self) -> None:
        self.cluster.restore()

    @rule(number=NODES)
    def permit(self, number: int) -> None:
        self.cluster.permit(self._node(number))

    # The KMS.

    @rule(key=KEYS)
    def rotate(self, key: str) -> None:
        self.cluster.rotate(self.cluster.remotes[key])

    @rule(number=NODES, key=KEYS, version=st.integers(1, 4))
    def replica(self, number: int, key: str, version: int) -> None:
        """Let a replica follow, and then name some version as the current one."""
        self.cluster.follow(self._node(number), self.cluster.remotes[key])
        self.cluster.name_version(self._node(number), self.cluster.remotes[key], version)

    # Time.

    @rule(count=st.integers(1, 8))
    def turns(self, count: int) -> None:
        self.cluster.turns(count)

    def _release_and_wait(self, release: Release, *, polls: bool) -> None:
        self.cluster.release(release)
        for node in self.cluster.nodes:
            self.cluster.take_up(node)
        self.cluster.turns(5)
        for node in self.cluster.nodes if polls else ():
            self.cluster.poll(node)

    def _node(self, number: int) -> Node:
        return self.cluster.nodes[number % len(self.cluster.nodes)]


class Machine(Rollouts):
    """The same, where everything fails that can."""

    @rule(number=NODES, how=st.sampled_from(sorted(PLUGIN)))
    def plugin(self, number: int, how: str) -> None:
        PLUGIN[how](self.cluster, self._node(number))

    @rule(number=NODES, how=st.sampled_from(sorted(DISK)))
    def disk(self, number: int, how: str) -> None:
        DISK[how](self._node(number))

    @rule(key=KEYS, error=st.sampled_from((None, AWAY, DENIED)))
    def fail(self, key: str, error: ProviderError | None) -> None:
        remote = self.cluster.remotes[key]
        if error is None:
            self.cluster.recover(remote)
        else:
            self.cluster.fail(remote, error)

    @rule(number=NODES, how=st.sampled_from(sorted(CLOCKS)))
    def clocks(self, number: int, how: str) -> None:
        CLOCKS[how](self.cluster, self._node(number))


def machine_of(practice: Practice, kind: type[Rollouts] = Machine, *, settles: bool = True) -> type[Rollouts]:
    """The machine of a cluster that is run in some way. `settles`: whether everything has to be well in the end."""
    return type(kind.__name__, (kind,), {"practice": practice, "settles": settles})
