"""Any order of steps on real plugins with two real KMSs and one etcd leaves everything readable on every node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model import rollout
from providers.vault import bao
from simulation.plugins import Cluster
from support import etcd_server
from support.serving import short_directory

SEED = int(os.environ.get("KEYSTEAD_SIMULATION_SEED", "1"))


@contextlib.contextmanager
def cluster(nodes: int, seed: int) -> Iterator[Cluster]:
    programs = etcd_server.servers()
    if not programs:
        pytest.skip("NOT TESTED: steps of a rollout on real processes, for there is no etcd")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(short_directory())
        servers = {}
        for name in (rollout.OLD, rollout.NEW):
            (directory / name).mkdir()
            servers[name] = stack.enter_context(bao.serving(directory / name))
            servers[name].initialise()
            servers[name].unseal()
        etcd = stack.enter_context(etcd_server.serving(next(iter(programs.values())), Path(directory)))
        made = Cluster(directory, servers, etcd, nodes, seed)
        try:
            yield made
        finally:
            made.stop()


def walk(steps: int, nodes: int, seed: int) -> Cluster:
    with cluster(nodes, seed) as made:
        for _ in range(steps):
            print(made.step(), f"({made.released})", flush=True)
            made.check()
        made.settle()
        made.check()
        print(f"seed {seed}: {steps} steps, {made.reads} reads: {dict(made.happened)}")
        return made


def test_two_plugins_read_everything_after_each_of_a_few_steps() -> None:
    made = walk(8, nodes=2, seed=SEED)
    assert made.happened.total() == 8
    assert made.reads > 16


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_three_plugins_read_everything_after_each_of_many_steps(seed: int) -> None:
    made = walk(120, nodes=3, seed=seed)
    assert made.released.epoch > 1
    assert made.reads > 300
