"""What an endpoint does about faults of its own: a failed self-test, a bug, a key that hangs as it stops."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from keystead import errors
from keystead._core import key_id_epoch
from keystead.host import caretaker as caretaker_module
from keystead.host import endpoint as endpoint_module
from support.endpoints import Lines, Start, events, kek_id, target
from support.fakes import FakeProvider, target_of, until
from support.messages import SEED, decrypt, encrypt


class Broken:
    """In the place of `WriteState`: what it seals does not open."""

    @staticmethod
    def encrypt_v2(_writing: object, _request: bytes) -> bytes:
        raise errors.Unsafe("what was just sealed does not open: this process must not write")


def test_a_failed_self_test_refuses_to_write_until_a_new_local_kek_is_made(
    start: Start, key: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    with monkeypatch.context() as broken:
        broken.setattr(endpoint_module, "WriteState", Broken)
        with pytest.raises(errors.Unsafe, match="what was just sealed does not open"):
            encrypt(rig.endpoint)
    key.raises["wrap"] = errors.Unavailable("away")
    rig.tend()
    assert (rig.healthz, rig.key_id) == ("self-test failed", before.key_id)
    assert rig.endpoint.report().state == "unsafe"
    with pytest.raises(errors.Unsafe, match="self-test failed"):
        encrypt(rig.endpoint)
    assert decrypt(rig.endpoint, before) == SEED, "reads of what authenticates go on"
    key.raises.clear()
    rig.tend()
    assert rig.healthz == "ok"
    after = encrypt(rig.endpoint)
    assert (after.key_id, kek_id(after) != kek_id(before)) == (before.key_id, True)
    assert decrypt(rig.endpoint, after) == SEED


def test_a_failed_self_test_is_no_way_around_a_rule(
    start: Start, key: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(target(key, epoch=3), state=None)
    before = encrypt(rig.endpoint)
    with monkeypatch.context() as broken:
        broken.setattr(endpoint_module, "WriteState", Broken)
        with pytest.raises(errors.Unsafe):
            encrypt(rig.endpoint)
    rig.tend(target(key, epoch=2))
    assert rig.key_id == before.key_id
    assert rig.endpoint.report().refused == "epoch 2 is below 3, which has been in use: set epoch to 4"
    with pytest.raises(errors.Unsafe):
        encrypt(rig.endpoint)
    rig.tend(target(key, epoch=3))
    assert key_id_epoch(encrypt(rig.endpoint).key_id) == 3


# The thread.


def test_the_thread_starts_mints_takes_up_changes_at_once_and_stops(start: Start, key: FakeProvider) -> None:
    first = target(key)
    rig = start(first, tend=False)
    rig.endpoint.start()
    until(lambda: rig.healthz == "ok")
    rig.endpoint.apply(target_of(first.members, epoch=2))
    until(lambda: key_id_epoch(rig.key_id) == 2)
    rig.endpoint.stop()
    assert not rig.endpoint._caretaker._thread.is_alive()


def test_an_error_that_nobody_expects_does_not_end_the_thread(
    start: Start, key: FakeProvider, monkeypatch: pytest.MonkeyPatch, logged: Lines
) -> None:
    monkeypatch.setattr(caretaker_module, "RETRY_INTERVAL", 0.01)
    rig = start(target(key), tend=False)
    real = rig.endpoint._caretaker._custody.settle
    failures = iter([True, True])

    def settle(*args: Any) -> bool:
        if next(failures, False):
            raise RuntimeError("a bug")
        return real(*args)

    monkeypatch.setattr(rig.endpoint._caretaker._custody, "settle", settle)
    rig.endpoint.start()
    until(lambda: rig.healthz == "ok")
    assert len(events(logged, "endpoint.tend_failed")) == 2


def test_stopping_does_not_wait_for_a_key_that_hangs(start: Start, key: FakeProvider, gate: threading.Event) -> None:
    key.blocked["open"] = gate
    rig = start(target(key), tend=False)
    rig.endpoint.start()
    until(lambda: key.calls["open"] == 1)
    begun = time.monotonic()
    rig.endpoint.stop()
    assert time.monotonic() - begun < 3.0
