"""How often a remote is asked, counted where it is asked: never for Status, once for a record, whoever waits for it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults.all import remotes
from faults.expected import PROVIDERS
from faults.plugin import Plugin, Running, until
from faults.remotes import RemoteOnALine, until_quiet
from support.serving import Client, Sealed, short_directory

NODES = 3
SEEDS = 50
DECODERS = 10
"""How often Kubernetes 1.37 asks for one seed at once."""
SEED = bytes(32)


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
    with Plugin(directory / "one", list(every.values())).run() as running:
        yield running


@pytest.mark.parametrize("provider", PROVIDERS)
def test_neither_status_nor_decrypts_from_memory_nor_encrypts_ask_the_remote(
    running: Running, every: dict[str, RemoteOnALine], provider: str
) -> None:
    remote, client = every[provider], running.clients[provider]
    sealed = client.seal(SEED)
    until_quiet(remote)
    requests, heard = remote.requests(), len(remote.line.heard)
    for _ in range(1000):
        assert client.status().healthz == "ok"
    for _ in range(1000):
        assert client.decrypt(sealed) == SEED
    for _ in range(100):
        client.encrypt(SEED)
    assert remote.requests() == requests > 0
    assert len(remote.line.heard) == heard > 0


@pytest.mark.parametrize("provider", PROVIDERS)
def test_fifty_equal_decrypts_at_once_ask_the_remote_once(
    running: Running, every: dict[str, RemoteOnALine], provider: str
) -> None:
    remote, client = every[provider], running.clients[provider]
    (sealed,) = remote.cold(1)
    unwraps = remote.unwraps()
    with ThreadPoolExecutor(SEEDS) as pool:
        with remote.fault("server stopped (SIGSTOP)"):
            calls = [pool.submit(client.decrypt, sealed) for _ in range(SEEDS)]
            until(lambda: running.waiting(provider) == SEEDS)
        assert [call.result() for call in calls] == [SEED] * SEEDS
    assert remote.unwraps() - unwraps == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_cold_start_with_fifty_seeds_of_three_nodes_asks_the_remote_once_for_each_node(
    directory: Path, every: dict[str, RemoteOnALine], provider: str
) -> None:
    remote = every[provider]
    nodes = [Plugin(directory / f"{provider}-{number}", [remote]) for number in range(NODES)]
    seeds: list[Sealed] = []
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.run()).clients[provider] for node in nodes]
        assert len({client.status().key_id for client in clients}) == 1
        for client, number in zip(itertools.cycle(clients), range(SEEDS), strict=False):
            seeds.append(client.seal(number.to_bytes(32, "big")))
    records = {sealed.record for sealed in seeds}
    assert (len({sealed.ciphertext for sealed in seeds}), len(records)) == (SEEDS, NODES)

    with nodes[0].run() as running:
        until_quiet(remote)
        unwraps = remote.unwraps()
        assert decrypt_all(running.clients[provider], seeds) == SEEDS * DECODERS
        # The node's own record was unwrapped at its start.
        assert remote.unwraps() - unwraps == len(records) - 1


def decrypt_all(client: Client, seeds: list[Sealed]) -> int:
    """Decrypt every seed from many threads at once, as often as the workers of a starting API server do."""
    with ThreadPoolExecutor(SEEDS) as pool:
        calls = [(number, pool.submit(client.decrypt, seeds[number])) for number in [*range(SEEDS)] * DECODERS]
        return sum(call.result() == number.to_bytes(32, "big") for number, call in calls)
