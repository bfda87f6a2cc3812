"""Every fault of every remote, in a whole process: in time, with its code, counted by its class, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from faults.all import remotes
from faults.check import check
from faults.expected import CASES, FAULTS, HEALTHY, PROVIDERS, SLOW
from faults.measure import COLD, Measured, measure
from faults.plugin import Plugin, Running
from faults.remotes import RemoteOnALine, until_quiet
from support.serving import short_directory


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture(scope="module")
def every(directory: Path) -> Iterator[dict[str, RemoteOnALine]]:
    with remotes(directory) as made:
        yield made


@pytest.fixture(scope="module")
def running(directory: Path, every: dict[str, RemoteOnALine]) -> Iterator[Running]:
    with Plugin(directory / "plugin", list(every.values())).run() as running:
        yield running


@pytest.fixture(scope="module")
def healthy(running: Running, every: dict[str, RemoteOnALine]) -> dict[str, Measured]:
    for remote in every.values():
        until_quiet(remote)  # the start's own unwraps are not those of a Decrypt
    return {name: measure(running, list(every.values()), remote, HEALTHY) for name, remote in every.items()}


def test_the_table_has_every_provider_and_every_fault_somewhere() -> None:
    assert len(FAULTS) == 18
    assert {provider for provider, _ in CASES} == set(PROVIDERS)
    assert {fault for _, fault in CASES} == set(FAULTS)
    assert len(CASES) == 46


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_a_fault_each_decrypt_costs_one_unwrap(healthy: dict[str, Measured], provider: str) -> None:
    found = healthy[provider]
    assert {call.code for call in found.cold} == {StatusCode.OK}
    assert found.decrypts == found.unwraps == {"OK": COLD}


@pytest.mark.parametrize(
    ("provider", "fault"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1] in SLOW else []) for case in CASES],
)
def test_a_fault_costs_only_what_needs_the_remote_and_says_what_it_is(
    running: Running, every: dict[str, RemoteOnALine], healthy: dict[str, Measured], provider: str, fault: str
) -> None:
    found = measure(running, list(every.values()), every[provider], fault)
    check(found, healthy[provider], others=len(PROVIDERS) - 1)
