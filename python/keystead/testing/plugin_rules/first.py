"""KS-C070 to 079: KMS v1."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from google.protobuf.message import DecodeError

from keystead._proto.v1beta1 import api_pb2 as v1
from keystead.testing.plugin_rules.book import BOOK, PluginCase, broken, new_seed, status_of
from keystead.testing.plugin_rules.client import Client, Reply, Sealed
from keystead.testing.rules import Broken, Tier

MAX_CIPHER = 65535


@BOOK.rule(
    70,
    Tier.BRONZE,
    "Version answers v1beta1.",
    why="kube-apiserver asks before its first Encrypt or Decrypt, and makes none without this answer.",
    fix='Answer with version "v1beta1".',
    api="v1beta1",
)
def version(case: PluginCase) -> None:
    reply = case.client().version_v1()
    if reply.answer is None:
        broken("Version to answer", reply)
    named = v1.VersionResponse.FromString(reply.answer).version
    if named != "v1beta1":
        raise Broken("version v1beta1", repr(named)[:100])


@BOOK.rule(
    71,
    Tier.BRONZE,
    "The four bytes `ping` come back.",
    why="They are the health check of v1. A plugin that takes 32 bytes only is unhealthy for ever.",
    fix="Encrypt a plaintext of any length.",
    api="v1beta1",
)
def ping(case: PluginCase) -> None:
    client = case.client()
    _opens(client, _cipher(client, b"ping"), b"ping")


@BOOK.rule(
    72,
    Tier.BRONZE,
    f"A data key comes back, and its ciphertext has 1 to {MAX_CIPHER} bytes; 100 at once do, too.",
    why="A longer ciphertext is stored with a length that is wrong, and is unreadable. Under v1 every write of an "
    "object is an Encrypt.",
    fix="Keep it short.",
    api="v1beta1",
)
def data_keys(case: PluginCase) -> None:
    client = case.client()

    def once(_: int) -> None:
        plain = new_seed()
        cipher = _cipher(client, plain)
        if not 1 <= len(cipher) <= MAX_CIPHER:
            raise Broken(f"1 to {MAX_CIPHER} bytes", f"{len(cipher)}")
        _opens(client, cipher, plain)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(once, range(100)))


@BOOK.rule(
    73,
    Tier.BRONZE,
    "A cipher that is flipped, cut short, longer or random is refused.",
    why="See KS-C030.",
    fix="Authenticate the whole, and return a plaintext only after that.",
    api="v1beta1",
)
def damaged(case: PluginCase) -> None:
    client, plain = case.client(), new_seed()
    cipher = _cipher(client, plain)
    step = max(1, len(cipher) // 400)
    for position in range(0, len(cipher), step):
        flipped = bytearray(cipher)
        flipped[position] ^= 1 << position % 8
        _refused(client.decrypt_v1(bytes(flipped)), plain, f"a cipher with a bit of byte {position} flipped")
        _refused(client.decrypt_v1(cipher[:position]), plain, f"the first {position} of {len(cipher)} bytes")
    for what, other in {"a zero behind": cipher + b"\0", "random bytes": os.urandom(len(cipher))}.items():
        _refused(client.decrypt_v1(other), plain, f"a cipher with {what}")


@BOOK.rule(
    74,
    Tier.SILVER,
    "What was encrypted by one API is refused by the other.",
    why="Whoever can write to etcd could turn an object of one kind into one of the other.",
    fix="Authenticate the version of the API with the ciphertext.",
    needs="a plugin that serves both",
    api="v1beta1 v2",
)
def apis_are_apart(case: PluginCase) -> None:
    client, plain = case.client(), new_seed()
    cipher = _cipher(client, plain)
    for key_id in ("k", status_of(client).key_id):
        reply = client.decrypt(Sealed(cipher, key_id))
        if reply.answer is not None:
            broken("v2 to refuse a cipher of v1beta1", reply)


def _cipher(client: Client, plain: bytes) -> bytes:
    reply = client.encrypt_v1(plain)
    if reply.answer is None:
        broken(f"Encrypt of {len(plain)} bytes to answer", reply)
    try:
        return bytes(v1.EncryptResponse.FromString(reply.answer).cipher)
    except DecodeError:
        raise Broken("an EncryptResponse", str(reply)) from None


def _opens(client: Client, cipher: bytes, plain: bytes) -> None:
    reply = client.decrypt_v1(cipher)
    if reply.answer is None:
        broken("Decrypt to answer", reply)
    if _plain(reply) != plain:
        raise Broken("the bytes that were encrypted", "other bytes")


def _refused(reply: Reply, plain: bytes, what: str) -> None:
    if reply.answer is not None:
        raise Broken(
            f"Decrypt of {what} to be refused",
            "the right bytes" if _plain(reply) == plain else "WRONG BYTES as a plaintext",
        )


def _plain(reply: Reply) -> bytes:
    try:
        return bytes(v1.DecryptResponse.FromString(reply.answer or b"").plain)
    except DecodeError:
        raise Broken("a DecryptResponse", str(reply)) from None
