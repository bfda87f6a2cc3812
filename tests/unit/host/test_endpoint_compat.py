"""What another KMS plugin wrote: read if a key is asked to, by one call for all who wait, and never written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keystead import errors
from keystead._core import ANNOTATION
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.provider import Foreign
from support.endpoints import Start, target
from support.fakes import FakeProvider, Rig, until
from support.messages import SEED, Ciphertext, decrypt, encrypt, plaintext_v1

OTHER_SEED = bytes(range(32))
OLD = b"old:" + OTHER_SEED


class ReadingProvider(FakeProvider):
    """A key that also decrypts `old:` followed by the plaintext."""

    reads = "old-plugin"

    def recognises(self, foreign: Foreign) -> bool:
        if "recognises" in self.raises:
            raise self.raises["recognises"]
        return foreign.ciphertext.startswith(b"old:") and (foreign.api == "v1beta1" or foreign.key_id == "old-1")

    def read(self, foreign: Foreign, deadline: float) -> bytes:
        with self._call("read"):
            return foreign.ciphertext[4:]


def old_request(ciphertext: bytes = OLD, key_id: str = "old-1", annotations: dict[str, bytes] | None = None) -> bytes:
    return v2.DecryptRequest(ciphertext=ciphertext, uid="u", key_id=key_id, annotations=annotations).SerializeToString()


def read(rig: Rig, request: bytes | None = None, remaining: float | None = None) -> bytes:
    answer = rig.endpoint.decrypt_v2(old_request() if request is None else request, lambda: remaining)
    return v2.DecryptResponse.FromString(answer).plaintext


def read_v1(rig: Rig, cipher: bytes) -> bytes:
    request = v1.DecryptRequest(version="v1beta1", cipher=cipher).SerializeToString()
    return plaintext_v1(rig.endpoint.decrypt_v1(request, lambda: None))


@pytest.fixture
def reader() -> ReadingProvider:
    return ReadingProvider("k")


def test_what_was_written_before_is_read_over_both_versions(start: Start, reader: ReadingProvider) -> None:
    rig = start(target(reader))
    assert read(rig) == OTHER_SEED
    assert read_v1(rig, OLD) == OTHER_SEED
    assert reader.calls["read"] == 2
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED


def test_status_and_new_writes_are_ours_so_that_all_of_it_is_stale(start: Start, reader: ReadingProvider) -> None:
    rig = start(target(reader))
    before = rig.key_id
    read(rig)
    assert rig.key_id == before != "old-1"
    written = encrypt(rig.endpoint)
    assert written.key_id == before
    assert written.ciphertext.startswith(b"KSD")


def test_a_key_of_stage_decrypt_reads_too_and_a_recovery_key_never(start: Start, reader: ReadingProvider) -> None:
    other = FakeProvider("new")
    assert read(start(target(other, old=(reader,)), state=None)) == OTHER_SEED
    safe = ReadingProvider("safe")
    rig = start(target(other, recovery=(safe,)), state=None)
    with pytest.raises(errors.MalformedRequest):
        read(rig)
    assert safe.calls["read"] == 0


def test_without_a_reader_it_is_refused_as_before(start: Start, key: FakeProvider) -> None:
    rig = start(target(key))
    with pytest.raises(errors.MalformedRequest):
        read(rig)
    with pytest.raises(errors.MalformedRequest):
        read_v1(rig, OLD)


@pytest.mark.parametrize(
    "request_bytes",
    [
        old_request(b"other:" + OTHER_SEED),
        old_request(key_id="new-1"),
        old_request(key_id=""),
        old_request(b""),
        old_request(b"KSD\x01" + bytes(100)),
        old_request(key_id="ks1.e1.a6jblazfncg7zxuutyl6joq5teqjrwo5"),
        old_request(annotations={ANNOTATION: b"KSK"}),
        b"\xff\xff",
    ],
    ids=["other form", "other key_id", "no key_id", "empty", "our mark", "our key_id", "our annotation", "no message"],
)
def test_what_is_not_recognised_or_begins_as_ours_does_costs_no_call(
    start: Start, reader: ReadingProvider, request_bytes: bytes
) -> None:
    rig = start(target(reader))
    with pytest.raises(errors.MalformedRequest):
        read(rig, request_bytes)
    assert reader.calls["read"] == 0


def test_our_own_damaged_ciphertexts_are_never_shown_to_a_reader(start: Start, reader: ReadingProvider) -> None:
    """Every length of one of ours, with our key_id and record beside it and with another plugin's key_id."""
    reader.recognises = lambda _foreign: True  # type: ignore[method-assign,assignment]
    rig = start(target(reader))
    good = encrypt(rig.endpoint)
    tried = 0
    for length in range(4, len(good.ciphertext)):
        for cut in (
            Ciphertext(good.ciphertext[:length], good.key_id, good.record),
            Ciphertext(good.ciphertext[:length], "old-1", good.record),
        ):
            with pytest.raises((errors.MalformedRequest, errors.NotAuthentic)):
                decrypt(rig.endpoint, cut)
            tried += 1
    assert tried > 200
    assert reader.calls["read"] == 0
    with pytest.raises(errors.MalformedRequest):
        read_v1(rig, b"KS1\x01" + bytes(50))
    assert reader.calls["read"] == 0


def test_ten_at_once_for_one_seed_are_one_call(start: Start, reader: ReadingProvider, gate: threading.Event) -> None:
    """As kube-apiserver 1.37 asks."""
    rig = start(target(reader))
    reader.blocked["read"] = gate
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(read, rig) for _ in range(10)]
        until(lambda: rig.endpoint._keyring.waiting == 10)
        gate.set()
        assert [answer.result() for answer in answers] == [OTHER_SEED] * 10
    assert reader.calls["read"] == 1
    assert read(rig) == OTHER_SEED
    assert reader.calls["read"] == 2, "nothing keeps the seed, as the other plugin did not"


@pytest.mark.parametrize("known", [b"foo", b"health", b"ping", b"", bytes(16), bytes(33)])
def test_what_a_health_check_encrypted_never_comes_back_as_a_key(
    start: Start, reader: ReadingProvider, known: bytes
) -> None:
    rig = start(target(reader))
    with pytest.raises(errors.InvalidCiphertext, match=rf"holds {len(known)} bytes"):
        read(rig, old_request(b"old:" + known))


def test_a_silent_remote_is_given_up_in_time_and_asked_again(
    start: Start, reader: ReadingProvider, gate: threading.Event
) -> None:
    rig = start(target(reader))
    reader.blocked["read"] = gate
    with pytest.raises(errors.TimedOut):
        read(rig, remaining=0.4)
    gate.set()
    until(lambda: rig.endpoint._keyring._flights == {})
    assert read(rig) == OTHER_SEED


def test_the_next_key_is_asked_when_one_refuses(start: Start) -> None:
    refusing, able = ReadingProvider("refusing"), ReadingProvider("able")
    refusing.raises["read"] = errors.InvalidCiphertext("another key's")
    rig = start(target(refusing, able))
    assert read(rig) == OTHER_SEED
    assert (refusing.calls["read"], able.calls["read"]) == (1, 1)


def test_a_refusal_is_remembered_for_a_while_and_an_outage_is_not(start: Start, reader: ReadingProvider) -> None:
    rig = start(target(reader))
    reader.raises["read"] = errors.InvalidCiphertext("damaged")
    for _ in range(3):
        with pytest.raises(errors.InvalidCiphertext, match="key k: read: damaged"):
            read(rig)
    assert reader.calls["read"] == 1
    other = old_request(b"old:" + bytes(32))
    reader.raises["read"] = errors.KeyDisabled("off")
    with pytest.raises(errors.KeyDisabled):
        read(rig, other)
    reader.raises["read"] = errors.Throttled("slow down")
    another = old_request(b"old:" + bytes([1] * 32))
    with pytest.raises(errors.Throttled):
        read(rig, another, remaining=1.0)
    del reader.raises["read"]
    assert read(rig, another) == bytes([1] * 32)


def test_a_reader_that_crashes_is_a_fault_of_its_own(start: Start, reader: ReadingProvider) -> None:
    rig = start(target(reader))
    reader.raises["recognises"] = RuntimeError("bug")
    with pytest.raises(errors.MalformedRequest):
        read(rig)
    del reader.raises["recognises"]
    reader.raises["read"] = RuntimeError("bug")
    with pytest.raises(errors.Misbehaved, match="read raised RuntimeError"):
        read(rig)


def test_a_reload_that_takes_the_reader_away_ends_it(start: Start, reader: ReadingProvider) -> None:
    rig = start(target(reader))
    assert read(rig) == OTHER_SEED
    plain = FakeProvider("k")
    plain.versions, plain.ref = reader.versions, reader.ref
    rig.tend(target(plain))
    with pytest.raises(errors.MalformedRequest):
        read(rig)
