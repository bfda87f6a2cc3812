"""The format once more, in plain Python on top of `cryptography`: what the Rust core is held against.

It is written from docs/spec/format.md and shares no code with the core. It encodes whatever it is told, also what the
format refuses, because the vectors need both.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ONLINE, RECOVERY = 1, 2
ANNOTATION = b"kek.keystead.dev"


def lp8(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def lp16(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def derive(kek: bytes, label: str) -> bytes:
    """`label` is seed-aead, kek-record-mac or kek-id."""
    return HKDFExpand(SHA256(), 32, f"keystead.dev/{label}/v1".encode()).derive(kek)


def inner_key(key: bytes, nonce: bytes) -> bytes:
    """The AES-256-GCM key of one XAES-256-GCM message."""
    halves = []
    for counter in (1, 2):
        cmac = CMAC(AES(key))
        cmac.update(bytes([0, counter]) + b"X\0" + nonce[:12])
        halves.append(cmac.finalize())
    return b"".join(halves)


def xaes_seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    return AESGCM(inner_key(key, nonce)).encrypt(nonce[12:], plaintext, aad)


def xaes_open(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    return AESGCM(inner_key(key, nonce)).decrypt(nonce[12:], sealed, aad)


class Wrap(NamedTuple):
    scheme: bytes
    ref: bytes
    version: bytes
    role: int
    blob: bytes

    def encode(self) -> bytes:
        return lp8(self.scheme) + lp16(self.ref) + lp8(self.version) + bytes([self.role]) + lp16(self.blob)


class Record(NamedTuple):
    """The parts of a record; `encode` keeps the order of the wraps."""

    kek: bytes
    wraps: tuple[Wrap, ...]
    cluster: bytes = b"prod-eu-1"
    created: int = 1_790_000_000
    head: bytes = b"KSK\x01\x01\x01"
    wrap_count: int | None = None
    kek_id: bytes | None = None

    def encode(self) -> bytes:
        body = (
            self.head
            + bytes([len(self.wraps) if self.wrap_count is None else self.wrap_count])
            + self.created.to_bytes(8, "big")
            + lp8(self.cluster)
            + (self.kek_id or derive(self.kek, "kek-id"))
            + b"".join(wrap.encode() for wrap in self.wraps)
        )
        return body + hmac.digest(derive(self.kek, "kek-record-mac"), body, "sha256")


def key_id(cluster: bytes, epoch: int, wraps: tuple[Wrap, ...]) -> str:
    members = sorted(wraps, key=lambda wrap: wrap[:3])
    data = b"keystead.dev/key-id/v1\0" + lp8(cluster) + epoch.to_bytes(4, "big") + bytes([len(members)])
    for wrap in members:
        data += lp8(wrap.scheme) + lp16(wrap.ref) + lp8(wrap.version) + bytes([wrap.role])
    hash_part = base64.b32encode(hashlib.sha256(data).digest()[:20]).decode().lower()
    return f"ks1.e{epoch}.{hash_part}"


def seed_header(kek: bytes) -> bytes:
    return b"KSD\x01\x01" + derive(kek, "kek-id")


def seed_aad(header: bytes, api: int, name: str) -> bytes:
    return b"keystead.dev/seed/v1\0" + bytes([api]) + header + lp16(name.encode())


def seal_seed(kek: bytes, api: int, name: str, plaintext: bytes, nonce: bytes) -> bytes:
    header = seed_header(kek)
    return header + nonce + xaes_seal(derive(kek, "seed-aead"), nonce, plaintext, seed_aad(header, api, name))


def open_seed(kek: bytes, api: int, name: str, seed: bytes) -> bytes:
    return xaes_open(derive(kek, "seed-aead"), seed[37:61], seed[61:], seed_aad(seed[:37], api, name))


def v1_cipher(name: str, record: bytes, seed: bytes) -> bytes:
    return b"KS1\x01" + lp8(name.encode()) + lp16(record) + seed


def state_file(name: str, record: bytes) -> bytes:
    return b"KSS\x01" + lp8(name.encode()) + lp16(record)


def remote_aad(kek: bytes, cluster: bytes) -> bytes:
    return b"keystead.dev/wrap/v1\0" + derive(kek, "kek-id") + lp8(cluster)


def message(*fields: tuple[int, bytes]) -> bytes:
    """A protobuf message of length-delimited fields."""
    out = b""
    for number, data in fields:
        length, digits = len(data), b""
        while length > 0x7F:
            digits += bytes([length & 0x7F | 0x80])
            length >>= 7
        out += bytes([number << 3 | 2]) + digits + bytes([length]) + data
    return out


def parse_message(data: bytes) -> list[tuple[int, bytes]]:
    """Undo `message`."""
    fields, at = [], 0
    while at < len(data):
        number, at = data[at] >> 3, at + 1
        length = shift = 0
        while True:
            length |= (data[at] & 0x7F) << shift
            at, shift, last = at + 1, shift + 7, data[at] < 0x80
            if last:
                break
        fields.append((number, data[at : at + length]))
        at += length
    return fields


def annotation(record: bytes, name: bytes = ANNOTATION) -> tuple[int, bytes]:
    return 4, message((1, name), (2, record))


def decrypt_v2(seed: bytes, name: str, record: bytes) -> bytes:
    return message((1, seed), (2, b"uid"), (3, name.encode()), annotation(record))


def decrypt_v1(cipher: bytes) -> bytes:
    return message((1, b"v1beta1"), (2, cipher))


# AES-256-GCM does not commit to its key. What follows builds one ciphertext that opens under two, to prove that the
# key commitment is needed, and that it works.


def two_key_seed(kek_a: bytes, kek_b: bytes, api: int, name: str, nonce: bytes) -> bytes:
    """A seed of 32 bytes with the header of `kek_a` whose AEAD also accepts under the AEAD key of `kek_b`."""
    header = seed_header(kek_a)
    aad = seed_aad(header, api, name)
    keys = [inner_key(derive(kek, "seed-aead"), nonce) for kek in (kek_a, kek_b)]
    first = bytes(16)
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * 32).to_bytes(8, "big")
    blocks = [_padded(aad)[i : i + 16] for i in range(0, len(_padded(aad)), 16)] + [first, bytes(16), lengths]
    # The tag is linear in the second ciphertext block x, tag = rest + x * H^2, so one equation makes two tags equal.
    (rest_a, square_a), (rest_b, square_b) = (_tag_and_square(key, nonce[12:], blocks) for key in keys)
    second = _multiply(rest_a ^ rest_b, _inverse(square_a ^ square_b))
    tag = rest_a ^ _multiply(second, square_a)
    return header + nonce + first + second.to_bytes(16, "big") + tag.to_bytes(16, "big")


def _tag_and_square(key: bytes, nonce: bytes, blocks: list[bytes]) -> tuple[int, int]:
    # With no plaintext and no AAD, GHASH is 0 and the tag is the mask that GCM adds to every tag.
    mask = int.from_bytes(AESGCM(key).encrypt(nonce, b"", b""), "big")
    h = int.from_bytes(_aes_block(key, bytes(16)), "big")
    tag = 0
    for block in blocks:
        tag = _multiply(tag ^ int.from_bytes(block, "big"), h)
    return tag ^ mask, _multiply(h, h)


def _aes_block(key: bytes, block: bytes) -> bytes:
    return Cipher(AES(key), ECB()).encryptor().update(block)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _multiply(a: int, b: int) -> int:
    """In GCM's GF(2^128), where the first bit is the coefficient of x^0."""
    product = 0
    for bit in range(127, -1, -1):
        if b >> bit & 1:
            product ^= a
        a = a >> 1 ^ (0xE1 << 120 if a & 1 else 0)
    return product


def _inverse(a: int) -> int:
    """a^(2^128 - 2)."""
    result, power = 1 << 127, a
    for _ in range(127):
        power = _multiply(power, power)
        result = _multiply(result, power)
    return result
