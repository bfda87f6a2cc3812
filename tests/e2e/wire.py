"""A small codec for protobuf messages, and a reader of Keystead's records.

The tests read what the product wrote with code of their own, so that a mistake in the product's codecs shows.
"""

from __future__ import annotations

from dataclasses import dataclass

VARINT, LENGTH_DELIMITED = 0, 2


class Reader:
    """Takes bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        assert len(taken) == size, f"{size} bytes wanted at offset {self._at} of {len(self._data)}"
        self._at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7


@dataclass(frozen=True)
class Message:
    """The fields of a protobuf message by number, in the order that they came in."""

    fields: dict[int, list[int | bytes]]

    @staticmethod
    def parse(data: bytes) -> Message:
        reader, fields = Reader(data), dict[int, list[int | bytes]]()
        while reader:
            number, kind = divmod(reader.varint(), 8)
            assert kind in (VARINT, LENGTH_DELIMITED), f"wire type {kind} in field {number} is not expected here"
            value = reader.varint() if kind == VARINT else reader.take(reader.varint())
            fields.setdefault(number, []).append(value)
        return Message(fields)

    def raw(self, number: int) -> bytes:
        value = self.fields.get(number, [b""])[-1]
        assert isinstance(value, bytes)
        return value

    def text(self, number: int) -> str:
        return self.raw(number).decode()

    def integer(self, number: int) -> int:
        value = self.fields.get(number, [0])[-1]
        assert isinstance(value, int)
        return value

    def mapping(self, number: int) -> dict[str, bytes]:
        """A map from string to bytes, which on the wire is a repeated message of key = 1 and value = 2."""
        entries = [Message.parse(entry) for entry in self.fields.get(number, []) if isinstance(entry, bytes)]
        return {entry.text(1): entry.raw(2) for entry in entries}


def encode(*fields: tuple[int, bytes]) -> bytes:
    """Encode a message of length-delimited fields, which strings, bytes and messages are."""
    return b"".join(
        encode_varint(number << 3 | LENGTH_DELIMITED) + encode_varint(len(value)) + value for number, value in fields
    )


def encode_varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


@dataclass(frozen=True)
class Wrap:
    """One wrap in a record: which remote key, and which version of it."""

    scheme: str
    ref: str
    version: str


@dataclass(frozen=True)
class KekRecord:
    """What an object in etcd says about the local KEK that its seed is encrypted under."""

    cluster: str
    kek_id: bytes
    wraps: tuple[Wrap, ...]

    @staticmethod
    def parse(data: bytes) -> KekRecord:
        reader = Reader(data)
        assert reader.take(6) == b"KSK\x01\x01\x01", f"not a record: {data[:8].hex()}"
        count = reader.number(1)
        reader.take(8)  # the time of creation
        cluster = reader.take(reader.number(1)).decode()
        kek_id = reader.take(32)
        wraps = []
        for _ in range(count):
            scheme = reader.take(reader.number(1)).decode()
            ref = reader.take(reader.number(2)).decode()
            version = reader.take(reader.number(1)).decode()
            reader.take(1)  # the role
            reader.take(reader.number(2))  # the wrapped KEK
            wraps.append(Wrap(scheme, ref, version))
        reader.take(32)  # the MAC
        assert not reader, "bytes after the record"
        return KekRecord(cluster, kek_id, tuple(wraps))
