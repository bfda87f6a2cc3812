"""No order of events loses an object where the rules are kept, and there is one wherever one of them is not.

The machine of `machine.py` moves the plugins' own code. hypothesis looks for an order of events after which a node
cannot decrypt what is in etcd, and shrinks it to a short one. `pytest tests/simulation -m slow` looks for longer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from model import rollout
from simulation.checks import BreachError
from simulation.machine import Machine, Rollouts, machine_of
from simulation.release import Practice

OURS = Practice()
ONE_KEY_BY_ANOTHER = Practice(rollout.Rules(), nodes=2, labels=False)
"""One key is replaced by another on two nodes, and the operator may go back."""
RULES = ONE_KEY_BY_ANOTHER.rules


def _without(look: rollout.Look) -> Practice:
    return replace(ONE_KEY_BY_ANOTHER, rules=replace(RULES, looks=rollout.EVERYWHERE - {look}))


UNSAFE = {
    "no barrier and no soak": replace(ONE_KEY_BY_ANOTHER, rules=replace(RULES, barrier="none"), soak=0.0),
    "a barrier on what is configured, whether usable or not": replace(
        ONE_KEY_BY_ANOTHER, rules=replace(RULES, barrier="configured")
    ),
    "a key goes without a look at etcd": _without("etcd"),
    "a key goes without a look at backups": _without("backups"),
    "a new version is used at once": replace(ONE_KEY_BY_ANOTHER, version_delay=0.0),
    "a new label is written before it is accepted everywhere": replace(
        ONE_KEY_BY_ANOTHER, labels=True, label_barrier=False
    ),
}
"""What is found by chance. Two more ways, without a look at nodes or at API servers, need too many steps in order for
that: they are told in `test_stories.py`."""
FOUND_SOON = (
    "no barrier and no soak",
    "a barrier on what is configured, whether usable or not",
    "a new label is written before it is accepted everywhere",
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def search(machine: type[Rollouts], examples: int, steps: int, *, again: bool = True, shrinks: bool = True) -> None:
    """Look for a breach in so many orders of events, always the same ones if `again`."""
    phases = (Phase.generate, Phase.shrink) if shrinks else (Phase.generate,)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=again,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


@pytest.mark.parametrize("kind", [Rollouts, Machine])
def test_no_order_of_events_loses_an_object(kind: type[Rollouts]) -> None:
    search(machine_of(OURS, kind), examples=10, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("zeroize", [False, True])
def test_no_order_of_many_events_loses_an_object(zeroize: bool) -> None:
    search(machine_of(replace(OURS, zeroize=zeroize)), examples=400, steps=50, again=False)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FOUND_SOON else [pytest.mark.slow]) for name in UNSAFE]
)
def test_where_a_rule_is_left_out_the_machine_finds_what_is_lost(name: str) -> None:
    with pytest.raises(BreachError) as found:
        search(machine_of(UNSAFE[name], Rollouts, settles=False), examples=1500, steps=40, shrinks=False)
    print(found.value)
    assert "cannot decrypt" in str(found.value)
