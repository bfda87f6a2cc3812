"""Tells the plugins' own code a story that the exhaustive model has found, event by event."""

from __future__ import annotations

import re
from collections.abc import Callable

from model import rollout
from simulation.cluster import Cluster, keys_of
from simulation.node import Node
from simulation.release import Release


class UntellableError(AssertionError):
    """The plugins did not do what the story has them do."""


def tell(cluster: Cluster, story: tuple[str, ...]) -> None:
    """Let all events of a story happen. Its last line is the breach. Raises `UntellableError`."""
    for event in story[:-1]:
        for pattern, happen in _EVENTS.items():
            found = re.fullmatch(pattern, event)
            if found:
                happen(cluster, *found.groups())
                break
        else:
            raise UntellableError(f"nobody knows how to let happen: {event}")


def _release(cluster: Cluster, text: str) -> None:
    config = next(one for one in rollout.ALL if str(one) == text)
    released = cluster.released
    release = Release(config, released.epoch + (config.active != released.config.active))
    for _ in range(3):
        if release in cluster.releasable():
            cluster.release(release)
            return
        # A permission shows when the plugin has tried the key.
        cluster.turns(1)
    raise UntellableError(f"the rules do not let the operator release {release}")


def _node(cluster: Cluster, number: str) -> Node:
    return cluster.nodes[int(number) - 1]


def _takes_up(cluster: Cluster, number: str, text: str) -> None:
    if str(cluster.released.config) != text:
        raise UntellableError(f"node {number} takes up {text}, and {cluster.released} was released")
    cluster.take_up(_node(cluster, number))


def _makes(cluster: Cluster, number: str, keys: str) -> None:
    """The plugin makes a KEK by itself, some turns after it may."""
    node = _node(cluster, number)
    for _ in range(10):
        record = node.process.endpoint.report().record
        if record is not None and {wrap.ref.removeprefix("fake/") for wrap in record.wraps} == set(keys.split("+")):
            return
        cluster.turns(1)
    raise UntellableError(f"node {number} makes no KEK under {keys}: {node.process.endpoint.report().refused}")


def _gives(cluster: Cluster, number: str) -> None:
    node = _node(cluster, number)
    before = node.seed
    cluster.poll(node)
    if node.seed is before:
        raise UntellableError(f"node {number} gives its API server no new seed")


def _writes(cluster: Cluster, number: str, keys: str) -> None:
    node = _node(cluster, number)
    if node.seed is None or keys_of(node.seed) != set(keys.split("+")):
        raise UntellableError(f"API server {number} has no seed under {keys}")
    cluster.write(node)


def _replaced(cluster: Cluster, number: str, text: str) -> None:
    config = next(one for one in rollout.ALL if str(one) == text)
    _node(cluster, number).replace(cluster.released._replace(config=config))
    cluster.poll(_node(cluster, number))


_EVENTS: dict[str, Callable[..., None]] = {
    r"release: (.+)": _release,
    r"node (\d) takes up: (.+)": _takes_up,
    r"node (\d) gets permission": lambda cluster, number: cluster.permit(_node(cluster, number)),
    r"node (\d) makes a KEK under (.+)": _makes,
    r"node (\d) loses its state directory": lambda cluster, number: cluster.lose_state(_node(cluster, number)),
    r"node (\d) gives its API server a new seed": _gives,
    r"node (\d) is replaced by one with: (.+)": _replaced,
    r"API server (\d) writes under (.+)": _writes,
    r"everything is rewritten through API server (\d)": lambda cluster, number: cluster.rewrite(_node(cluster, number)),
    r"backup": lambda cluster: cluster.back_up(only=False),
    r"backup, and the older ones are deleted": lambda cluster: cluster.back_up(only=True),
    r"restore": lambda cluster: cluster.restore(),
    r"time passes": lambda cluster: cluster.turns(1),
}
