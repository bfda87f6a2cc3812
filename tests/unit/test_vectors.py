"""The files of tests/vectors through the Python binding, and against an implementation that shares no code with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from keystead import _core
from keystead.errors import ClusterNotAccepted, KeysteadError, MalformedRequest, NotAuthentic
from vectors import reference, scenarios

VECTORS = Path(__file__).parents[1] / "vectors"

EXCEPTIONS: dict[str, type[KeysteadError]] = {
    "malformed": MalformedRequest,
    "not-authentic": NotAuthentic,
    "cluster-not-accepted": ClusterNotAccepted,
}
OURS = sorted(path for path in VECTORS.iterdir() if path.is_file() and not path.suffix)
GOLDEN = sorted(path for path in (VECTORS / "golden").iterdir() if path.suffix != ".py" and path.is_file())


class Vector:
    def __init__(self, path: Path) -> None:
        head, body = path.read_text().split("\n\n")
        self.fields = dict(line.split(":", 1) for line in head.splitlines())
        self.fields = {field: value.strip() for field, value in self.fields.items()}
        self.input = bytes.fromhex(body)

    def hex(self, field: str) -> bytes:
        return bytes.fromhex(self.fields[field])

    def store(self) -> tuple[_core.KekStore, _core.Record]:
        record = _core.Record.parse(self.hex("record"))
        store = _core.KekStore([self.fields["cluster"]])
        store.admit(record, self.hex("kek"))
        return store, record

    def run(self) -> bytes | None:
        """Give the input to what the vector is about; return the plaintext where there is one."""
        match self.fields["kind"]:
            case "record":
                record = _core.Record.parse(self.input)
                assert record.encoded == self.input
                if "kek" in self.fields:
                    _core.KekStore([]).admit(record, self.hex("kek"))
            case "seed":
                _core.Seed.parse(self.input)
            case "v1-cipher":
                _core.V1Cipher.parse(self.input)
            case "state-file":
                assert _core.StateFile.parse(self.input).encoded == self.input
            case "decrypt-v2":
                return plaintext(self.store()[0].decrypt_v2(self.input))
            case "decrypt-v1":
                return plaintext(self.store()[0].decrypt_v1(self.input))
            case "encrypt-v2":
                store, record = self.store()
                state = store.write_state(record, self.fields["key_id"])
                (_, seed), (_, name), (_, entry) = reference.parse_message(state.encrypt_v2(self.input))
                assert name.decode() == self.fields["key_id"]
                return plaintext(store.decrypt_v2(reference.message((1, seed), (3, name), (4, entry))))
            case "encrypt-v1":
                store, record = self.store()
                state = store.write_state(record, self.fields["key_id"])
                ((_, cipher),) = reference.parse_message(state.encrypt_v1(self.input))
                return plaintext(store.decrypt_v1(reference.decrypt_v1(cipher)))
            case kind:
                pytest.fail(f"unknown kind {kind}")
        return None


def plaintext(answer: bytes | _core.Record) -> bytes:
    assert isinstance(answer, bytes)
    ((number, content),) = reference.parse_message(answer)
    assert number == 1
    return content


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_every_vector_comes_to_what_it_expects(path: Path) -> None:
    vector = Vector(path)
    expect = vector.fields["expect"]
    if expect == "ok":
        expected = vector.hex("plaintext") if "plaintext" in vector.fields else None
        assert vector.run() == expected
    else:
        with pytest.raises(KeysteadError) as caught:
            vector.run()
        assert type(caught.value) is EXCEPTIONS[expect]
        assert vector.fields["reason"] in str(caught.value)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_everything_that_a_release_wrote_is_still_opened(path: Path) -> None:
    vector = Vector(path)
    assert vector.run() == (vector.hex("plaintext") if "plaintext" in vector.fields else None)


def test_no_vector_is_left_out() -> None:
    counts = Counter(Vector(path).fields["expect"] for path in OURS)
    assert counts == {"ok": 31, "malformed": 107, "not-authentic": 34, "cluster-not-accepted": 3}
    assert len(GOLDEN) == 24


def test_the_files_are_those_that_the_reference_implementation_writes() -> None:
    assert {path.name for path in OURS} == set(scenarios.VECTORS)
    for path in OURS:
        assert path.read_text() == scenarios.VECTORS[path.name], path.name


def test_the_reference_implementation_opens_what_a_release_wrote() -> None:
    opened = 0
    for path in GOLDEN:
        vector = Vector(path)
        fields = dict(reference.parse_message(vector.input)) if "decrypt" in vector.fields["kind"] else {}
        match vector.fields["kind"]:
            case "decrypt-v2":
                annotation = dict(reference.parse_message(fields[4]))
                assert annotation == {1: reference.ANNOTATION, 2: vector.hex("record")}
                api, name, seed = 2, fields[3].decode(), fields[1]
            case "decrypt-v1":
                name = fields[2][5 : 5 + fields[2][4]].decode()
                prefix = reference.v1_cipher(name, vector.hex("record"), b"")
                assert fields[2].startswith(prefix)
                api, seed = 1, fields[2][len(prefix) :]
            case _:
                continue
        assert reference.open_seed(vector.hex("kek"), api, name, seed) == vector.hex("plaintext")
        opened += 1
    assert opened == 18


def test_the_aead_alone_would_open_one_ciphertext_to_two_plaintexts() -> None:
    """So the commitment to the KEK is what the vectors two-keys-* are refused by."""
    seed = reference.two_key_seed(scenarios.KEK, scenarios.OTHER_KEK, 2, scenarios.NAME, scenarios.NONCE)
    aad = reference.seed_aad(seed[:37], 2, scenarios.NAME)
    keys = [reference.derive(kek, "seed-aead") for kek in (scenarios.KEK, scenarios.OTHER_KEK)]
    first, second = (reference.xaes_open(key, seed[37:61], seed[61:], aad) for key in keys)
    assert first != second

    record = _core.Record.parse(scenarios.RECORD_BYTES)
    store = _core.KekStore(["prod-eu-1"])
    store.admit(record, scenarios.KEK)
    assert plaintext(store.decrypt_v2(reference.decrypt_v2(seed, scenarios.NAME, scenarios.RECORD_BYTES))) == first
