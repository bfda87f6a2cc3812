"""Somebody who can write to etcd has the API server ask for record after record that he made up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter

from keystead import errors
from keystead._core import ROLE_ONLINE, Kek, KekStore, Wrap
from keystead.host.endpoint import Endpoint
from support.endpoints import Start, target
from support.fakes import CLUSTER, SCHEME, FakeProvider, until
from support.messages import SEED, Ciphertext, decrypt, encrypt

RATE, CONCURRENCY = 100, 8
FORGED = 5000
CALLERS = 32


def forgeries(count: int) -> list[Ciphertext]:
    """Ciphertexts that differ in their records, which name the configured key and hold no wrap that it made."""
    kek = Kek.generate()
    wrap = Wrap(SCHEME, "fake/k", "1", ROLE_ONLINE, b"x" * 60)
    records = [kek.encode_record(number, CLUSTER, [wrap]) for number in range(count)]
    store = KekStore([CLUSTER])
    store.admit_fresh(records[0], kek)
    sealed = encrypt(store.write_state(records[0], records[0].key_id(1)))
    return [Ciphertext(sealed.ciphertext, sealed.key_id, record.encoded) for record in records]


def test_records_of_a_member_that_hangs_delay_neither_those_of_another_nor_a_hit(
    start: Start, gate: threading.Event
) -> None:
    hung, good = FakeProvider("k"), FakeProvider("good")
    old = [encrypt(start(target(good), state=None).endpoint) for _ in range(20)]
    endpoint = start(target(good, hung)).endpoint
    hot = encrypt(endpoint)
    hung.blocked["unwrap"] = gate
    crowd = [threading.Thread(target=_decrypt_for_nothing, args=(endpoint, one)) for one in forgeries(600)]
    for caller in crowd:
        caller.start()
    until(lambda: endpoint._keyring.waiting >= 384)
    assert threading.active_count() < 600 + 100, "no thread per record on its way"
    took = []
    for ciphertext in [*old, hot]:
        begun = time.monotonic()
        assert decrypt(endpoint, ciphertext) == SEED
        took.append(time.monotonic() - begun)
    assert max(took) < 1.0
    assert good.calls["unwrap"] >= 20
    gate.set()
    for caller in crowd:
        caller.join()


def _decrypt_for_nothing(endpoint: Endpoint, ciphertext: Ciphertext) -> None:
    with contextlib.suppress(errors.KeysteadError):
        decrypt(endpoint, ciphertext)


def test_five_thousand_forged_records_cost_no_more_calls_than_the_rate_allows_and_delay_no_hit(start: Start) -> None:
    key = FakeProvider("k", limits={"rate": RATE, "concurrency": CONCURRENCY})
    endpoint = start(target(key)).endpoint
    good = encrypt(endpoint)
    waiting = forgeries(FORGED)
    outcomes: Counter[type[errors.KeysteadError]] = Counter()
    key.calls.clear()

    def flood() -> None:
        while waiting:
            try:
                decrypt(endpoint, waiting.pop(), remaining=0.5)
            except errors.KeysteadError as exc:
                outcomes[type(exc)] += 1

    begun = time.monotonic()
    callers = [threading.Thread(target=flood) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    hits = []
    while any(caller.is_alive() for caller in callers):
        asked = time.monotonic()
        assert decrypt(endpoint, good) == SEED
        hits.append(time.monotonic() - asked)
        time.sleep(0.005)
    calls, took = key.calls["unwrap"], time.monotonic() - begun

    assert sum(outcomes.values()) == FORGED
    assert set(outcomes) <= {errors.InvalidCiphertext, errors.TimedOut, errors.Overloaded, errors.Throttled}
    assert CONCURRENCY < calls <= RATE * took + CONCURRENCY
    assert calls < FORGED / 2, "the limit was what held the calls back"
    assert key.calls == {"unwrap": calls}
    assert sorted(hits)[len(hits) // 2] < 0.05
    assert max(hits) < 1.0
