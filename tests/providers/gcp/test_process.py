"""`keystead serve` over gcp-kms and a FAKE of Cloud KMS: what it wraps, what survives, and what is in its log."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.gcp.fake import KEY, TOKEN, FakeKms, Fault
from providers.gcp.given import Served
from providers.gcp.metadata import FakeMetadata
from support.loud import SPOKEN, loud_site
from support.process import Files, Process

SEED = bytes(range(32))


class Started:
    """Starts `keystead serve` with the fake's key."""

    def __init__(self, files: Files, environment: dict[str, str]) -> None:
        self._files = files
        self._environment = environment

    @contextlib.contextmanager
    def run(self, **environment: str) -> Iterator[Process]:
        with self._files.run(environment={**self._environment, **environment}) as process:
            yield process


@pytest.fixture
def started(served: Served, metadata: FakeMetadata, tmp_path: Path) -> Started:
    files = Files(tmp_path)
    document: dict[str, Any] = files.document(versionDelay="0s")
    fields = {"endpoint": served.endpoint, "transport": served.transport, "caFile": str(served.ca_file)}
    document["keys"] = [{"name": "lab", "provider": "gcp-kms", "keyName": KEY, **fields}]
    document["health"] = {"probeInterval": "1s"}
    document["observability"]["logging"]["verbosity"] = 10
    files.write(document)
    return Started(files, {"GCE_METADATA_HOST": metadata.address})


def down(kms: FakeKms) -> None:
    kms.faults[:] = [Fault(status="UNAVAILABLE", times=1_000_000)]


def test_what_was_written_is_read_after_a_restart_and_while_the_service_is_away(
    served: Served, started: Started
) -> None:
    with started.run() as process:
        key_id = process.until_ok()
        sealed = process.client.seal(SEED)
        assert process.stop() == 0
    with started.run() as process:
        assert process.until_ok() == key_id
        down(served.kms)
        assert process.client.decrypt(sealed) == SEED
        assert process.client.seal(SEED).key_id == key_id
        assert process.stop() == 0


def test_a_rotation_gives_a_new_key_id_and_what_was_written_before_is_still_read(
    served: Served, started: Started
) -> None:
    with started.run() as process:
        before = process.until_ok()
        sealed = process.client.seal(SEED)
        assert served.kms.rotate() == 2
        process.until_key_id(lambda key_id: key_id != before)
        assert process.client.decrypt(sealed) == SEED
        assert process.stop() == 0
    assert f"{KEY}/cryptoKeyVersions/2" in {name for method, name, _ in served.kms.calls if method == "Encrypt"}


@pytest.mark.parametrize("served", ["grpc"], indirect=True)
def test_nothing_secret_is_logged_even_if_someone_sets_all_loggers_to_debug(
    served: Served, started: Started, tmp_path: Path
) -> None:
    site = loud_site(tmp_path)
    with started.run(PYTHONPATH=str(site)) as process:
        process.until_ok()
        process.client.seal(SEED)
        served.kms.keys[KEY].versions[1].state = "DISABLED"
        process.until_event("health.changed", 2)  # the first one is the start
        assert process.stop() == 0
        log = process.log
    assert SPOKEN in log
    assert "is not enabled, current state is: DISABLED" in log or "is primary and DISABLED" in log
    assert served.kms.plaintexts
    assert TOKEN not in log
    for secret in [SEED, *served.kms.plaintexts]:
        for spelling in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert spelling not in log
