"""KS-R030 to 039: bytes that this key did not wrap are refused, as InvalidCiphertext."""

from __future__ import annotations

import os
from typing import Any

from keystead.errors import InvalidCiphertext, KeyNotFound
from keystead.provider import Provider, WrapContext
from keystead.testing.case import (
    Attempt,
    Case,
    attempt,
    is_key,
    must_refuse,
    needs_capability,
    new_context,
    new_kek,
    soon,
    wrapped,
)
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, Tier

POSITIONS = 48
UNUSED_BITS = 2
"""Flips that may still give the right key: text encodings such as base64 leave a few bits unused."""

_WHY = (
    "kube-apiserver keeps whatever Decrypt returns before it checks it, so one wrong answer makes reads of that seed "
    "fail until the API server restarts. The host refuses a wrong key, too, but only a clear InvalidCiphertext tells "
    "it to ask the next member, and the operator that the data are damaged rather than the network."
)
_FIX = "Map what the SDK raises for a failed integrity check, and for bytes that it cannot parse, to InvalidCiphertext."


@BOOK.rule(30, Tier.BRONZE, "A blob with any bit flipped is refused as InvalidCiphertext.", why=_WHY, fix=_FIX)
def flipped_blob(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    tolerated = 0
    step = max(1, len(made.blob) // POSITIONS)
    for position in range(0, len(made.blob), step):
        damaged = bytearray(made.blob)
        damaged[position] ^= 1 << position % 8
        done = _unwrap(provider, bytes(damaged), context, made.version)
        if done.error is None and is_key(done.answer, kek):
            tolerated += 1
            if tolerated > UNUSED_BITS:
                raise Broken("flipped bits to be noticed", f"the right key after {tolerated} of the flips")
        else:
            _must_be_refused(f"unwrap with bit {position % 8} of byte {position} flipped", done)


@BOOK.rule(31, Tier.BRONZE, "A blob cut short anywhere, or empty, is refused as InvalidCiphertext.", why=_WHY, fix=_FIX)
def truncated_blob(case: Case) -> None:
    provider, context = case.opened(), new_context()
    made = wrapped(provider, new_kek(), context)
    size = len(made.blob)
    for length in sorted({0, 1, 2, size // 4, size // 2, size - 17, size - 16, size - 2, size - 1}):
        if 0 <= length < size:
            done = _unwrap(provider, made.blob[:length], context, made.version)
            _must_be_refused(f"unwrap of the first {length} of {size} bytes", done)


@BOOK.rule(
    32, Tier.BRONZE, "A blob with bytes in front or behind is refused, or gives the right key.", why=_WHY, fix=_FIX
)
def extended_blob(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for what, blob in (
        ("a zero behind", made.blob + b"\0"),
        ("a zero in front", b"\0" + made.blob),
        ("itself behind", made.blob * 2),
        ("4096 bytes behind", made.blob + bytes(4096)),
    ):
        done = _unwrap(provider, blob, context, made.version)
        if not (done.error is None and is_key(done.answer, kek)):
            _must_be_refused(f"unwrap of the blob with {what}", done)


@BOOK.rule(33, Tier.BRONZE, "Bytes that are no blob at all are refused as InvalidCiphertext.", why=_WHY, fix=_FIX)
def garbage_blob(case: Case) -> None:
    provider, context = case.opened(), new_context()
    made = wrapped(provider, new_kek(), context)
    for what, blob in (
        ("random bytes of the same length", os.urandom(len(made.blob))),
        ("zeros of the same length", bytes(len(made.blob))),
        ("4096 random bytes", os.urandom(4096)),
        ("text", b"vault:v1:AAAA"),
        ("a line feed", b"\n"),
        ("bytes that are no text", b"\xff\xfe\xfd"),
    ):
        _must_be_refused(f"unwrap of {what}", _unwrap(provider, blob, context, made.version))


@BOOK.rule(
    34,
    Tier.SILVER,
    "What another remote key wrapped is refused as InvalidCiphertext.",
    why="A KMS that finds the key by itself opens what a key of somebody else wrapped, and so answers for data that "
    "the configuration never allowed.",
    fix="Name the configured key in every call, and check which key the answer says was used.",
    needs="Sandbox.foreign_wrap",
)
def foreign_blob(case: Case) -> None:
    needs_capability(case, "authenticated_wrap")
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = case.sandbox.foreign_wrap(kek, context)
    must_refuse(
        "unwrap of what another key wrapped",
        lambda: provider.unwrap(made.blob, context, made.version, soon()),
        InvalidCiphertext,
        KeyNotFound,
    )


@BOOK.rule(35, Tier.BRONZE, "Halves of two blobs, put together, are refused as InvalidCiphertext.", why=_WHY, fix=_FIX)
def spliced_blob(case: Case) -> None:
    provider, context = case.opened(), new_context()
    one, other = (wrapped(provider, new_kek(), context) for _ in range(2))
    for cut in sorted({len(one.blob) // 4, len(one.blob) // 2, len(one.blob) - 17}):
        blob = one.blob[:cut] + other.blob[cut:]
        if blob not in (one.blob, other.blob):
            done = _unwrap(provider, blob, context, one.version)
            _must_be_refused(f"unwrap of two blobs spliced at byte {cut}", done)


def _unwrap(provider: Provider[Any], blob: bytes, context: WrapContext, version: str) -> Attempt:
    return attempt(lambda: provider.unwrap(blob, context, version, soon()))


def _must_be_refused(what: str, done: Attempt) -> None:
    if not isinstance(done.error, InvalidCiphertext):
        raise Broken(f"{what} raises InvalidCiphertext", str(done)) from done.error
