"""Callers in many threads, while the local KEK is replaced again and again under them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from keystead._core import key_id_epoch
from support.endpoints import Start, target
from support.fakes import FakeProvider, members_of, target_of
from support.messages import SEED, Ciphertext, decrypt, encrypt, status

EPOCHS = 20
CALLERS = 3


def test_status_and_encrypt_agree_and_never_go_back_while_keks_are_swapped(start: Start) -> None:
    key = FakeProvider("k", limits={"rate": 10_000})
    members = members_of(key)
    rig = start(target_of(members))
    done = threading.Event()

    def call(_: int) -> list[Ciphertext]:
        answers = []
        highest = 1
        while not done.is_set():
            before = key_id_epoch(status(rig.endpoint.status()).key_id)
            answer = encrypt(rig.endpoint)
            after = key_id_epoch(status(rig.endpoint.status()).key_id)
            # A swap may come between two calls, but no answer is older than what was said before or newer than after.
            assert highest <= before <= key_id_epoch(answer.key_id) <= after
            highest = after
            answers.append(answer)
            done.wait(0.001)
        return answers

    with ThreadPoolExecutor(CALLERS) as callers:
        calls = [callers.submit(call, number) for number in range(CALLERS)]
        try:
            for epoch in range(2, EPOCHS + 1):
                rig.tend(target_of(members, epoch=epoch))
        finally:
            done.set()
        answers = [answer for one in calls for answer in one.result()]
    assert len({answer.key_id for answer in answers}) > 1
    assert len(answers) > EPOCHS
    restarted = start(target(key, epoch=EPOCHS))
    newest = {answer.record: answer for answer in answers}.values()
    assert {decrypt(restarted.endpoint, one) for one in newest} == {SEED}


def test_a_snapshot_has_one_key_id_for_status_and_encrypt(start: Start) -> None:
    key = FakeProvider("k")
    rig = start(target(key))
    for epoch in range(2, 12):
        rig.tend(target(key, epoch=epoch))
        snapshot = rig.endpoint.snapshot
        assert not isinstance(snapshot.writing, Exception)
        assert snapshot.writing.key_id == snapshot.key_id == status(snapshot.status).key_id
