"""What the binding adds to the core: conversions, exceptions, wiping, and what it does to this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from keystead import _core
from keystead.errors import MalformedRequest, NotAuthentic

KEK = bytes(range(32))
AWS = _core.Wrap("aws-kms", "arn:x", "", _core.ROLE_ONLINE, b"blob")
WIPED = bytearray(32)


def made(kek: bytes = KEK, created: int = 1) -> _core.Record:
    return _core.Kek.from_bytes(kek).encode_record(created, "c", [AWS])


def held() -> tuple[_core.KekStore, _core.Record, _core.WriteState]:
    store, record = _core.KekStore(["c"]), made()
    store.admit(record, KEK)
    return store, record, store.write_state(record, record.key_id(1))


def test_the_constants_are_those_of_the_specification() -> None:
    assert (_core.ROLE_ONLINE, _core.ROLE_RECOVERY) == (1, 2)
    assert (_core.MAX_PLAINTEXT, _core.MAX_REQUEST, _core.ANNOTATION) == (947, 65536, "kek.keystead.dev")


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(_core.Kek.from_bytes, id="Kek.from_bytes"),
        pytest.param(lambda secret: _core.Kek.generate().equals(secret), id="Kek.equals"),
        pytest.param(_core.AeadKey, id="AeadKey"),
        pytest.param(lambda secret: _core.KekStore([]).admit(made(), secret), id="KekStore.admit"),
    ],
)
def test_a_bytearray_with_a_key_is_wiped(use: Callable[[bytearray], object]) -> None:
    secret = bytearray(KEK)
    use(secret)
    assert secret == WIPED


def test_a_bytearray_with_a_wrong_key_is_wiped_too() -> None:
    secret = bytearray(b"\1" * 32)
    with pytest.raises(NotAuthentic):
        _core.KekStore([]).admit(made(), secret)
    assert secret == WIPED
    secret = bytearray(b"\1" * 31)
    with pytest.raises(ValueError, match="32 bytes"):
        _core.Kek.from_bytes(secret)
    assert secret == WIPED[:31]


def test_a_kek_shows_its_bytes_only_when_asked() -> None:
    kek = _core.Kek.from_bytes(KEK)
    assert kek.reveal() == KEK
    assert kek.equals(KEK)
    assert not kek.equals(KEK[:31])
    assert KEK.hex() not in repr(kek) + str(kek)
    assert not hasattr(kek, "__dict__")


def test_records_are_equal_and_hashable_by_their_bytes() -> None:
    record = made()
    assert record == _core.Record.parse(record.encoded)
    assert record != made(created=2)
    assert {record, _core.Record.parse(record.encoded), made(created=2)} == {record, made(created=2)}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: made(kek=b"short"), "32 bytes"),
        (lambda: _core.Kek.generate().encode_record(1, "C", [AWS]), "cluster label"),
        (lambda: _core.Kek.generate().encode_record(1, "c", []), "at least one wrap"),
        (lambda: _core.Kek.generate().encode_record(1, "c", [AWS, AWS]), "twice"),
        (lambda: _core.Kek.generate().encode_record(1 << 40, "c", [AWS]), "time"),
        (lambda: _core.Kek.generate().encode_record(1, "c", [_core.Wrap("s", "r", "", 3, b"b")]), "role"),
        (lambda: made().key_id(0), "epochs begin with 1"),
        (lambda: _core.key_id("c", 1, []), "at least one"),
        (lambda: _core.key_id("c", 1, [("s", "r", "", 2)]), "online"),
        (lambda: _core.key_id_epoch("vault/3"), "key_id"),
        (lambda: _core.StateFile("ks1.e1." + "a" * 32, made()), "does not belong"),
        (lambda: _core.KekStore([], capacity=0), "room for one"),
        (lambda: held()[0].write_state(made(), "ks1.e1." + "a" * 32), "does not belong"),
    ],
)
def test_what_the_caller_got_wrong_is_a_value_error(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def test_a_write_state_of_a_kek_that_is_not_here_is_a_key_error() -> None:
    record = made()
    with pytest.raises(KeyError):
        _core.KekStore(["c"]).write_state(record, record.key_id(1))


def test_a_missing_kek_is_asked_for_by_its_record() -> None:
    _, record, state = held()
    # An EncryptResponse is a DecryptRequest but for the numbers of two fields.
    request = bytearray(state.encrypt_v2(b"\x0a\x04seed"))
    ciphertext_end = 2 + request[1]
    key_id_end = ciphertext_end + 2 + request[ciphertext_end + 1]
    request[ciphertext_end], request[key_id_end] = 3 << 3 | 2, 4 << 3 | 2
    empty = _core.KekStore(["c"])
    assert empty.decrypt_v2(bytes(request)) == record
    assert not empty.holds(record)
    empty.admit(record, KEK)
    assert empty.holds(record)
    assert empty.decrypt_v2(bytes(request)) == b"\x0a\x04seed"
    assert (len(empty), empty.retain([("aws-kms", "arn:y")]), len(empty)) == (1, 1, 0)


def test_an_aead_key_opens_to_a_bytearray_that_the_caller_may_wipe() -> None:
    key = _core.AeadKey(bytearray(KEK))
    blob = key.seal(b"local KEK", b"context")
    opened = key.open(blob, b"context")
    assert opened == bytearray(b"local KEK")
    assert type(opened) is bytearray
    with pytest.raises(NotAuthentic, match="does not authenticate"):
        key.open(blob, b"other")
    with pytest.raises(MalformedRequest, match="shorter than a nonce and a tag"):
        key.open(blob[:39], b"context")


def test_pings_and_uids_are_read_from_raw_requests() -> None:
    assert _core.is_ping(b"\x0a\x07v1beta1\x12\x04ping")
    assert not _core.is_ping(b"\x0a\x07v1beta1\x12\x04pong")
    assert not _core.is_ping(b"not a message")
    assert _core.request_uid(b"\x0a\x04seed\x12\x03abc") == "abc"
    assert _core.request_uid(b"not a message") == ""


def test_answers_without_a_key_are_encoded() -> None:
    assert _core.encode_status("v2", "ok", "k") == b"\x0a\x02v2\x12\x02ok\x1a\x01k"
    assert _core.encode_version("v1beta1", "n", "1") == b"\x0a\x07v1beta1\x12\x01n\x1a\x011"


def test_many_threads_may_share_a_store_and_a_write_state() -> None:
    store, record, state = held()

    def work(byte: int) -> None:
        for _ in range(50):
            state.encrypt_v2(b"\x0a\x04seed")
            store.admit(made(bytes([byte] * 32)), bytes([byte] * 32))
            assert store.holds(record)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    assert (len(store), state.uses) == (9, 400)


def test_the_memory_of_keys_is_reported() -> None:
    kek = _core.Kek.generate()
    report = _core.memory_report()
    assert len(kek.reveal()) == 32
    assert isinstance(report.locked, bool)
    assert report.undumpable


def test_a_hardened_process_cannot_be_dumped() -> None:
    program = (
        "import ctypes, resource; from keystead import _core;"
        "print(_core.harden_process(), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] (0, 0) 0\n"
