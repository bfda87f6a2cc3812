from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.etcd_server import EtcdServer, servers, serving

SERVERS = servers()


@pytest.fixture(params=[pytest.param(name, id=name) for name in SERVERS] or [pytest.param("", id="none")])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EtcdServer]:
    """An empty etcd of each release at hand."""
    if not request.param:
        pytest.skip("NOT TESTED: no etcd; pip install --require-hashes -r requirements/backends.txt")
    with serving(SERVERS[request.param], tmp_path) as started:
        yield started
