"""What the models find is what the rules for changing keys rest on, and what docs/spec/rollout.md shows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from . import rollout, versions
from .__main__ import Row, of_rollout, of_versions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rollouts() -> dict[str, Row]:
    return {row.name: row for row in of_rollout()}


def test_with_barrier_and_a_look_at_all_four_every_node_reads_everything(rollouts: dict[str, Row]) -> None:
    row = rollouts["barrier; a key goes after a look at all four"]
    assert row.safe
    assert row.outcomes.keys() == {2, 3}
    assert all(outcome.finished for outcome in row.outcomes.values()), "the change can be brought to its end"
    assert row.outcomes[2].states > 500
    assert row.outcomes[3].states > 2000


def test_the_two_rules_suffice_whatever_configuration_follows_which(rollouts: dict[str, Row]) -> None:
    outcome = rollouts[rollout.ANY_ORDER].outcomes[2]
    assert outcome.safe
    assert outcome.finished
    assert outcome.states > 50_000


def test_leaving_out_any_part_of_the_rules_loses_an_object(rollouts: dict[str, Row]) -> None:
    unsafe = {name: row for name, row in rollouts.items() if not row.safe}
    assert len(unsafe) == 12
    assert len(rollouts) == 15
    for row in unsafe.values():
        assert all(not outcome.safe for outcome in row.outcomes.values())
        assert row.outcomes[2].story[-1].endswith("which etcd needs")


def test_soak_alone_is_enough_only_while_no_node_is_new_or_lost_its_state(rollouts: dict[str, Row]) -> None:
    alone = "no barrier, soak of 4, spread within 3"
    assert rollouts[alone].safe
    assert all(outcome.finished for outcome in rollouts[alone].outcomes.values())
    assert rollouts[alone].outcomes[3].states > 900
    assert not rollouts[f"{alone}, a node replaced"].safe
    assert not rollouts[f"{alone}, a state directory lost"].safe


def test_versions_need_a_name_a_ratchet_a_delay_and_the_state_directory() -> None:
    rows = list(of_versions())
    assert [row.safe for row in rows] == [False] * 5 + [True]
    ours = rows[-1]
    assert all(outcome.finished for outcome in ours.outcomes.values())
    assert ours.outcomes[3].states > 100
    stories = [row.outcomes[2].story[-1] for row in rows[:-1]]
    assert stories == [
        "node 1 shows version 2 and wraps under 1",
        "node 1 shows version 1 again, after 2",
        "the replica of node 2 cannot open version 2",
        "the replica of node 2 cannot open version 2",
        "node 1 shows version 1 again, after 2",
    ]


def test_a_search_stops_at_the_shortest_story_and_names_each_event() -> None:
    story = rollout.explore(replace(rollout.variants()["at once, without a decrypt step"], replaced="never")).story
    assert story == (
        "release: b, a decrypt",
        "node 1 takes up: b, a decrypt",
        "node 1 gets permission",
        "node 1 makes a KEK under b",
        "node 1 gives its API server a new seed",
        "API server 1 writes under b",
        "node 2 has not b, which etcd needs",
    )


def test_one_node_is_safe_with_any_barrier() -> None:
    """The barrier is there for the others."""
    assert rollout.explore(replace(rollout.Rules(), nodes=1, barrier="none")).safe
    assert versions.explore(replace(versions.Rules(), nodes=1, delay=0)).safe


def test_the_page_shows_what_the_models_find(rollouts: dict[str, Row]) -> None:
    page = (ROOT / "docs/spec/rollout.md").read_text()
    rows = [*rollouts.values(), *of_versions()]
    assert len(rows) == 21
    for row in rows:
        # Of one search the larger half is left to the slow test.
        assert str(row).removesuffix(" |  |") in page, row.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_two_rules_suffice_for_three_nodes_too() -> None:
    rules = rollout.variants()[rollout.ANY_ORDER]
    outcomes = {nodes: rollout.explore(replace(rules, nodes=nodes)) for nodes in (2, 3)}
    assert all(outcome.safe and outcome.finished for outcome in outcomes.values())
    assert str(Row(rollout.ANY_ORDER, outcomes)) in (ROOT / "docs/spec/rollout.md").read_text()


def test_the_tables_are_printed_by_running_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.model", "versions"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "| a lower version is followed too | **unsafe** |" in done.stdout
    assert "  node 1 shows version 1 again, after 2\n" in done.stdout
