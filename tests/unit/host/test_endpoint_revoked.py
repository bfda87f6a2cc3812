"""What `onRevoked` does when every active key refuses, and how it ends."""

from __future__ import annotations

import pytest

from keystead import errors
from support.endpoints import Lines, Start, events, target
from support.fakes import FakeProvider, Rig
from support.messages import SEED, decrypt, encrypt, encrypt_v1_request

DENIED = errors.KeyDisabled("pending deletion")

pytestmark = pytest.mark.usefixtures("once")


def deny(rig: Rig, *keys: FakeProvider, probes: int = 3) -> None:
    for key in keys:
        key.fail(DENIED)
    rig.pass_time(60.0)
    for _ in range(probes - 1):
        rig.pass_time(5.0)


def test_keep_goes_on_with_what_is_in_memory(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    deny(rig, key)
    assert (rig.endpoint.report().state, rig.healthz[:18]) == ("denied", "remote denies key:")
    assert rig.endpoint.report().keks == 1
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
    assert encrypt(rig.endpoint).record == before.record


def test_zeroize_wipes_at_the_third_probe_and_refuses_with_the_reason(
    start: Start, key: FakeProvider, logged: Lines
) -> None:
    rig = start(target(key, zeroize=True))
    before = encrypt(rig.endpoint)
    deny(rig, key, probes=2)
    assert rig.endpoint.report().keks == 1
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
    rig.pass_time(5.0)
    report = rig.endpoint.report()
    assert (report.state, report.keks, report.key_id) == ("denied", 0, before.key_id)
    assert rig.healthz == "remote denies key: key k: current_version: pending deletion"
    with pytest.raises(errors.KeyDisabled, match=r"^the local KEKs were wiped, for every active key refuses: key k: "):
        encrypt(rig.endpoint)
    with pytest.raises(errors.KeyDisabled):
        decrypt(rig.endpoint, before)
    with pytest.raises(errors.NotReady, match="remote denies key"):
        rig.endpoint.encrypt_v1(encrypt_v1_request(b"ping"))
    for _ in range(5):
        rig.pass_time(5.0)
    assert len(events(logged, "kek.wiped")) == 1
    assert rig.endpoint.report().keks == 0


@pytest.mark.parametrize("state", ["kept", "none"])
def test_once_the_key_is_granted_again_all_goes_on_under_the_same_kek(
    state: str, start: Start, key: FakeProvider
) -> None:
    rig = start(target(key, zeroize=True), **({"state": None} if state == "none" else {}))  # type: ignore[arg-type]
    before = encrypt(rig.endpoint)
    deny(rig, key)
    key.fail(None)
    rig.pass_time(5.0)
    assert rig.endpoint.report().state == "denied", "one success may be chance"
    rig.pass_time(5.0)
    assert (rig.endpoint.report().state, rig.healthz) == ("ok", "ok")
    assert encrypt(rig.endpoint).record == before.record
    assert decrypt(rig.endpoint, before) == SEED
    assert rig.observer.all("minted") == ["main"]


def test_nothing_is_wiped_while_one_key_does_not_refuse(start: Start, key: FakeProvider) -> None:
    other = FakeProvider("b")
    rig = start(target(key, other, zeroize=True))
    deny(rig, key, probes=6)
    assert (rig.endpoint.report().state, rig.endpoint.report().keks) == ("degraded", 1)
    other.fail(errors.Unavailable("away"))
    for _ in range(10):
        rig.pass_time(5.0)
    assert (rig.endpoint.report().state, rig.endpoint.report().keks) == ("lost", 1)
    other.fail(DENIED)
    for _ in range(3):
        rig.pass_time(5.0)
    assert (rig.endpoint.report().state, rig.endpoint.report().keks) == ("denied", 0)


@pytest.mark.parametrize(
    "error",
    [errors.Unavailable("away"), errors.Throttled("slow"), errors.Unauthenticated("401"), errors.Misbehaved("x")],
)
def test_an_outage_however_long_wipes_nothing(error: errors.ProviderError, start: Start, key: FakeProvider) -> None:
    rig = start(target(key, zeroize=True, grace=60.0))
    before = encrypt(rig.endpoint)
    key.fail(error)
    for _ in range(100):
        rig.pass_time(60.0)
    assert rig.endpoint.report().state == "lost-long"
    assert decrypt(rig.endpoint, before) == SEED
    assert encrypt(rig.endpoint).record == before.record


def test_a_key_that_still_unwraps_for_decrypts_is_not_refused(start: Start, key: FakeProvider) -> None:
    """Only the right to wrap is gone; real traffic shows that the rest works."""
    rig = start(target(key, zeroize=True))
    ciphertexts = []
    for epoch in range(1, 12):
        rig.tend(target(key, zeroize=True, epoch=epoch))
        ciphertexts.append(encrypt(rig.endpoint))
    again = start(target(key, zeroize=True, epoch=11))
    key.raises["wrap"] = errors.PermissionDenied("403")
    key.calls.clear()
    for cold in ciphertexts[:10]:
        again.pass_time(60.0)
        assert decrypt(again.endpoint, cold) == SEED
        assert (again.healthz, again.endpoint.report().keys[0].up) == ("ok", True)
    assert key.calls["wrap"] == 10, "each probe was refused"


def test_a_process_that_starts_without_permission_holds_nothing_to_wipe_and_heals(
    start: Start, key: FakeProvider
) -> None:
    before = encrypt(start(target(key)).endpoint)
    key.fail(DENIED)
    rig = start(target(key, zeroize=True))
    for _ in range(5):
        rig.pass_time(5.0)
    assert rig.key_id == before.key_id
    assert rig.healthz != "ok"
    key.fail(None)
    for _ in range(3):
        rig.pass_time(5.0)
    assert encrypt(rig.endpoint).record == before.record


def test_a_change_from_zeroize_to_keep_brings_nothing_back_before_the_key_does(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, zeroize=True))
    deny(rig, key)
    rig.tend(target(key, zeroize=False))
    with pytest.raises(errors.KeysteadError):
        encrypt(rig.endpoint)
    key.fail(None)
    for _ in range(3):
        rig.pass_time(5.0)
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
