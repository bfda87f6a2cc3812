"""What the exhaustive model calls a loss is one: the plugins' own code, told the same story, cannot decrypt."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog

from model import rollout
from simulation.checks import BreachError, Checks
from simulation.cluster import Cluster
from simulation.release import Practice
from simulation.stories import UntellableError, tell

TICK = 60.0
"""Seconds of a tick of the model: a turn of a plugin on which all is well."""
STORIES = {
    name: (rules, rollout.explore(rules).story)
    for name, rules in rollout.variants().items()
    if name != rollout.ANY_ORDER
}
SAFER = {
    "barrier; a key goes without a look at nodes": "API server 1 has no seed under b",
    "no barrier, soak of 2, spread within 4": "makes no KEK under b: .*without having been decrypt before",
}
"""Stories that the plugins take no part in, for they do more than the model has them do: what they do not do."""
INSTEAD = {
    "barrier; a key goes without a look at nodes": (
        *(event for number in (1, 2) for event in (f"node {number} gets permission",)),
        *("release: a, b decrypt", "node 1 takes up: a, b decrypt", "node 2 takes up: a, b decrypt", "time passes"),
        *("release: b, a decrypt", "node 1 takes up: b, a decrypt", "node 2 takes up: b, a decrypt"),
        *("node 1 makes a KEK under b", "node 2 makes a KEK under b"),
        *(f"node {number} gives its API server a new seed" for number in (1, 2)),
        *("everything is rewritten through API server 2", "backup, and the older ones are deleted"),
        *("release: a, b decrypt", "node 1 takes up: a, b decrypt", "node 1 makes a KEK under a"),
        *("release: b, a decrypt", "release: b", "node 1 gives its API server a new seed"),
        *("API server 1 writes under a", "node 2 takes up: b", "node 2 has not a, which etcd needs"),
    ),
    "no barrier, soak of 2, spread within 4": (
        *("release: a, b decrypt", "node 1 takes up: a, b decrypt", "time passes", "time passes", "time passes"),
        *("release: b, a decrypt", "node 1 takes up: b, a decrypt", "node 1 makes a KEK under b"),
        *(
            "node 1 gives its API server a new seed",
            "API server 1 writes under b",
            "node 2 has not b, which etcd needs",
        ),
    ),
}
"""The same losses, by what the plugins do."""
UNSAFE = {name: found for name, found in STORIES.items() if found[1]}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def test_there_is_a_story_for_each_unsafe_way() -> None:
    assert len(UNSAFE) == 12


def told(rules: rollout.Rules, story: tuple[str, ...], soak: float) -> Cluster:
    cluster = Cluster(Practice(rules, rules.nodes, soak=soak, labels=False))
    try:
        tell(cluster, story)
    except BaseException:
        cluster.close()
        raise
    return cluster


@pytest.mark.parametrize("name", UNSAFE)
def test_the_plugins_lose_what_the_model_says_they_lose(name: str) -> None:
    rules, story = UNSAFE[name]
    story = INSTEAD.get(name, story)
    cluster = told(rules, story, rules.soak * TICK)
    try:
        problems = list(Checks(cluster).problems())
    finally:
        cluster.close()
    print(*story, *problems, sep="\n")
    number = int(story[-1].split()[1]) - 1
    assert any(problem.startswith(f"node {number}: now, cannot decrypt") for problem in problems), problems


@pytest.mark.parametrize("name", SAFER)
def test_the_plugins_do_not_do_what_two_of_the_stories_ask_of_them(name: str) -> None:
    rules, story = UNSAFE[name]
    with pytest.raises(UntellableError, match=SAFER[name]):
        told(rules, story, rules.soak * TICK)


def test_a_plugin_that_soaks_does_not_do_what_a_rollout_at_once_asks_of_it() -> None:
    rules = replace(rollout.variants()["at once, without a decrypt step"], replaced="never", lost=False)
    with pytest.raises(UntellableError, match=r"makes no KEK under b: .*without having been decrypt before"):
        told(rules, rollout.explore(rules).story, soak=900.0)


def test_a_plugin_that_soaks_writes_under_a_new_key_only_after_its_time() -> None:
    rules, story = (
        UNSAFE["no barrier, soak of 2, spread within 4"][0],
        INSTEAD["no barrier, soak of 2, spread within 4"],
    )
    with pytest.raises(UntellableError, match=r"makes no KEK under b: .*has not been decrypt on this node for long"):
        told(rules, story, soak=3600.0)


def test_the_checks_find_nothing_before_the_last_event() -> None:
    rules, story = UNSAFE["decrypt step, no barrier"]
    cluster = told(rules, (*story[:-2], story[-1]), soak=0.0)
    try:
        Checks(cluster)()
        cluster.write(cluster.nodes[0])
        cluster.write(cluster.nodes[1])
        with pytest.raises(BreachError):
            Checks(cluster)()
    finally:
        cluster.close()
