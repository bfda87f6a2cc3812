"""New versions of a remote key: waited for, never given back, and what happens when an old one is switched off."""

from __future__ import annotations

import pytest

from keystead import errors
from keystead._core import Record, key_id_epoch
from support.endpoints import Lines, Start, events, key_report, target
from support.fakes import FakeProvider, Rig, members_of, target_of
from support.messages import SEED, decrypt, encrypt

DELAY = 120.0

pytestmark = pytest.mark.usefixtures("once")


def versions(rig: Rig) -> list[str]:
    """The versions in what Encrypt answers."""
    return [wrap.version for wrap in Record.parse(encrypt(rig.endpoint).record).wraps]


def test_a_new_version_is_used_once_it_has_been_named_for_the_delay(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, version_delay=DELAY))
    before = encrypt(rig.endpoint)
    rig.pass_time(60.0)
    key.rotate()
    rig.pass_time(60.0)
    assert key_report(rig, "k").observed_version == "2"
    rig.pass_time(60.0)
    assert versions(rig) == ["1"]
    rig.pass_time(60.0)
    assert versions(rig) == ["2"]
    assert rig.key_id != before.key_id
    assert key_id_epoch(rig.key_id) == 1
    assert decrypt(rig.endpoint, before) == SEED


def test_replicas_that_contradict_each_other_make_no_change_and_no_other_key_id(
    start: Start, key: FakeProvider
) -> None:
    rig = start(target(key, version_delay=DELAY))
    before = encrypt(rig.endpoint)
    key.rotate()
    for answer in ["1", "2", "2", "1"] * 20:
        key.current = answer
        rig.pass_time(60.0)
        assert (rig.key_id, rig.healthz) == (before.key_id, "ok")
    key.current = "2"
    for _ in range(3):
        rig.pass_time(60.0)
    after = rig.key_id
    assert versions(rig) == ["2"]
    for answer in ["1", "2", "1", "1"] * 20:
        key.current = answer
        rig.pass_time(60.0)
        assert rig.key_id == after
    assert rig.observer.all("minted") == ["main", "main"]


def test_a_lower_version_is_reported_and_never_adopted_also_not_by_a_restart_or_a_higher_epoch(
    start: Start, key: FakeProvider
) -> None:
    rig = start(target(key))
    key.rotate()
    rig.pass_time(60.0)
    assert versions(rig) == ["2"]
    key.current = "1"
    rig.pass_time(60.0)
    assert versions(rig) == ["2"]
    report = key_report(rig, "k")
    assert report.up
    assert (report.error or "").startswith("key k: its current version is 1, below 2, which stays in use: ")
    again = start(target(key))
    assert versions(again) == ["2"]
    again.tend(target(key, epoch=2))
    assert (key_id_epoch(again.key_id), versions(again)) == (2, ["2"])
    key.current = "2"
    again.pass_time(60.0)
    assert key_report(again, "k").error is None


def test_a_mint_for_another_reason_does_not_bring_a_version_in_before_its_time(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, version_delay=DELAY))
    key.rotate()
    rig.pass_time(60.0)
    rig.tend(target(key, epoch=2, version_delay=DELAY))
    assert (key_id_epoch(rig.key_id), versions(rig)) == (2, ["1"])


def test_a_first_start_takes_the_current_version_without_delay(start: Start, key: FakeProvider) -> None:
    key.rotate()
    assert versions(start(target(key, version_delay=DELAY))) == ["2"]


def test_a_restart_waits_for_a_new_version_as_a_running_process_does(start: Start, key: FakeProvider) -> None:
    start(target(key, version_delay=DELAY))
    key.rotate()
    rig = start(target(key, version_delay=DELAY))
    rig.pass_time(60.0)
    assert versions(rig) == ["1"]
    rig.pass_time(60.0)
    assert versions(rig) == ["2"]


def test_of_two_keys_each_has_its_own_delay(start: Start, key: FakeProvider) -> None:
    other = FakeProvider("b")
    rig = start(target(key, other, version_delay=DELAY))
    key.rotate()
    rig.pass_time(60.0)
    other.rotate()
    rig.pass_time(60.0)
    rig.pass_time(60.0)
    assert versions(rig) == ["1", "2"]
    rig.pass_time(60.0)
    assert versions(rig) == ["2", "2"]


def test_a_remote_that_answers_with_an_older_version_to_a_wrap_is_not_believed(start: Start, key: FakeProvider) -> None:
    """Its credentials may not look, so the remote chooses; a replica that lags chooses the old one."""
    key.rotate()
    key.current = "2"
    rig = start(target(key))
    assert versions(rig) == ["2"]
    real = key.wrap
    key.current = None
    key.wrap = lambda kek, context, version, deadline: real(kek, context, version or "1", deadline)  # type: ignore[method-assign]
    before = encrypt(rig.endpoint)
    rig.pass_time(60.0)
    rig.tend(target_of(members_of(key), max_age=1.0))
    rig.pass_time(60.0)
    assert encrypt(rig.endpoint).record == before.record
    assert "version 1, below 2" in (rig.endpoint.report().overdue or "")


# A version that the remote refuses.


def test_a_version_that_is_switched_off_raises_an_alarm_within_three_probes_and_no_call_fails(
    start: Start, key: FakeProvider, logged: Lines
) -> None:
    rig = start(target(key, version_delay=24 * 3600.0))
    before = encrypt(rig.endpoint)
    rig.pass_time(60.0)
    key.rotate()
    key.retired.add("1")
    probes = 0
    while not key_report(rig, "k").refused_versions:
        probes += 1
        assert probes <= 3
        rig.pass_time(60.0 if probes == 1 else 5.0)
        assert decrypt(rig.endpoint, before) == SEED
        assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
        assert rig.healthz == "ok"
    assert versions(rig) == ["2"], "minted under the current version at once, whatever the delay"
    assert "restore version 1: what was wrapped under it" in (key_report(rig, "k").error or "")
    assert len(events(logged, "key.version_refused")) == 1
    assert key_report(rig, "k").up
    for _ in range(10):
        rig.pass_time(60.0)
    assert rig.observer.all("minted") == ["main", "main"], "once"
    assert key_report(rig, "k").refused_versions == ("1",), "what is in etcd still needs it"
    key.retired.clear()
    rig.pass_time(60.0)
    assert (key_report(rig, "k").refused_versions, key_report(rig, "k").error) == ((), None)
    assert len(events(logged, "key.version_restored")) == 1


def test_after_a_restart_without_the_version_writes_go_on_within_seconds_and_the_version_is_named(
    start: Start, key: FakeProvider
) -> None:
    before = encrypt(start(target(key)).endpoint)
    key.rotate()
    key.retired.add("1")
    rig = start(target(key, version_delay=DELAY))
    assert rig.healthz.startswith("starting: ")
    assert rig.key_id == before.key_id
    rig.pass_time(5.0)
    assert (rig.healthz, versions(rig)) == ("ok", ["2"])
    assert "restore version 1" in (key_report(rig, "k").error or "")
    with pytest.raises(errors.KeyDisabled, match="version 1 is disallowed"):
        decrypt(rig.endpoint, before)
    key.retired.clear()
    rig.pass_time(60.0)
    rig.endpoint._keyring._clock = lambda: float("inf")  # forgets that it was refused a moment ago
    assert decrypt(rig.endpoint, before) == SEED


def test_a_key_made_anew_beside_a_good_one_is_found_out_after_a_restart(
    start: Start, key: FakeProvider, logged: Lines
) -> None:
    """The good one opens the record, so only a look at the wrap of the other shows that it is worth nothing."""
    other = FakeProvider("b")
    before = encrypt(start(target(key, other)).endpoint)
    other.versions["1"] = bytes(32)
    rig = start(target(key, other))
    rig.pass_time(5.0)
    assert len(events(logged, "key.version_refused")) == 1
    assert encrypt(rig.endpoint).record != before.record, "the next record can be opened by both"
    assert decrypt(rig.endpoint, before) == SEED
    key.fail(errors.Unavailable("away"))
    rig.tend()
    cold = start(target(key, other))
    assert decrypt(cold.endpoint, encrypt(rig.endpoint)) == SEED


def test_a_key_that_names_a_lower_version_and_refuses_the_one_in_use_is_not_followed_down(
    start: Start, key: FakeProvider
) -> None:
    for _ in range(4):
        key.rotate()
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    assert versions(rig) == ["5"]
    key.current = "1"
    key.retired.add("5")
    for _ in range(6):
        rig.pass_time(60.0)
        assert encrypt(rig.endpoint).record == before.record
        assert decrypt(rig.endpoint, before) == SEED
    report = rig.endpoint.report()
    assert report.overdue == (
        "fake fake/k refuses version 5, which the record needs: key k: wrap: version 5 is disallowed by policy"
    )
    assert "restore version 5" in (key_report(rig, "k").error or "")


# Pins.


def pinned(key: FakeProvider, version: str) -> FakeProvider:
    key.config = key.config.model_copy(update={"version": version})
    return key


def test_a_pin_holds_a_version_and_a_higher_one_replaces_it_at_once(start: Start, key: FakeProvider) -> None:
    rig = start(target(pinned(key, "1"), version_delay=DELAY))
    key.rotate()
    for _ in range(5):
        rig.pass_time(60.0)
    assert versions(rig) == ["1"]
    rig.tend(target(pinned(key, "2"), version_delay=DELAY))
    assert versions(rig) == ["2"]


def test_a_pin_to_a_lower_version_needs_a_higher_epoch(start: Start, key: FakeProvider) -> None:
    key.rotate()
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    rig.tend(target(pinned(key, "1")))
    assert rig.endpoint.report().refused == (
        "key k is pinned to version 1, and 2 has been in use under epoch 1: set epoch to 2"
    )
    assert encrypt(rig.endpoint).record == before.record
    rig.tend(target(pinned(key, "1"), epoch=2))
    assert (key_id_epoch(rig.key_id), versions(rig)) == (2, ["1"])
    assert rig.endpoint.report().refused is None
