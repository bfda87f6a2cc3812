"""Recovery keys, records that an operator places, and the ways out for a node that has none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from keystead import errors
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, key_id_epoch
from keystead.provider import WrapContext
from support.endpoints import DAY, Start, key_report, target
from support.fakes import FakeProvider, Rig
from support.messages import SEED, Ciphertext, decrypt, encrypt

AWAY = errors.Unavailable("no route to host")

pytestmark = pytest.mark.usefixtures("once")


@pytest.fixture
def safe() -> FakeProvider:
    return FakeProvider("safe")


def roles(ciphertext: Ciphertext) -> dict[str, int]:
    return {wrap.ref: wrap.role for wrap in Record.parse(ciphertext.record).wraps}


# Recovery keys.


def test_a_recovery_key_wraps_and_is_never_asked_to_unwrap(start: Start, key: FakeProvider, safe: FakeProvider) -> None:
    rig = start(target(key, recovery=(safe,)))
    ciphertext = encrypt(rig.endpoint)
    assert roles(ciphertext) == {"fake/k": ROLE_ONLINE, "fake/safe": ROLE_RECOVERY}
    for _ in range(5):
        rig.pass_time(60.0)
    again = start(target(key, recovery=(safe,)))
    assert decrypt(again.endpoint, ciphertext) == SEED
    assert safe.calls["unwrap"] == 0
    assert safe.calls["wrap"] == 1, "for the KEK, and no probe"


def test_its_wrap_opens_the_kek_by_hand(start: Start, key: FakeProvider, safe: FakeProvider) -> None:
    ciphertext = encrypt(start(target(key, recovery=(safe,))).endpoint)
    record = Record.parse(ciphertext.record)
    (wrap,) = [wrap for wrap in record.wraps if wrap.role == ROLE_RECOVERY]
    kek = safe.unwrap(wrap.blob, WrapContext(record.kek_id, record.cluster), wrap.version, time.monotonic() + 10)
    assert Kek.from_bytes(kek).kek_id == record.kek_id


def test_it_never_opens_a_record_online_even_if_it_is_the_only_one_that_could(
    start: Start, key: FakeProvider, safe: FakeProvider, tmp_path: Path
) -> None:
    ciphertext = encrypt(start(target(safe), state=tmp_path / "theirs").endpoint)
    rig = start(target(key, recovery=(safe,)))
    safe.calls.clear()
    with pytest.raises(errors.NoConfiguredMember):
        decrypt(rig.endpoint, ciphertext)
    assert safe.calls["unwrap"] == 0


def test_it_does_not_count_in_health(start: Start, key: FakeProvider, safe: FakeProvider) -> None:
    rig = start(target(key, recovery=(safe,)))
    safe.fail(AWAY)
    for _ in range(5):
        rig.pass_time(60.0)
    assert (rig.endpoint.report().state, rig.healthz) == ("ok", "ok")
    report = key_report(rig, "safe")
    assert (report.role, report.stage, report.proven, report.soak_left) == ("recovery", "active", False, 0.0)
    key.fail(AWAY)
    for _ in range(5):
        rig.pass_time(60.0)
    assert rig.endpoint.report().state == "lost", "a recovery key does not make it degraded"


def test_adding_one_takes_a_higher_epoch_and_neither_soak_nor_proof(
    start: Start, key: FakeProvider, safe: FakeProvider
) -> None:
    rig = start(target(key, soak=900.0))
    before = encrypt(rig.endpoint)
    rig.tend(target(key, recovery=(safe,), soak=900.0))
    assert rig.endpoint.report().refused == "the active members changed under epoch 1: set epoch to 2"
    rig.tend(target(key, recovery=(safe,), epoch=2, soak=900.0))
    after = encrypt(rig.endpoint)
    assert key_id_epoch(after.key_id) == 2
    assert roles(after) == {"fake/k": ROLE_ONLINE, "fake/safe": ROLE_RECOVERY}
    assert decrypt(rig.endpoint, before) == SEED


def test_the_key_id_says_whether_a_key_is_for_recovery(start: Start, key: FakeProvider, safe: FakeProvider) -> None:
    online = start(target(key, safe), state=None)
    recovery = start(target(key, recovery=(safe,)), state=None)
    assert online.key_id != recovery.key_id


def test_no_record_lacks_it(start: Start, key: FakeProvider, safe: FakeProvider) -> None:
    safe.raises["wrap"] = errors.ConfigError("the recipient is not one")
    rig = start(target(key, recovery=(safe,)))
    assert rig.healthz.startswith("starting: key safe: wrap: the recipient is not one")
    safe.raises.clear()
    rig.tend()
    assert "fake/safe" in roles(encrypt(rig.endpoint))


def test_keks_that_only_a_recovery_key_could_open_are_dropped(
    start: Start, key: FakeProvider, safe: FakeProvider
) -> None:
    new = FakeProvider("new")
    rig = start(target(key, recovery=(safe,)))
    before = encrypt(rig.endpoint)
    rig.tend(target(new, recovery=(safe,), epoch=2))
    assert rig.endpoint.report().keks == 1
    with pytest.raises(errors.NoConfiguredMember):
        decrypt(rig.endpoint, before)


# A node without a record.


def test_a_peers_file_starts_a_new_node_while_one_of_two_keys_is_away(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    other = FakeProvider("b")
    theirs = encrypt(start(target(key, other), state=tmp_path / "peer").endpoint)
    other.fail(AWAY)
    rig = start(target(key, other))
    here = tmp_path / "main/current"
    assert rig.healthz == (
        "starting: key b: open: no route to host; a node without a record needs every active key once, or a copy of "
        f"another node's file in {here}"
    )
    here.parent.mkdir(exist_ok=True)
    here.write_bytes((tmp_path / "peer/current").read_bytes())
    rig.pass_time(5.0)
    assert rig.healthz == "ok", "the running process finds it"
    assert encrypt(rig.endpoint).record == theirs.record
    assert decrypt(rig.endpoint, theirs) == SEED
    assert rig.observer.all("minted") == []


def test_a_copy_that_is_damaged_is_set_aside_and_the_reason_stays(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    key.fail(AWAY)
    rig = start(target(key))
    (tmp_path / "main").mkdir(exist_ok=True)
    (tmp_path / "main/current").write_bytes(b"half a fi")
    rig.pass_time(5.0)
    assert (tmp_path / "main/current.unreadable").exists()
    assert rig.healthz.startswith("starting: key k: open: no route to host; a node without a record")


# A record that the operator places.


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    return tmp_path / "shared"


def place(start: Start, path: Path, *keys: FakeProvider, **changes: object) -> Ciphertext:
    """Make a record as another node would, and put it in place in one step."""
    made = path.with_name(f"made-{len(list(path.parent.iterdir()))}")
    theirs = encrypt(start(target(*keys, **changes), state=made).endpoint)  # type: ignore[arg-type]
    new = path.with_suffix(".new")
    new.write_bytes((made / "current").read_bytes())
    new.replace(path)
    return theirs


def in_use(rig: Rig) -> bytes:
    return encrypt(rig.endpoint).record


def test_a_placed_record_is_used_in_the_place_of_an_own_one_and_no_node_mints(
    start: Start, key: FakeProvider, placed: Path, tmp_path: Path
) -> None:
    theirs = place(start, placed, key)
    nodes = [start(target(key, record_file=placed), state=tmp_path / name) for name in ("a", "b")]
    for rig in nodes:
        assert in_use(rig) == theirs.record
        assert rig.key_id == theirs.key_id
        assert decrypt(rig.endpoint, theirs) == SEED
        assert (tmp_path / "a/current").exists(), "it is the high-water mark too"
    assert len({kek.endpoint.report().record.kek_id for kek in nodes}) == 1  # type: ignore[union-attr]


def test_one_key_of_a_placed_record_is_enough_for_a_first_start(start: Start, key: FakeProvider, placed: Path) -> None:
    other = FakeProvider("b")
    theirs = place(start, placed, key, other)
    other.raises["wrap"] = other.raises["unwrap"] = AWAY
    rig = start(target(key, other, record_file=placed))
    assert in_use(rig) == theirs.record


def test_that_is_so_too_where_the_other_key_cannot_even_be_opened(
    start: Start, key: FakeProvider, placed: Path, tmp_path: Path
) -> None:
    other = FakeProvider("b")
    theirs = place(start, placed, key, other)
    other.fail(AWAY)
    rig = start(target(key, other, record_file=placed))
    assert (in_use(rig), rig.key_id, rig.healthz) == (theirs.record, theirs.key_id, "ok")
    assert (tmp_path / "main/current").read_bytes() == placed.read_bytes()
    other.fail(None)
    for _ in range(3):
        rig.pass_time(5.0)
    assert (rig.endpoint.report().state, rig.endpoint.report().refused) == ("ok", None)
    assert in_use(rig) == theirs.record


@pytest.mark.parametrize("case", ["another open key", "one key too few", "another epoch", "another label"])
def test_what_does_not_fit_the_keys_that_are_open_is_not_begun_with(
    case: str, start: Start, key: FakeProvider, placed: Path
) -> None:
    other, third = FakeProvider("b"), FakeProvider("c")
    match case:
        case "another open key":
            place(start, placed, other, third)
        case "one key too few":
            place(start, placed, key)
        case "another epoch":
            place(start, placed, key, other, epoch=2)
        case _:
            place(start, placed, key, other, cluster="x", accept_clusters=("x",))
    other.fail(AWAY)
    rig = start(target(key, other, record_file=placed))
    assert rig.healthz == "starting: key b: open: no route to host"
    assert rig.key_id == ""


def test_one_that_turns_out_not_to_fit_once_all_keys_are_open_is_refused_and_not_taken_back(
    start: Start, key: FakeProvider, placed: Path
) -> None:
    other, third = FakeProvider("b"), FakeProvider("c")
    theirs = place(start, placed, key, third)
    other.fail(AWAY)
    rig = start(target(key, other, record_file=placed))
    assert in_use(rig) == theirs.record
    other.fail(None)
    rig.pass_time(5.0)
    assert "the active members changed under epoch 1" in (rig.endpoint.report().refused or "")
    assert (in_use(rig), rig.healthz) == (theirs.record, "ok")


def test_another_record_in_its_place_is_taken_up(start: Start, key: FakeProvider, placed: Path) -> None:
    first = place(start, placed, key)
    rig = start(target(key, record_file=placed))
    second = place(start, placed, key)
    rig.pass_time(60.0)
    assert in_use(rig) == second.record != first.record
    assert decrypt(rig.endpoint, first) == SEED
    restarted = start(target(key, record_file=placed))
    assert in_use(restarted) == second.record


def test_a_higher_epoch_waits_for_a_record_that_was_made_for_it(start: Start, key: FakeProvider, placed: Path) -> None:
    first = place(start, placed, key)
    rig = start(target(key, record_file=placed))
    rig.tend(target(key, epoch=2, record_file=placed))
    assert in_use(rig) == first.record
    assert rig.endpoint.report().overdue == (f"epoch raised from 1 to 2: place a new record in {placed}")
    second = place(start, placed, key, epoch=2)
    rig.pass_time(80.0)
    assert in_use(rig) == second.record
    assert rig.endpoint.report().overdue is None


@pytest.mark.parametrize("case", ["lower epoch", "higher epoch", "other keys", "other label"])
def test_a_placed_record_that_does_not_belong_to_the_configuration_is_refused_and_nothing_stops(
    case: str, start: Start, key: FakeProvider, placed: Path
) -> None:
    place(start, placed, key, epoch=2)
    rig = start(target(key, epoch=2, record_file=placed))
    before = in_use(rig)
    other = FakeProvider("b")
    match case:
        case "lower epoch":
            place(start, placed, key, epoch=1)
            said = "was made for epoch 1, and epoch is 2: place one of that epoch"
        case "higher epoch":
            place(start, placed, key, epoch=3)
            said = "was made for epoch 3, and epoch is 2: place one of that epoch"
        case "other keys":
            place(start, placed, other, epoch=2)
            said = "does not belong to this configuration: the active members changed"
        case _:
            place(start, placed, key, epoch=2, cluster="x", accept_clusters=("x",))
            said = "does not belong to this configuration: cluster changed"
    rig.pass_time(60.0)
    assert said in (rig.endpoint.report().refused or "")
    assert (in_use(rig), rig.healthz) == (before, "ok")


def test_a_placed_record_with_a_lower_version_is_refused(start: Start, key: FakeProvider, placed: Path) -> None:
    older = place(start, placed, key)
    content = placed.read_bytes()
    key.rotate()
    newer = place(start, placed, key)
    rig = start(target(key, record_file=placed))
    assert in_use(rig) == newer.record != older.record
    placed.write_bytes(content)
    rig.pass_time(60.0)
    assert "wrapped under version 1, below 2" in (rig.endpoint.report().refused or "")
    assert in_use(rig) == newer.record


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_placed_file_that_cannot_be_read_stops_nobody_who_has_a_record(
    content: bytes | None, start: Start, key: FakeProvider, placed: Path
) -> None:
    theirs = place(start, placed, key)
    rig = start(target(key, record_file=placed))
    if content is None:
        placed.unlink()
    else:
        placed.write_bytes(content)
    rig.pass_time(60.0)
    assert (rig.endpoint.report().refused or "").startswith(f"recordFile {placed}: ")
    assert (in_use(rig), rig.healthz) == (theirs.record, "ok")
    restarted = start(target(key, record_file=placed))
    assert in_use(restarted) == theirs.record, "from the state directory"


def test_without_a_placed_file_a_first_start_says_so_and_waits_for_it(
    start: Start, key: FakeProvider, placed: Path
) -> None:
    rig = start(target(key, record_file=placed))
    assert rig.healthz == f"starting: recordFile {placed}: No such file or directory"
    theirs = place(start, placed, key)
    rig.pass_time(5.0)
    assert in_use(rig) == theirs.record


def test_a_placed_file_that_everybody_may_write_to_is_refused(start: Start, key: FakeProvider, placed: Path) -> None:
    place(start, placed, key)
    os.chmod(placed, 0o666)  # noqa: PTH101  as an operator would
    rig = start(target(key, record_file=placed))
    assert rig.healthz == f"starting: recordFile {placed} can be written by everybody: chmod o-w"


def test_an_old_placed_record_is_overdue_and_stays(start: Start, key: FakeProvider, placed: Path) -> None:
    theirs = place(start, placed, key)
    rig = start(target(key, record_file=placed, max_age=30 * DAY))
    rig.pass_time(34 * DAY)
    assert rig.endpoint.report().overdue == f"it reached its maximum age: place a new record in {placed}"
    assert in_use(rig) == theirs.record


def test_a_new_key_in_a_placed_record_is_held_back_like_in_an_own_one(
    start: Start, key: FakeProvider, placed: Path
) -> None:
    new = FakeProvider("new")
    first = place(start, placed, key, soak=900.0)
    rig = start(target(key, record_file=placed, soak=900.0))
    second = place(start, placed, key, new, epoch=2)
    rig.tend(target(key, new, epoch=2, record_file=placed, soak=900.0))
    assert "without having been decrypt before" in (rig.endpoint.report().refused or "")
    assert in_use(rig) == first.record
    rig.tend(target(key, old=(new,), epoch=2, record_file=placed, soak=900.0))
    rig.pass_time(900.0)
    rig.tend(target(key, new, epoch=2, record_file=placed, soak=900.0))
    assert in_use(rig) == second.record
