"""A new key on its way to active, as one node sees it: staged, proven, soaked, and refused with the way out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from keystead import errors
from keystead._core import Record, key_id_epoch
from support.endpoints import Lines, Start, events, key_report, target
from support.fakes import FakeProvider, Rig, members_of, target_of
from support.messages import SEED, decrypt, encrypt

SOAK = 900.0

pytestmark = pytest.mark.usefixtures("once")


@pytest.fixture
def new() -> FakeProvider:
    return FakeProvider("new")


def refused(rig: Rig) -> str:
    reason = rig.endpoint.report().refused
    assert reason is not None
    return reason


def refs_in_use(rig: Rig) -> list[str]:
    return [wrap.ref for wrap in Record.parse(encrypt(rig.endpoint).record).wraps]


def goes_on(rig: Rig, before: object) -> None:
    """Reads and writes go on under what was in use."""
    now = encrypt(rig.endpoint)
    assert now.record == getattr(before, "record")  # noqa: B009  a Ciphertext
    assert rig.healthz == "ok"
    assert decrypt(rig.endpoint, now) == SEED


def test_a_key_that_is_active_at_once_is_refused_with_any_epoch_and_nothing_stops(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    rig = start(target(key, soak=SOAK))
    before = encrypt(rig.endpoint)
    for epoch in (2, 3):
        assert rig.tend(target(key, new, epoch=epoch, soak=SOAK)) is False
        assert refused(rig).startswith("key new is active here without having been decrypt before: apply stage decrypt")
        goes_on(rig, before)
    for _ in range(300):
        rig.pass_time(10.0)
    goes_on(rig, before)
    assert key_report(rig, "new").soak_left == SOAK, "no time makes up for the step that was left out"


def test_the_refused_key_decrypts_all_the_same(
    start: Start, key: FakeProvider, new: FakeProvider, tmp_path: Path
) -> None:
    """Another node was faster; this one must read what that one writes."""
    theirs = encrypt(start(target(new), state=tmp_path / "other").endpoint)
    rig = start(target(key, soak=SOAK))
    rig.tend(target(key, new, epoch=2, soak=SOAK))
    assert refused(rig)
    assert decrypt(rig.endpoint, theirs) == SEED


def test_a_key_that_decrypted_for_a_soak_becomes_active(start: Start, key: FakeProvider, new: FakeProvider) -> None:
    rig = start(target(key, soak=SOAK))
    rig.tend(target(key, old=(new,), soak=SOAK))
    report = key_report(rig, "new")
    assert (report.stage, report.proven, report.soak_left) == ("decrypt", True, SOAK)
    rig.pass_time(SOAK)
    assert key_report(rig, "new").soak_left == 0.0
    rig.tend(target(key, new, epoch=2, soak=SOAK))
    assert refs_in_use(rig) == ["fake/k", "fake/new"]
    assert rig.endpoint.report().refused is None
    assert not rig.endpoint.report().activation_unproven


def test_a_key_that_is_active_too_early_waits_and_becomes_active_by_itself(
    start: Start, key: FakeProvider, new: FakeProvider, logged: Lines
) -> None:
    rig = start(target(key, soak=SOAK))
    before = encrypt(rig.endpoint)
    rig.tend(target(key, old=(new,), soak=SOAK))
    rig.pass_time(300.0)
    rig.tend(target(key, new, epoch=2, soak=SOAK))
    assert "wait until 2026-09-21T14:29Z" in refused(rig)
    goes_on(rig, before)
    for _ in range(119):
        rig.pass_time(5.0)
        goes_on(rig, before)
    rig.pass_time(5.0)
    assert refs_in_use(rig) == ["fake/k", "fake/new"]
    assert len(events(logged, "configuration.refused")) == 1, "it is said once, not every 5 s"


def test_the_soak_of_a_key_that_cannot_be_opened_does_not_run(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    new.fail(errors.Unavailable("away"))
    rig = start(target(key, old=(new,), soak=SOAK))
    for _ in range(10):
        rig.pass_time(SOAK / 10)
    new.fail(None)
    rig.pass_time(5.0)
    assert key_report(rig, "new").soak_left == SOAK


def test_a_key_that_does_not_work_here_is_not_made_active_and_the_reason_is_named(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    rig = start(target(key, old=(new,), soak=SOAK))
    before = encrypt(rig.endpoint)
    rig.pass_time(SOAK)
    new.raises["unwrap"] = errors.PermissionDenied("403")
    for _ in range(6):
        rig.pass_time(60.0)
    rig.tend(target(key, new, epoch=2, soak=SOAK))
    assert refused(rig) == (
        "key new has not wrapped and unwrapped on this node in the last 5 min: mend this: key new: unwrap: 403"
    )
    goes_on(rig, before)
    new.raises.clear()
    rig.pass_time(5.0)
    rig.pass_time(5.0)
    assert refs_in_use(rig) == ["fake/k", "fake/new"]


def test_an_old_proof_is_renewed_when_it_is_needed_and_not_a_reason_to_wait(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    rig = start(target(key, old=(new,), soak=SOAK, probe_interval=3600.0))
    rig.pass_time(SOAK)
    assert not key_report(rig, "new").proven, "the probe is an hour apart"
    rig.tend(target(key, new, epoch=2, soak=SOAK, probe_interval=3600.0))
    assert refs_in_use(rig) == ["fake/k", "fake/new"]


def test_a_key_that_is_taken_away_and_comes_back_soaks_anew(start: Start, key: FakeProvider, new: FakeProvider) -> None:
    rig = start(target(key, old=(new,), soak=SOAK))
    rig.pass_time(SOAK)
    rig.tend(target(key, soak=SOAK))
    rig.tend(target(key, new, epoch=2, soak=SOAK))
    assert "without having been decrypt" in refused(rig)


def test_another_key_under_the_same_name_soaks_anew(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, old=(FakeProvider("new"),), soak=SOAK))
    rig.pass_time(SOAK)
    assert key_report(rig, "new").soak_left == 0.0
    other = FakeProvider("new", ref="fake/another")
    rig.tend(target(key, other, epoch=2, soak=SOAK))
    assert "key new is active here without having been decrypt before" in refused(rig)
    assert refs_in_use(rig) == ["fake/k"]


def test_a_retired_key_comes_back_without_a_soak(start: Start, key: FakeProvider, new: FakeProvider) -> None:
    """Every node had it as active a moment ago. Who needs it back may be in a hurry."""
    rig = start(target(key, old=(new,), soak=SOAK))
    rig.pass_time(SOAK)
    rig.tend(target(new, old=(key,), epoch=2, soak=SOAK))
    assert refs_in_use(rig) == ["fake/new"]
    rig.tend(target(key, old=(new,), epoch=3, soak=SOAK))
    assert refs_in_use(rig) == ["fake/k"]


def test_soak_0s_asks_for_no_stage_before(start: Start, key: FakeProvider, new: FakeProvider) -> None:
    rig = start(target(key, soak=0.0))
    rig.tend(target(key, new, epoch=2, soak=0.0))
    assert refs_in_use(rig) == ["fake/k", "fake/new"]


# Rollouts whose steps are restarts.


def test_a_restart_that_makes_a_key_active_counts_the_soak_of_the_process_before(
    start: Start, key: FakeProvider, new: FakeProvider, tmp_path: Path
) -> None:
    start(target(key, soak=SOAK))
    start(target(key, old=(new,), soak=SOAK)).pass_time(SOAK)
    assert "fake/new" in (tmp_path / "main/staged").read_text()
    rig = start(target(key, new, epoch=2, soak=SOAK))
    assert refs_in_use(rig) == ["fake/k", "fake/new"]
    assert not rig.endpoint.report().activation_unproven


def test_a_restart_within_a_soak_begins_it_anew_and_then_lets_the_key_become_active(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    start(target(key, soak=SOAK))
    start(target(key, old=(new,), soak=SOAK)).pass_time(SOAK - 1)
    rig = start(target(key, new, epoch=2, soak=SOAK))
    assert "wait until" in refused(rig)
    assert key_report(rig, "new").soak_left == SOAK
    rig.pass_time(SOAK - 1)
    assert refs_in_use(rig) == ["fake/k"]
    rig.pass_time(1.0)
    assert refs_in_use(rig) == ["fake/k", "fake/new"]


def test_a_restart_that_makes_a_key_active_without_a_stage_before_is_refused(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    before = encrypt(start(target(key, soak=SOAK)).endpoint)
    rig = start(target(key, new, epoch=2, soak=SOAK))
    assert "without having been decrypt before" in refused(rig)
    goes_on(rig, before)


def test_a_key_that_was_gone_for_one_process_soaks_anew(start: Start, key: FakeProvider, new: FakeProvider) -> None:
    start(target(key, old=(new,), soak=SOAK)).pass_time(SOAK)
    start(target(key, soak=SOAK))
    rig = start(target(key, new, epoch=2, soak=SOAK))
    assert "without having been decrypt before" in refused(rig)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[["fake"]]', b"\xff" * 70_000])
def test_a_damaged_note_of_stages_costs_a_soak_and_nothing_else(
    content: bytes, start: Start, key: FakeProvider, new: FakeProvider, tmp_path: Path
) -> None:
    start(target(key, old=(new,), soak=SOAK)).pass_time(SOAK)
    (tmp_path / "main/staged").write_bytes(content)
    rig = start(target(key, new, epoch=2, soak=SOAK))
    assert "without having been decrypt before" in refused(rig)
    rig.tend(target(key, old=(new,), epoch=2, soak=SOAK))
    rig.pass_time(SOAK)
    rig.tend(target(key, new, epoch=3, soak=SOAK))
    assert refs_in_use(rig) == ["fake/k", "fake/new"]


def test_a_note_of_stages_that_could_not_be_written_is_written_later(
    start: Start, key: FakeProvider, new: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_descriptor: int, _content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rig = start(target(key, soak=SOAK))
    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        rig.tend(target(key, old=(new,), soak=SOAK))
        rig.pass_time(SOAK)
    assert not (tmp_path / "main/staged").exists()
    rig.pass_time(60.0)
    again = start(target(key, new, epoch=2, soak=SOAK))
    assert refs_in_use(again) == ["fake/k", "fake/new"]


# Nothing to go by.


def test_an_empty_state_directory_with_epoch_1_is_a_first_start(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    rig = start(target(key, new, soak=SOAK))
    assert refs_in_use(rig) == ["fake/k", "fake/new"]
    assert not rig.endpoint.report().activation_unproven


def test_an_empty_state_directory_with_a_higher_epoch_is_believed_and_says_so_until_a_change_is_proven(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    rig = start(target(key, epoch=7, soak=SOAK))
    assert key_id_epoch(rig.key_id) == 7
    assert rig.endpoint.report().activation_unproven
    rig.pass_time(60.0)
    assert rig.endpoint.report().activation_unproven
    rig.tend(target(key, old=(new,), epoch=7, soak=SOAK))
    rig.pass_time(SOAK)
    rig.tend(target(new, old=(key,), epoch=8, soak=SOAK))
    assert refs_in_use(rig) == ["fake/new"]
    assert not rig.endpoint.report().activation_unproven


def test_when_no_configured_key_opens_the_record_the_configuration_is_believed_and_said_to_be_unproven(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    start(target(key, soak=SOAK))
    rig = start(target(new, epoch=2, soak=SOAK))
    assert refs_in_use(rig) == ["fake/new"]
    assert rig.endpoint.report().activation_unproven


def test_a_peers_file_is_no_activation(start: Start, key: FakeProvider, new: FakeProvider, tmp_path: Path) -> None:
    theirs = encrypt(start(target(key, new, epoch=4, soak=SOAK), state=tmp_path / "peer").endpoint)
    (tmp_path / "main").mkdir()
    (tmp_path / "main/current").write_bytes((tmp_path / "peer/current").read_bytes())
    rig = start(target(key, new, epoch=4, soak=SOAK))
    assert encrypt(rig.endpoint).record == theirs.record
    assert not rig.endpoint.report().activation_unproven


def test_a_key_that_waits_is_not_lost_by_raising_the_epoch_again(
    start: Start, key: FakeProvider, new: FakeProvider
) -> None:
    rig = start(target(key, old=(new,), soak=SOAK))
    members = members_of(key, new)
    for epoch in (2, 3, 4):
        rig.pass_time(200.0)
        rig.tend(target_of(members, epoch=epoch, soak=SOAK))
        assert refs_in_use(rig) == ["fake/k"]
    rig.pass_time(300.0)
    assert key_id_epoch(rig.key_id) == 4
    assert refs_in_use(rig) == ["fake/k", "fake/new"]


def test_what_soaked_is_remembered_though_the_disk_could_not_be_read_at_the_start(
    start: Start, key: FakeProvider, new: FakeProvider, tmp_path: Path
) -> None:
    before = start(target(key, old=(new,), soak=SOAK))
    before.pass_time(SOAK)
    before.endpoint.stop()
    (tmp_path / "main").rename(tmp_path / "aside")
    (tmp_path / "main").touch()
    new.raises["wrap"] = errors.Unavailable("away")
    rig = start(target(key, new, epoch=2, soak=SOAK))
    (tmp_path / "main").unlink()
    (tmp_path / "aside").rename(tmp_path / "main")
    rig.pass_time(5.0)
    new.raises.clear()
    rig.pass_time(5.0)
    rig.pass_time(5.0)
    assert rig.endpoint.report().refused is None
    assert refs_in_use(rig) == ["fake/k", "fake/new"]
