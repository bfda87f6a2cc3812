"""A whole endpoint on a real server, whose operator switches an old version of the key off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead import errors
from keystead._core import Record
from keystead.host.guard import Guard
from keystead.host.members import Member, Members
from providers.vault.bao import Bao
from providers.vault.given import Make
from support.endpoints import key_report
from support.fakes import Rig, rig_of, target_of
from support.messages import SEED, decrypt, encrypt


@pytest.fixture
def rigs(bao: Bao, make: Make, tmp_path: Path) -> Iterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.endpoint.stop()


def started(bao: Bao, make: Make, name: str, state: Path, rigs: list[Rig]) -> Rig:
    provider = make(bao, name, token=bao.make_token(name))
    guard = Guard(provider.config, lambda: provider)
    rig = rig_of(target_of(Members((Member(guard, active=True),)), version_delay=120.0), state)
    rigs.append(rig)
    rig.tend()
    return rig


def versions(rig: Rig) -> list[str]:
    return [wrap.version for wrap in Record.parse(encrypt(rig.endpoint).record).wraps]


def test_min_decryption_version_above_the_record_raises_an_alarm_within_three_probes_and_no_call_fails(
    bao: Bao, make: Make, rigs: list[Rig], tmp_path: Path
) -> None:
    name = bao.key("switched-off")
    rig = started(bao, make, name, tmp_path / "main", rigs)
    before = encrypt(rig.endpoint)
    rig.pass_time(60.0)
    bao.write(f"transit/keys/{name}/rotate")
    bao.write(f"transit/keys/{name}/config", min_decryption_version=2)
    probes = 0
    while not key_report(rig, name="k").refused_versions:
        probes += 1
        assert probes <= 3
        rig.pass_time(60.0 if probes == 1 else 5.0)
        assert decrypt(rig.endpoint, before) == SEED
        assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
        assert rig.healthz == "ok"
    assert versions(rig) == ["2"]
    said = key_report(rig, "k").error or ""
    assert "restore version 1: what was wrapped under it, in etcd and in backups" in said
    assert "too old" in said
    # What a node that starts now can read, and what it cannot.
    cold = started(bao, make, name, tmp_path / "main", rigs)
    assert decrypt(cold.endpoint, encrypt(rig.endpoint)) == SEED
    with pytest.raises(errors.KeyDisabled, match="too old"):
        decrypt(cold.endpoint, before)
    bao.write(f"transit/keys/{name}/config", min_decryption_version=1)
    rig.pass_time(60.0)
    assert key_report(rig, "k").error is None


def test_a_new_version_waits_for_its_delay_on_a_real_server(
    bao: Bao, make: Make, rigs: list[Rig], tmp_path: Path
) -> None:
    name = bao.key("version-delay")
    rig = started(bao, make, name, tmp_path / "main", rigs)
    bao.write(f"transit/keys/{name}/rotate")
    seen = []
    for _ in range(3):
        rig.pass_time(60.0)
        seen.append(versions(rig))
    assert seen == [["1"], ["1"], ["2"]]
    assert key_report(rig, "k").observed_version == "2"


def test_a_restart_after_min_encryption_version_was_raised_still_watches_the_old_version(
    bao: Bao, make: Make, rigs: list[Rig], tmp_path: Path
) -> None:
    """No canary can be made under a version that no longer wraps, so the record's own wrap is tried."""
    name = bao.key("no-longer-wraps")
    started(bao, make, name, tmp_path / "main", rigs)
    bao.write(f"transit/keys/{name}/rotate")
    bao.write(f"transit/keys/{name}/config", min_encryption_version=2)
    rig = started(bao, make, name, tmp_path / "main", rigs)
    assert key_report(rig, "k").error is None
    bao.write(f"transit/keys/{name}/config", min_decryption_version=2)
    rig.pass_time(60.0)
    rig.pass_time(5.0)
    assert key_report(rig, "k").refused_versions == ("1",)
    assert versions(rig) == ["2"]
