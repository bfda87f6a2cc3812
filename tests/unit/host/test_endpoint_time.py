"""An endpoint over time: outages, refusals, new versions, age, and clocks that jump."""

from __future__ import annotations

import pytest

from keystead import errors
from keystead._core import Record, key_id_epoch
from support.endpoints import DAY, Start, errors_of, kek_id, target
from support.fakes import FakeProvider
from support.messages import SEED, decrypt, encrypt


@pytest.mark.usefixtures("once")
def test_an_outage_stops_neither_writes_nor_known_reads_and_turns_red_after_its_grace(
    start: Start, key: FakeProvider
) -> None:
    rig = start(target(key, grace=120.0))
    ciphertext = encrypt(rig.endpoint)
    key.fail(errors.Unavailable("no route to host"))
    assert rig.pass_time(60.0) is False, "a failure is followed up soon"
    for _ in range(23):
        rig.pass_time(5.0)
        assert rig.healthz == "ok"
    assert rig.endpoint.report().state == "lost"
    rig.pass_time(5.0)
    assert rig.healthz.startswith("remote unreachable for 2 min: key k: ")
    assert decrypt(rig.endpoint, ciphertext) == SEED
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
    key.fail(None)
    rig.pass_time(5.0)
    rig.pass_time(5.0)
    assert rig.healthz == "ok"
    assert encrypt(rig.endpoint).record == ciphertext.record


def test_a_refusal_turns_red_at_the_third_probe_and_writes_go_on(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    key.raises["wrap"] = errors.PermissionDenied("403")
    seen = []
    for _ in range(3):
        rig.pass_time(60.0)
        seen.append(rig.healthz)
    assert seen == ["ok", "ok", "remote denies key: key k: wrap: 403"]
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED


def test_a_key_that_wraps_but_may_not_unwrap_is_noticed(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    key.raises["unwrap"] = errors.PermissionDenied("403")
    for _ in range(3):
        rig.pass_time(60.0)
    assert rig.healthz == "remote denies key: key k: unwrap: 403"


def test_a_key_that_only_decrypts_has_its_credentials_kept_alive_at_each_probe(start: Start, key: FakeProvider) -> None:
    old = FakeProvider("old")
    rig = start(target(key, old=(old,)))
    before = old.calls["keep_alive"]
    for _ in range(3):
        rig.pass_time(60.0)
    assert old.calls["keep_alive"] == before + 3
    assert key.calls["keep_alive"] == 0, "a probe renews those of an active key"
    old.raises["keep_alive"] = errors.Unauthenticated("the token has ended")
    rig.pass_time(60.0)
    assert rig.healthz == "ok"


def test_one_member_down_is_degraded_and_ok(start: Start, key: FakeProvider) -> None:
    other = FakeProvider("b")
    rig = start(target(key, other))
    other.fail(errors.Misbehaved("31 bytes"))
    for _ in range(4):
        rig.pass_time(60.0)
    report = rig.endpoint.report()
    assert (report.state, report.healthz) == ("degraded", "ok")
    assert list(errors_of(rig)) == ["b"]


def test_a_member_that_only_decrypts_has_no_part_in_health(start: Start, key: FakeProvider) -> None:
    old = FakeProvider("old")
    rig = start(target(key, old=(old,)))
    old.fail(errors.KeyNotFound("destroyed"))
    for _ in range(4):
        rig.pass_time(60.0)
    assert (rig.endpoint.report().state, rig.healthz) == ("ok", "ok")


@pytest.mark.usefixtures("once")
def test_probes_keep_their_interval(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, probe_interval=60.0))
    key.calls.clear()
    for _ in range(12):
        rig.pass_time(5.0)
    assert key.calls["wrap"] == 1
    key.fail(errors.Unavailable("away"))
    rig.pass_time(60.0)
    key.calls.clear()
    key.raises.pop("current_version")
    for _ in range(6):
        rig.pass_time(5.0)
    assert key.calls["wrap"] == 6, "every 5 s while it fails"


# Versions of a remote key.


def test_a_new_version_of_a_key_is_taken_up_and_never_given_back(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    key.rotate()
    rig.pass_time(60.0)
    after = encrypt(rig.endpoint)
    assert key_id_epoch(after.key_id) == 1
    assert after.key_id != before.key_id
    assert [wrap.version for wrap in Record.parse(after.record).wraps] == ["2"]
    assert decrypt(rig.endpoint, before) == SEED
    key.current = "1"
    rig.pass_time(60.0)
    assert encrypt(rig.endpoint).record == after.record
    again = start(target(key))
    assert encrypt(again.endpoint).record == after.record, "not by a restart either"


def test_credentials_that_may_not_see_versions_change_nothing(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    key.rotate()
    key.current = None
    rig.pass_time(60.0)
    assert encrypt(rig.endpoint).record == before.record


# Age and clocks.


def test_an_old_local_kek_is_replaced_under_the_same_key_id(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, max_age=30 * DAY))
    before = encrypt(rig.endpoint)
    rig.pass_time(26 * DAY)
    assert encrypt(rig.endpoint).record == before.record
    rig.pass_time(8 * DAY)
    after = encrypt(rig.endpoint)
    assert after.key_id == before.key_id == rig.key_id
    assert kek_id(after) != kek_id(before)
    assert decrypt(rig.endpoint, before) == SEED


def test_an_old_local_kek_stays_in_use_while_a_member_is_down(start: Start, key: FakeProvider) -> None:
    other = FakeProvider("b")
    rig = start(target(key, other, max_age=30 * DAY))
    before = encrypt(rig.endpoint)
    other.raises["wrap"] = errors.Unavailable("away")
    for _ in range(5):
        rig.pass_time(10 * DAY)
        assert encrypt(rig.endpoint).record == before.record
    assert (rig.endpoint.report().overdue or "").startswith("it reached its maximum age: key b is down")
    other.raises.clear()
    rig.pass_time(5.0)
    assert encrypt(rig.endpoint).record == before.record, "one success is not enough to trust it"
    rig.pass_time(5.0)
    assert kek_id(encrypt(rig.endpoint)) != kek_id(before)
    assert rig.endpoint.report().overdue is None


def test_a_wall_clock_that_jumps_costs_one_mint_at_most(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, max_age=30 * DAY))
    before = encrypt(rig.endpoint)
    rig.wall.advance(-20 * 365 * DAY)
    rig.tend()
    assert encrypt(rig.endpoint).record == before.record
    rig.wall.advance(40 * 365 * DAY)
    rig.tend()
    rig.tend()
    assert rig.observer.all("minted") == ["main", "main"]
    rig.wall.advance(-20 * 365 * DAY)
    rig.tend()
    assert rig.observer.all("minted") == ["main", "main"]
    assert decrypt(rig.endpoint, before) == SEED


def test_health_does_not_look_at_the_wall_clock(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    key.fail(errors.Unavailable("away"))
    rig.pass_time(60.0)
    for _ in range(3):
        rig.wall.advance(10 * DAY)
        rig.pass_time(5.0)
    assert (rig.endpoint.report().state, rig.healthz) == ("lost", "ok")
