"""KS-R020 to 029: what is wrapped is unwrapped, here and elsewhere, now and later."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sized

from keystead.provider import KEK_SIZE, WrapContext, Wrapped
from keystead.testing.case import (
    Case,
    attempt,
    is_key,
    must_answer,
    new_context,
    new_kek,
    soon,
    unwraps,
    wrapped,
)
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, Tier

MAX_VERSION = 64
TIMES = 8


@BOOK.rule(
    20,
    Tier.BRONZE,
    "What was wrapped unwraps to the same 32 bytes.",
    why="A wrong key is refused by the record's commitment, so every Secret under it is lost, or is saved by another "
    "member only.",
    fix="Send and return the bytes as they are; mind encodings on the way.",
)
def round_trip(case: Case) -> None:
    provider = case.opened()
    for _ in range(TIMES):
        kek, context = new_kek(), new_context()
        unwraps(provider, wrapped(provider, kek, context), kek, context)


@BOOK.rule(
    21,
    Tier.BRONZE,
    "`wrap` returns `Wrapped`: a blob of bytes within `max_blob`, and a version of up to 64 printable characters.",
    why="The host refuses any other answer, and the API server then has no key to write under.",
    fix="Return `Wrapped(blob, version)`; declare the largest blob that occurs.",
    unwraps=False,
)
def wrap_is_well_formed(case: Case) -> None:
    answer = wrapped(case.opened(), new_kek(), new_context())
    blob, version = answer.blob, answer.version
    if type(blob) is not bytes or not 1 <= len(blob) <= case.capabilities.max_blob:
        raise Broken(f"bytes, 1 to {case.capabilities.max_blob} of them", f"{type(blob).__name__}, {_length(blob)}")
    if type(version) is not str or len(version) > MAX_VERSION or not all("!" <= one <= "~" for one in version):
        raise Broken(f"a version of up to {MAX_VERSION} printable ASCII characters", repr(version)[:100])


@BOOK.rule(
    22,
    Tier.BRONZE,
    "The blob does not show the key: not as it is, nor in hexadecimal or base64.",
    why="The blob is stored in etcd beside each object, and whoever reads a backup would read every Secret.",
    fix="Return what the KMS made of the key, not what it was given.",
    unwraps=False,
)
def blob_hides_the_key(case: Case) -> None:
    provider, kek = case.opened(), new_kek()
    blob = wrapped(provider, kek, new_context()).blob
    text = base64.b64encode(kek).rstrip(b"=")[:-1]
    shown = {"as it is": kek, "backwards": kek[::-1], "in base64": text, "in hexadecimal": kek.hex().encode()}
    for how, form in shown.items():
        if form in blob or form in blob.lower():
            raise Broken("a blob that shows nothing of the key", f"the key, {how}")


@BOOK.rule(
    23,
    Tier.BRONZE,
    "`unwrap` returns bytes or a bytearray, 32 of them.",
    why="The host refuses any other answer as misbehaviour.",
    fix="Decode what the SDK returns, and make a bytearray of it, which the host wipes.",
)
def unwrap_is_well_formed(case: Case) -> None:
    provider, context = case.opened(), new_context()
    made = wrapped(provider, new_kek(), context)
    done = attempt(lambda: provider.unwrap(made.blob, context, made.version, soon()))
    if done.error is not None:
        raise Broken("unwrap answers", str(done)) from done.error
    answer = done.answer
    if not isinstance(answer, bytes | bytearray):
        raise Broken("bytes or a bytearray", type(answer).__name__)
    if len(answer) != KEK_SIZE:
        raise Broken(f"{KEK_SIZE} bytes", f"{len(answer)} bytes")


@BOOK.rule(
    24,
    Tier.BRONZE,
    "Each answer of `unwrap` is the caller's own: wiping it changes no later answer.",
    why="The host overwrites the answer with zeros. An adapter that keeps and shares it returns a key of zeros next "
    "time, and Secrets are unreadable until a restart.",
    fix="Cache nothing. Return a fresh bytearray each time.",
)
def answers_are_fresh(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for _ in range(3):
        answer = must_answer("unwrap", lambda: provider.unwrap(made.blob, context, made.version, soon()))
        if not is_key(answer, kek):
            raise Broken("the key that was wrapped", "another key, after an earlier answer was wiped")
        if isinstance(answer, bytearray):
            answer[:] = bytes(len(answer))


@BOOK.rule(
    25,
    Tier.BRONZE,
    "Keys of any 32 bytes come back whole: zeros, 0xff, line feeds at the end, bytes that are no text.",
    why="One local KEK in 128 ends in a byte that careless text handling strips, and the cluster that draws it loses "
    "what it wrote.",
    fix="Never treat the key as text; do not strip, decode or pad.",
)
def any_bytes_come_back(case: Case) -> None:
    provider = case.opened()
    awkward = [
        bytes(KEK_SIZE),
        b"\xff" * KEK_SIZE,
        b"\0" * 31 + b"\n",
        b" " * 30 + b"\r\n",
        b"\x80" + b"=" * 31,
        b"\0\0" + new_kek()[2:],
        new_kek()[:30] + b"\0\0",
        b"vault:v1:" + b"A" * 23,
    ]
    for kek in awkward:
        context = new_context()
        unwraps(provider, wrapped(provider, kek, context), kek, context)


@BOOK.rule(
    26,
    Tier.BRONZE,
    "Another instance unwraps what this one wrapped, after this one is closed.",
    why="Otherwise each restart and each other node loses every Secret.",
    fix="Keep nothing in the instance that unwrapping needs: it all comes from the remote, the configuration and the "
    "blob.",
)
def another_instance_unwraps(case: Case) -> None:
    first, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(first, kek, context)
    first.close()
    unwraps(case.opened(), made, kek, context, "unwrap by another instance")


@BOOK.rule(
    27,
    Tier.BRONZE,
    "Many wraps unwrap in any order, each with its own context.",
    why="A cluster's objects are under several local KEKs at any time, old and new.",
    fix="Let a call depend on its arguments only.",
)
def wraps_are_independent(case: Case) -> None:
    provider = case.opened()
    all_made = [(kek, context, wrapped(provider, kek, context)) for kek, context in _pairs(TIMES)]
    for kek, context, made in [*reversed(all_made), *all_made[::3]]:
        unwraps(provider, made, kek, context)


@BOOK.rule(
    28,
    Tier.BRONZE,
    "It works in any thread, not just in the one that opened it.",
    why="The host calls from pools of threads. An adapter that is tied to one fails at the first Decrypt.",
    fix="Keep what belongs to one thread in `threading.local`, or make it for each call.",
)
def works_in_any_thread(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    outcome: list[Wrapped | BaseException] = []

    def elsewhere() -> None:
        try:
            outcome.append(wrapped(provider, kek, context))
        except BaseException as exc:  # noqa: BLE001  it is raised again in the thread that judges
            outcome.append(exc)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    unwraps(provider, outcome[0], kek, context)


def _length(value: object) -> str:
    return f"{len(value)} of them" if isinstance(value, Sized) else "without a length"


def _pairs(count: int) -> list[tuple[bytes, WrapContext]]:
    return [(new_kek(), new_context()) for _ in range(count)]
