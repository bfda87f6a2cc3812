from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from etcd.given import Save
from support.etcd_server import EtcdServer, servers, serving

SERVERS = servers()


@pytest.fixture(params=[pytest.param(name, id=name) for name in SERVERS] or [pytest.param("", id="none")])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EtcdServer]:
    """An empty etcd of each release at hand."""
    if not request.param:
        pytest.skip("NOT TESTED: no etcd; pip install --require-hashes -r requirements/backends.txt")
    with serving(SERVERS[request.param], tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One etcd for all tests of a module, of the oldest release at hand."""
    if not SERVERS:
        pytest.skip("NOT TESTED: no etcd; pip install --require-hashes -r requirements/backends.txt")
    with serving(next(iter(SERVERS.values())), tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture
def save(one_server: EtcdServer, tmp_path: Path) -> Save:
    """Store some values and nothing else, and save a snapshot."""

    def stored(values: Mapping[bytes, bytes]) -> Path:
        for key in one_server.table():
            one_server.delete(key)
        for key, value in values.items():
            one_server.put(key, value)
        return one_server.snapshot(tmp_path / "snapshot.db")

    return stored
