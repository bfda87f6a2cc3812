"""An endpoint and its state directory: written first, found again, shared in an overlap, and never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keystead._core import key_id_epoch
from keystead.host import custody as custody_module
from keystead.host.mint import mint
from keystead.host.state import StateDir
from support.endpoints import Lines, Start, events, kek_id, target
from support.fakes import FakeProvider, Rig, rig_of
from support.messages import SEED, Ciphertext, decrypt, encrypt


def test_a_state_directory_that_cannot_be_written_stops_nothing_and_is_written_later(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_bytes(b"")
    rig = start(target(key), state=blocker / "main", tend=False)
    assert rig.tend() is False
    assert rig.healthz == "ok"
    before = encrypt(rig.endpoint)
    assert decrypt(rig.endpoint, before) == SEED
    assert rig.endpoint.report().unsaved
    assert set(rig.observer.all("persisted")) == {False}
    rig.tend()
    assert rig.observer.all("minted") == ["main"], "one for the process, not one for each attempt"
    blocker.unlink()
    assert rig.tend() is True
    assert not rig.endpoint.report().unsaved
    assert rig.observer.all("persisted")[-1] is True
    assert encrypt(start(target(key), state=blocker / "main").endpoint).record == before.record


def test_a_state_that_could_not_be_saved_at_once_survives_a_restart_as_ciphertexts_carry_it(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "blocker").write_bytes(b"")
    before = encrypt(start(target(key), state=tmp_path / "blocker/main").endpoint)
    again = start(target(key), state=tmp_path / "blocker/main")
    assert encrypt(again.endpoint).key_id == before.key_id
    assert kek_id(encrypt(again.endpoint)) != kek_id(before)
    assert decrypt(again.endpoint, before) == SEED


GARBAGE = [b"", b"\x00" * 300, b"KSS\x01\x27ks1.e1." + b"x" * 200]


@pytest.mark.parametrize("content", GARBAGE, ids=["empty", "zeros", "cut"])
def test_a_state_file_that_cannot_be_read_is_set_aside_and_another_made(
    content: bytes, start: Start, key: FakeProvider, tmp_path: Path, logged: Lines
) -> None:
    before = encrypt(start(target(key)).endpoint)
    (tmp_path / "main/current").write_bytes(content)
    rig = start(target(key))
    assert rig.healthz == "ok"
    assert rig.key_id == before.key_id
    assert (tmp_path / "main/current.unreadable").read_bytes() == content
    assert decrypt(rig.endpoint, before) == SEED
    (line,) = events(logged, "state.unreadable")
    assert line["moved_to"] == str(tmp_path / "main/current.unreadable")


def damaged(path: Path) -> bytes:
    """Flip a bit of the record's MAC, which a parser cannot see; return what is on disk now."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return bytes(content)


def test_a_state_whose_record_no_key_will_ever_open_is_set_aside_and_another_made(
    start: Start, key: FakeProvider, tmp_path: Path, logged: Lines
) -> None:
    before = encrypt(start(target(key)).endpoint)
    content = damaged(tmp_path / "main/current")
    rig = start(target(key))
    assert rig.healthz == "ok"
    assert (tmp_path / "main/current.unreadable").read_bytes() == content
    assert decrypt(rig.endpoint, before) == SEED
    assert kek_id(encrypt(rig.endpoint)) != kek_id(before)
    (line,) = events(logged, "state.refused")
    assert "MAC" in line["error"]


def test_a_damaged_state_of_a_higher_epoch_still_keeps_a_lower_one_from_use(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    start(target(key, epoch=3))
    content = damaged(tmp_path / "main/current")
    rig = start(target(key, epoch=2))
    assert rig.healthz.startswith("starting: epoch 2 is below 3")
    assert (tmp_path / "main/current").read_bytes() == content


def test_a_state_file_that_can_be_neither_read_nor_set_aside_stops_nothing(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    before = encrypt(start(target(key)).endpoint)
    (tmp_path / "main/current").write_bytes(b"garbage")
    (tmp_path / "main/current.unreadable").mkdir()  # a rename onto a directory fails, as on a read-only disk
    rig = start(target(key))
    assert rig.healthz == "ok"
    assert decrypt(rig.endpoint, before) == SEED


def test_a_local_kek_is_on_disk_before_anybody_encrypts_under_it(
    start: Start, key: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    seen: list[Ciphertext] = []
    real = StateDir.write

    def write(self: Any, state: Any) -> None:
        seen.append(encrypt(rig.endpoint))
        real(self, state)
        seen.append(encrypt(rig.endpoint))

    monkeypatch.setattr(StateDir, "write", write)
    rig.tend(target(key, epoch=2))
    assert [one.record for one in seen] == [before.record, before.record]
    assert encrypt(rig.endpoint).record != before.record


def test_of_two_processes_the_older_cannot_undo_the_newer_and_goes_on_under_what_that_one_wrote(
    start: Start, key: FakeProvider
) -> None:
    older = start(target(key))
    newer = start(target(key, epoch=3))
    ahead = encrypt(newer.endpoint)
    before = encrypt(older.endpoint)
    assert key_id_epoch(before.key_id) == 1, "it does not look at the disk without a reason"
    older.tend(target(key, epoch=2))
    assert encrypt(older.endpoint).record == before.record
    older.tend()
    assert encrypt(older.endpoint).record == ahead.record
    assert older.endpoint.report().refused == "epoch 2 is below 3, which has been in use: set epoch to 4"
    key.calls.clear()
    older.tend()
    assert key.calls["wrap"] == 0, "it does not mint again and again for nothing"
    assert older.observer.all("minted") == ["main"]
    restarted = start(target(key, epoch=3))
    assert encrypt(restarted.endpoint).record == ahead.record
    assert [decrypt(older.endpoint, one) for one in (before, ahead)] == [SEED, SEED]
    older.tend(target(key, epoch=3))
    assert older.endpoint.report().refused is None
    assert encrypt(older.endpoint).record == ahead.record


def test_an_older_process_that_cannot_unwrap_what_the_newer_wrote_keeps_its_own(
    start: Start, key: FakeProvider
) -> None:
    new = FakeProvider("new")
    older = start(target(key))
    start(target(new, old=(key,), epoch=3))
    before = encrypt(older.endpoint)
    for _ in range(3):
        older.tend(target(key, epoch=2))
        assert encrypt(older.endpoint).record == before.record
        assert older.healthz == "ok"
    assert older.endpoint.report().refused == "epoch 2 is below 3, which has been in use: set epoch to 4"


def test_a_first_start_beside_a_newer_process_uses_what_that_one_wrote(
    start: Start, key: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state directory is empty when it looks, and holds a higher epoch when it writes."""
    late = start(target(key, epoch=1), tend=False)
    real = mint
    newer: list[Rig] = []

    def slowly(*args: Any) -> Any:
        made = real(*args)
        if not newer:
            newer.append(rig_of(target(key, epoch=2), late.endpoint._caretaker._ledger.path.parent))  # type: ignore[union-attr]
            newer[0].tend()
        return made

    monkeypatch.setattr(custody_module, "mint", slowly)
    late.tend()
    late.tend()
    assert late.key_id == newer[0].key_id
    assert encrypt(late.endpoint).record == encrypt(newer[0].endpoint).record
    assert late.endpoint.report().refused == "epoch 1 is below 2, which has been in use: set epoch to 3"
    newer[0].endpoint.stop()
