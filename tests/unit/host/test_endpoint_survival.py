"""Disks that fail, clocks that jump, remotes that flap, and more records than anybody should have."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import shutil
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keystead import errors
from keystead.host import custody
from support.endpoints import DAY, Lines, Start, events, kek_id, sealed_under_its_own_kek, target
from support.fakes import FakeProvider, until
from support.messages import SEED, decrypt, encrypt

pytestmark = pytest.mark.usefixtures("once")

# The state directory.


def test_a_state_directory_that_is_deleted_is_written_again_at_the_next_probe(
    start: Start, key: FakeProvider, tmp_path: Path, logged: Lines
) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    content = (tmp_path / "main/current").read_bytes()
    shutil.rmtree(tmp_path / "main")
    rig.pass_time(60.0)
    assert (tmp_path / "main/current").read_bytes() == content
    assert len(events(logged, "state.lost")) == 1
    assert encrypt(start(target(key)).endpoint).record == before.record


@pytest.mark.parametrize("content", [b"", b"\x00" * 300, b"KSS\x01"])
def test_a_state_file_that_is_damaged_is_put_aside_and_written_again(
    content: bytes, start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    rig = start(target(key))
    good = (tmp_path / "main/current").read_bytes()
    (tmp_path / "main/current").write_bytes(content)
    rig.pass_time(60.0)
    assert (tmp_path / "main/current").read_bytes() == good
    assert (tmp_path / "main/current.unreadable").read_bytes() == content


def test_what_another_process_wrote_is_not_overwritten_by_a_look(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    older = start(target(key))
    start(target(key, epoch=2))
    newer = (tmp_path / "main/current").read_bytes()
    for _ in range(3):
        older.pass_time(60.0)
    assert (tmp_path / "main/current").read_bytes() == newer


def test_a_full_disk_stops_nothing_is_logged_once_and_makes_one_kek(
    start: Start, key: FakeProvider, tmp_path: Path, logged: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_descriptor: int, _content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        rig = start(target(key))
        before = encrypt(rig.endpoint)
        for _ in range(20):
            assert rig.pass_time(5.0) is False
            assert encrypt(rig.endpoint).record == before.record
            assert rig.healthz == "ok"
        assert rig.endpoint.report().unsaved
        assert rig.observer.all("minted") == ["main"]
        assert len(events(logged, "state.persist_failed")) == 1
    rig.pass_time(5.0)
    assert not rig.endpoint.report().unsaved
    assert encrypt(start(target(key)).endpoint).record == before.record


def test_a_disk_that_fills_up_later_keeps_a_new_epoch_in_memory_and_what_is_on_disk_whole(
    start: Start, key: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(target(key))
    old = (tmp_path / "main/current").read_bytes()

    def write(_descriptor: int, _content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        rig.tend(target(key, epoch=2))
        after = encrypt(rig.endpoint)
        assert after.key_id.startswith("ks1.e2.")
        assert (tmp_path / "main/current").read_bytes() == old
    rig.pass_time(5.0)
    assert encrypt(start(target(key, epoch=2)).endpoint).record == after.record


# Clocks.


def test_a_kek_that_was_made_in_the_future_makes_no_other_and_still_ages(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, max_age=30 * DAY))
    rig.wall.advance(-10 * 365 * DAY)
    for _ in range(20):
        rig.pass_time(DAY)
    assert rig.observer.all("minted") == ["main"]
    for _ in range(14):
        rig.pass_time(DAY)
    assert rig.observer.all("minted") == ["main", "main"], "the monotonic clock knows how long it has been in use"
    for _ in range(20):
        rig.pass_time(DAY)
    assert rig.observer.all("minted") == ["main", "main"]


def test_a_wall_clock_that_jumps_to_and_fro_makes_one_kek(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, max_age=30 * DAY))
    for _ in range(50):
        rig.wall.advance(365 * DAY)
        rig.tend()
        rig.wall.advance(-365 * DAY)
        rig.tend()
    assert rig.observer.all("minted") == ["main", "main"]


def test_reports_tell_spans_rightly_though_the_wall_clock_jumps(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    rig.pass_time(60.0)
    rig.wall.advance(5 * DAY)
    report = rig.endpoint.report()
    assert rig.wall.now - report.since == 60.0
    assert rig.wall.now - (report.keys[0].proven_at or 0.0) == 0.0


# Uses.


def test_a_kek_is_replaced_after_its_number_of_uses(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, max_uses=100))
    before = encrypt(rig.endpoint)
    for _ in range(88):
        encrypt(rig.endpoint)
    rig.tend()
    assert encrypt(rig.endpoint).record == before.record
    for _ in range(30):
        encrypt(rig.endpoint)
    assert rig.endpoint.report().record.uses == 120  # type: ignore[union-attr]
    rig.tend()
    after = encrypt(rig.endpoint)
    assert (after.key_id, kek_id(after) != kek_id(before)) == (before.key_id, True)
    assert rig.endpoint.report().record.uses == 1  # type: ignore[union-attr]
    assert decrypt(rig.endpoint, before) == SEED


# Remotes.


def test_a_remote_that_flaps_every_second_changes_neither_key_id_nor_healthz(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    seen = set()
    for second in range(600):
        key.fail(errors.Unavailable("away") if second % 2 else None)
        rig.pass_time(1.0)
        seen.add((rig.key_id, rig.healthz, encrypt(rig.endpoint).record))
    assert len(seen) == 1
    assert rig.observer.all("minted") == ["main"]


@pytest.mark.parametrize("operation", ["open", "current_version", "wrap", "unwrap"])
def test_an_outage_keeps_no_memory_for_each_probe_that_fails(operation: str, start: Start, key: FakeProvider) -> None:
    """An error that is kept with its traceback keeps the frames, and these the error of the probe before."""
    other = FakeProvider("b")
    rig = start(target(key, old=(other,)), tend=operation != "open")
    for failing in (key, other):
        failing.raises[operation] = errors.Unavailable("away")

    def kept() -> int:
        gc.collect()
        return sum(isinstance(one, types.TracebackType) for one in gc.get_objects())

    for _ in range(10):
        rig.pass_time(5.0)
    before = kept()
    for _ in range(100):
        rig.pass_time(5.0)
    assert kept() - before < 100


@pytest.mark.parametrize("what", ["no record", "a self-test failed"])
def test_an_outage_of_hours_without_a_usable_kek_ends_as_soon_as_the_remote_is_back(
    what: str, start: Start, key: FakeProvider
) -> None:
    rig = start(target(key), tend=what != "no record")
    if what != "no record":
        rig.endpoint._caretaker.distrust()
    key.raises["wrap"] = errors.Unavailable("away")
    for _ in range(1100):
        assert rig.pass_time(5.0) is False
    key.raises.clear()
    rig.pass_time(5.0)
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED


def test_a_mint_that_fails_is_tried_less_and_less_often_while_writes_go_on(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    attempts: list[float] = []

    def failing(*_: Any) -> Any:
        attempts.append(rig.monotonic.now)
        raise errors.Unavailable("the remote is busy")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(custody, "mint", failing)
        rig.tend(target(key, epoch=2))
        for _ in range(100):
            rig.pass_time(5.0)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses[:5] == [5.0, 10.0, 20.0, 40.0, 80.0]
    assert set(pauses[5:]) == {80.0}
    assert encrypt(rig.endpoint).record == before.record
    rig.pass_time(80.0)
    assert encrypt(rig.endpoint).key_id.startswith("ks1.e2.")


def test_ten_thousand_records_are_read_with_a_bounded_store_and_bounded_threads(start: Start) -> None:
    """The store holds 4096. What it has lost is unwrapped again when somebody asks."""
    key = FakeProvider("k", limits={"rate": 10_000})
    rig = start(target(key))
    sealed = [sealed_under_its_own_kek(key) for _ in range(10_000)]
    before = threading.active_count()
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda one: decrypt(rig.endpoint, one), sealed))
    assert answers == [SEED] * 10_000
    assert key.calls["unwrap"] >= 10_000
    until(lambda: threading.active_count() <= before + 20)
    assert rig.endpoint.report().keks == 4096
    current = encrypt(rig.endpoint)
    assert decrypt(rig.endpoint, current) == SEED, "the one in use never gives way"
    assert decrypt(rig.endpoint, sealed[0]) == SEED
    assert rig.endpoint.report().keks == 4096
