"""How an endpoint starts, first and again, with its keys there or away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from keystead import errors
from keystead._core import Record, key_id_epoch
from support.endpoints import Start, kek_id, target
from support.fakes import CLUSTER, FakeProvider, until
from support.messages import SEED, decrypt, encrypt, status


def test_before_anything_is_done_it_answers_that_it_starts(start: Start, key: FakeProvider) -> None:
    rig = start(target(key), tend=False)
    answer = status(rig.endpoint.status())
    assert (answer.version, answer.key_id) == ("v2", "")
    assert answer.healthz == "starting: the plugin has just started"
    with pytest.raises(
        errors.NotReady, match=r"^there is no local KEK to encrypt under yet: the plugin has just started$"
    ):
        encrypt(rig.endpoint)


def test_the_first_start_mints_and_is_ready(start: Start, key: FakeProvider, tmp_path: Path) -> None:
    rig = start(target(key))
    assert rig.healthz == "ok"
    ciphertext = encrypt(rig.endpoint)
    assert ciphertext.key_id == rig.key_id == status(rig.endpoint.status()).key_id
    assert key_id_epoch(rig.key_id) == 1
    assert decrypt(rig.endpoint, ciphertext) == SEED
    assert rig.observer.events == [("persisted", True), ("minted", "main")]
    assert (tmp_path / "main" / "current").exists()
    record = Record.parse(ciphertext.record)
    assert (record.cluster, record.created, record.key_id(1)) == (CLUSTER, 1_790_000_000, rig.key_id)


def test_a_turn_with_nothing_due_is_calm_and_changes_nothing(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    assert rig.tend() is True
    assert rig.pass_time(60.0) is True
    after = encrypt(rig.endpoint)
    assert (after.key_id, after.record) == (before.key_id, before.record)
    assert rig.observer.all("minted") == ["main"]


def test_a_restart_uses_the_same_local_kek_again(start: Start, key: FakeProvider) -> None:
    before = encrypt(start(target(key)).endpoint)
    key.calls.clear()
    rig = start(target(key))
    after = encrypt(rig.endpoint)
    assert (after.key_id, after.record) == (before.key_id, before.record)
    assert rig.observer.all("minted") == []
    assert decrypt(rig.endpoint, before) == SEED
    assert key.calls["unwrap"] == 3, "one for the local KEK, two for the probe: a fresh value, and the record once"


def test_without_a_state_directory_it_serves_and_mints_at_each_start(start: Start, key: FakeProvider) -> None:
    rig = start(target(key), state=None)
    before = encrypt(rig.endpoint)
    assert rig.pass_time(60.0) is True
    assert rig.observer.all("persisted") == []
    again = start(target(key), state=None)
    after = encrypt(again.endpoint)
    assert after.key_id == before.key_id
    assert kek_id(after) != kek_id(before)
    assert decrypt(again.endpoint, before) == SEED


def test_a_start_while_the_remote_is_away_says_why_and_what_to_do_and_heals(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    key.fail(errors.Unavailable("no route to host"))
    rig = start(target(key), tend=False)
    assert rig.tend() is False
    assert rig.healthz == (
        "starting: key k: open: no route to host; a node without a record needs every active key once, or a copy of "
        f"another node's file in {tmp_path}/main/current"
    )
    with pytest.raises(errors.NotReady, match=r"yet: key k: open: no route to host; a node without a record"):
        encrypt(rig.endpoint)
    key.fail(None)
    rig.tend()
    assert rig.healthz == "ok"
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED


def test_a_restart_while_the_remote_is_away_knows_its_key_id_refuses_to_encrypt_and_heals(
    start: Start, key: FakeProvider
) -> None:
    before = encrypt(start(target(key)).endpoint)
    key.fail(errors.Unavailable("no route to host"))
    rig = start(target(key))
    assert rig.key_id == before.key_id
    assert rig.healthz == (
        "starting: the local KEK on disk is to be unwrapped: mend key k, and all goes on by itself: key k: open: no "
        "route to host"
    )
    with pytest.raises(errors.NotReady, match=r"yet: the local KEK on disk .* mend key k, and all goes on by itself"):
        encrypt(rig.endpoint)
    with pytest.raises(errors.Unavailable):
        decrypt(rig.endpoint, before)
    key.fail(None)
    rig.tend()
    assert rig.healthz == "ok"
    after = encrypt(rig.endpoint)
    assert (after.key_id, after.record) == (before.key_id, before.record)
    assert rig.observer.all("minted") == []
    assert decrypt(rig.endpoint, before) == SEED


def test_one_of_two_members_is_enough_for_a_restart_but_not_for_a_first_start(start: Start, key: FakeProvider) -> None:
    other = FakeProvider("b")
    other.fail(errors.Unavailable("away"))
    rig = start(target(key, other))
    assert rig.healthz.startswith("starting: key b: open: away; ")
    assert rig.observer.all("minted") == [], "there is no partial record"
    other.fail(None)
    rig.tend()
    before = encrypt(rig.endpoint)
    for away in (key, other):
        away.fail(errors.Unavailable("away"))
        again = start(target(key, other))
        assert again.healthz == "ok"
        assert encrypt(again.endpoint).record == before.record
        assert decrypt(again.endpoint, before) == SEED
        away.fail(None)


def test_a_restart_without_any_of_several_keys_names_those_that_would_do(start: Start, key: FakeProvider) -> None:
    other, staged = FakeProvider("b"), FakeProvider("c")
    start(target(key, other))
    for away in (key, other, staged):
        away.fail(errors.Unavailable("x" * 300))
    rig = start(target(key, other, old=(staged,)))
    assert "mend key k or key b, and all goes on by itself: " in rig.healthz
    other.fail(None)
    rig.tend()
    assert rig.healthz == "ok"


def test_a_member_that_hangs_at_the_start_keeps_status_for_nobody(
    start: Start, key: FakeProvider, gate: threading.Event
) -> None:
    key.blocked["open"] = gate
    rig = start(target(key, unwrap_timeout=0.2))
    assert rig.healthz.startswith("starting: key k: open: no answer within the time limit; ")
    key.blocked.clear()
    gate.set()
    until(lambda: rig.pass_time(5.0) and rig.healthz == "ok")


def test_while_a_slow_remote_unwraps_the_last_local_kek_status_names_its_key_id_already(
    start: Start, key: FakeProvider, gate: threading.Event
) -> None:
    before = encrypt(start(target(key)).endpoint)
    key.blocked["unwrap"] = gate
    rig = start(target(key), tend=False)
    starting = threading.Thread(target=rig.tend)
    starting.start()
    until(lambda: rig.key_id == before.key_id)
    assert rig.healthz == "starting: the local KEK on disk is being unwrapped"
    gate.set()
    starting.join()
    assert (rig.healthz, rig.key_id) == ("ok", before.key_id)
