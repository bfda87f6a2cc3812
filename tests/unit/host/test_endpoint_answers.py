"""What Status, Encrypt and Decrypt of an endpoint answer."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from keystead import errors
from keystead._core import Record, key_id_epoch
from support.endpoints import Start, target
from support.fakes import CANARY, CLUSTER, FakeProvider, target_of, until
from support.messages import (
    SEED,
    Ciphertext,
    decrypt,
    decrypt_v1_request,
    encrypt,
    encrypt_v1_request,
    plaintext_v1,
    status,
)


def test_status_calls_no_remote(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    key.calls.clear()
    answers = {rig.endpoint.status() for _ in range(100)}
    assert len(answers) == 1
    assert key.calls == {}


def test_status_carries_the_version_that_is_configured(start: Start, key: FakeProvider) -> None:
    rig = start(target(key, status_version="v2beta1"))
    assert status(rig.endpoint.status()).version == "v2beta1"


def test_the_key_id_of_encrypt_is_that_of_status_while_epochs_pass(start: Start, key: FakeProvider) -> None:
    first = target(key)
    rig = start(first)
    stop = threading.Event()
    wrong: list[tuple[int, int, int]] = []
    answered: list[Ciphertext] = []
    epochs = range(2, 9)

    def client() -> None:
        while not stop.is_set():
            before = key_id_epoch(status(rig.endpoint.status()).key_id)
            answer = encrypt(rig.endpoint)
            after = key_id_epoch(status(rig.endpoint.status()).key_id)
            epoch = key_id_epoch(answer.key_id)
            answered.append(answer)
            if not before <= epoch <= after or Record.parse(answer.record).key_id(epoch) != answer.key_id:
                wrong.append((before, epoch, after))

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    for epoch in epochs:
        rig.tend(target_of(first.members, epoch=epoch))
        seen = len(answered)
        until(lambda seen=seen: len(answered) > seen + 8)  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    by_key_id = {answer.key_id: answer for answer in answered}
    assert {key_id_epoch(key_id) for key_id in by_key_id} == {1, *epochs}
    assert [decrypt(rig.endpoint, answer) for answer in by_key_id.values()] == [SEED] * 8


def test_v1_ciphertexts_round_trip_and_survive_a_new_epoch(start: Start, key: FakeProvider) -> None:
    first = target(key)
    rig = start(first)
    request = decrypt_v1_request(rig.endpoint.encrypt_v1(encrypt_v1_request(SEED)))
    rig.tend(target_of(first.members, epoch=2))
    for endpoint in (rig.endpoint, start(target(key, epoch=2)).endpoint):
        assert plaintext_v1(endpoint.decrypt_v1(request, lambda: None)) == SEED


def test_the_v1_health_check_fails_whenever_status_is_not_ok_and_other_v1_calls_go_on(
    start: Start, key: FakeProvider
) -> None:
    rig = start(target(key))
    ping = encrypt_v1_request(b"ping")
    assert (
        plaintext_v1(rig.endpoint.decrypt_v1(decrypt_v1_request(rig.endpoint.encrypt_v1(ping)), lambda: None))
        == b"ping"
    )
    key.fail(errors.KeyDisabled("scheduled for deletion"))
    for _ in range(4):
        rig.pass_time(60.0)
    assert rig.healthz == "remote denies key: key k: current_version: scheduled for deletion"
    with pytest.raises(errors.NotReady, match="remote denies key"):
        rig.endpoint.encrypt_v1(ping)
    assert rig.endpoint.encrypt_v1(encrypt_v1_request(b"pong"))
    assert rig.endpoint.encrypt_v1(encrypt_v1_request(SEED))


def test_a_long_reason_is_cut_and_a_secret_in_an_unclassified_error_is_not_in_status(
    start: Start, key: FakeProvider
) -> None:
    key.raises["open"] = errors.Unavailable("x" * 5000)
    rig = start(target(key))
    assert len(rig.healthz) == 400
    key.raises["open"] = RuntimeError(CANARY)
    rig.tend()
    assert rig.healthz.startswith("starting: key k: open raised RuntimeError, which the adapter should translate; ")
    assert CANARY not in rig.healthz


# Decrypt.


def test_a_ciphertext_of_one_endpoint_is_refused_by_one_with_another_key_cold_and_hot(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    """Both have the same provider, so that nothing but the keys keeps them apart."""
    other = FakeProvider("other")
    here, there = start(target(key)), start(target(other), state=tmp_path / "there")
    ciphertext = encrypt(here.endpoint)
    assert decrypt(here.endpoint, ciphertext) == SEED
    other.calls.clear()
    for _ in range(2):
        with pytest.raises(errors.NoConfiguredMember):
            decrypt(there.endpoint, ciphertext)
    relabelled = Ciphertext(ciphertext.ciphertext, there.key_id, ciphertext.record)
    swapped = Ciphertext(ciphertext.ciphertext, there.key_id, encrypt(there.endpoint).record)
    for forged, error in ((relabelled, errors.NoConfiguredMember), (swapped, errors.NotAuthentic)):
        with pytest.raises(error):
            decrypt(there.endpoint, forged)
    with pytest.raises(errors.NotAuthentic):
        decrypt(here.endpoint, relabelled)
    assert other.calls == {}


def test_a_key_of_the_same_name_does_not_open_what_it_did_not_wrap(
    start: Start, key: FakeProvider, tmp_path: Path
) -> None:
    impostor = FakeProvider("k")
    ciphertext = encrypt(start(target(key)).endpoint)
    there = start(target(impostor), state=tmp_path / "there")
    with pytest.raises(errors.InvalidCiphertext):
        decrypt(there.endpoint, ciphertext)


def test_a_ciphertext_of_another_cluster_makes_no_call(start: Start, key: FakeProvider) -> None:
    ciphertext = encrypt(start(target(key, cluster="a", accept_clusters=("a",)), state=None).endpoint)
    rig = start(target(key), state=None)
    key.calls.clear()
    with pytest.raises(errors.ClusterNotAccepted):
        decrypt(rig.endpoint, ciphertext)
    assert key.calls == {}
    accepting = start(target(key, accept_clusters=(CLUSTER, "a")), state=None)
    assert decrypt(accepting.endpoint, ciphertext) == SEED


def test_a_cold_decrypt_leaves_the_caller_time_for_the_answer(
    start: Start, key: FakeProvider, gate: threading.Event
) -> None:
    ciphertext = encrypt(start(target(key)).endpoint)
    rig = start(target(key), tend=False)
    key.blocked["unwrap"] = gate
    begun = time.monotonic()
    with pytest.raises(errors.TimedOut, match=r"within 0\.1 s"):
        decrypt(rig.endpoint, ciphertext, remaining=0.4)
    with pytest.raises(errors.TimedOut, match=r"within 0\.0 s"):
        decrypt(rig.endpoint, ciphertext, remaining=-1.0)
    assert time.monotonic() - begun < 2.0
    assert [type(error) for error in rig.observer.all("cold")] == [errors.TimedOut] * 2
    gate.set()
    assert decrypt(rig.endpoint, ciphertext) == SEED
    assert key.calls["unwrap"] >= 1


def test_a_caller_without_a_deadline_waits_two_and_a_half_seconds_at_most(
    start: Start, key: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    ciphertext = encrypt(start(target(key)).endpoint)
    rig = start(target(key), tend=False)
    budgets: list[float] = []

    def unwrap(_record: Record, budget: float) -> None:
        budgets.append(budget)
        raise errors.TimedOut("x")

    monkeypatch.setattr(rig.endpoint._keyring, "unwrap", unwrap)
    for remaining in (None, 60.0, 2.8, 1.3):
        with pytest.raises(errors.TimedOut):
            decrypt(rig.endpoint, ciphertext, remaining)
    assert budgets == [2.5, 2.5, 2.5, 1.0]
