"""KS-C030 to 049: what was never encrypted is never decrypted, and the refusal says so."""

from __future__ import annotations

import os

from keystead.testing.plugin_rules.book import BOOK, PluginCase, must_be_refused, new_seed, sealed_of
from keystead.testing.rules import Broken, NotApplicable, Tier

MAX_TEXT = 1024

_WHY = (
    "kube-apiserver keeps whatever Decrypt returns before it checks it. One wrong answer makes reads of that seed fail "
    "until it is restarted, also after the plugin is mended; an error does no such harm."
)
_FIX = "Authenticate the whole, and return a plaintext only after that."
_BOUND = (
    "Whoever can write to etcd can put parts of one object into another. What a plugin does not authenticate, it must "
    "not act upon, and most do."
)


@BOOK.rule(30, Tier.BRONZE, "A ciphertext with any one bit flipped is refused.", why=_WHY, fix=_FIX)
def each_bit(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    for position in range(len(sealed.ciphertext)):
        damaged = bytearray(sealed.ciphertext)
        damaged[position] ^= 1 << position % 8
        what = f"a ciphertext with bit {position % 8} of byte {position} flipped"
        must_be_refused(client, sealed.but(ciphertext=bytes(damaged)), seed, what)


@BOOK.rule(31, Tier.BRONZE, "A ciphertext cut short anywhere, or empty, is refused.", why=_WHY, fix=_FIX)
def each_truncation(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    for size in range(len(sealed.ciphertext)):
        cut = sealed.but(ciphertext=sealed.ciphertext[:size])
        must_be_refused(client, cut, seed, f"the first {size} of {len(sealed.ciphertext)} bytes")


@BOOK.rule(32, Tier.BRONZE, "A ciphertext that is longer, doubled or random is refused.", why=_WHY, fix=_FIX)
def other_ciphertexts(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    whole = sealed.ciphertext
    for what, ciphertext in {
        "a ciphertext with a zero behind": whole + b"\0",
        "a ciphertext with a zero in front": b"\0" + whole,
        "a ciphertext twice": whole * 2,
        "random bytes": os.urandom(len(whole)),
        "zeros": bytes(len(whole)),
        "one byte": b"\x01",
    }.items():
        must_be_refused(client, sealed.but(ciphertext=ciphertext), seed, what)


@BOOK.rule(33, Tier.BRONZE, "A ciphertext put together of two is refused.", why=_WHY, fix=_FIX)
def each_splice(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    one, other = sealed_of(client, seed), sealed_of(client, new_seed())
    for cut in range(1, len(one.ciphertext)):
        mixed = one.ciphertext[:cut] + other.ciphertext[cut:]
        if mixed not in (one.ciphertext, other.ciphertext):
            must_be_refused(client, one.but(ciphertext=mixed), seed, f"two ciphertexts spliced at byte {cut}")


@BOOK.rule(
    34,
    Tier.SILVER,
    "A ciphertext is refused under another key_id.",
    why=_BOUND,
    fix="Authenticate key_id with the ciphertext.",
)
def other_key_ids(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    for what, key_id in {
        "no key_id": "",
        "another key_id": "another",
        "a longer key_id": f"{sealed.key_id}x",
        "a shorter key_id": sealed.key_id[:-1],
        "a key_id of 5000 bytes": "k" * 5000,
    }.items():
        must_be_refused(client, sealed.but(key_id=key_id), seed, f"a ciphertext with {what}")


@BOOK.rule(
    35,
    Tier.BRONZE,
    "A ciphertext whose annotations are missing, renamed or changed is refused.",
    why=_WHY,
    fix="Authenticate names and values of the annotations with the ciphertext.",
    needs="a plugin that uses annotations",
)
def other_annotations(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    if not sealed.annotations:
        raise NotApplicable("this plugin answers without annotations")
    must_be_refused(client, sealed.but(annotations={}), seed, "a ciphertext without its annotations")
    for name, value in sealed.annotations.items():
        rest = {key: one for key, one in sealed.annotations.items() if key != name}
        for what, changed in {
            f"a ciphertext without the annotation {name}": rest,
            f"a ciphertext whose annotation {name} has another name": {**rest, "other.example.com": value},
            f"a ciphertext whose annotation {name} is empty": {**rest, name: b""},
            f"a ciphertext whose annotation {name} is longer": {**rest, name: value + b"\0"},
            f"a ciphertext whose annotation {name} is huge": {**rest, name: bytes(100_000)},
        }.items():
            if changed != sealed.annotations:
                must_be_refused(client, sealed.but(annotations=changed), seed, what)


@BOOK.rule(
    36,
    Tier.BRONZE,
    "An annotation with any one bit flipped, or cut short anywhere, is refused.",
    why=_WHY,
    fix="Authenticate the values of the annotations with the ciphertext.",
    needs="a plugin that uses annotations",
)
def each_annotation_bit(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    if not sealed.annotations:
        raise NotApplicable("this plugin answers without annotations")
    for name, value in sealed.annotations.items():
        for position in range(len(value)):
            damaged = bytearray(value)
            damaged[position] ^= 1 << position % 8
            for what, changed in (("bit flipped", bytes(damaged)), ("cut short", value[:position])):
                annotations = {**sealed.annotations, name: changed}
                must_be_refused(
                    client, sealed.but(annotations=annotations), seed, f"annotation {name}: {what} at byte {position}"
                )


@BOOK.rule(
    37,
    Tier.SILVER,
    "A ciphertext with an annotation that it was not made with is refused.",
    why=_BOUND,
    fix="Authenticate all annotations, not only those that you know.",
)
def extra_annotations(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    more = {**sealed.annotations, "extra.example.com": b"x"}
    must_be_refused(client, sealed.but(annotations=more), seed, "a ciphertext with an extra annotation")


@BOOK.rule(
    40,
    Tier.SILVER,
    "Damaged data are refused with a code that says that it will not pass, and never with UNKNOWN.",
    why="UNKNOWN is what an exception becomes that nobody caught. UNAVAILABLE sends the operator to the network while "
    "his data are damaged.",
    fix="Answer INVALID_ARGUMENT, FAILED_PRECONDITION or DATA_LOSS.",
)
def code_of_a_refusal(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    flipped = sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
    for what, damaged in (("a flipped bit", flipped), ("half a ciphertext", sealed.ciphertext[:20])):
        reply = must_be_refused(client, sealed.but(ciphertext=damaged), seed, what)
        if reply.code.name in ("UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"):
            raise Broken(f"INVALID_ARGUMENT, FAILED_PRECONDITION or DATA_LOSS for {what}", str(reply))


@BOOK.rule(
    41,
    Tier.SILVER,
    f"The text of a refusal has at most {MAX_TEXT} bytes, and shows no bytes of the request.",
    why="It is written to the API server's log, and to whoever asked for the object.",
    fix="Say what is wrong in a sentence.",
)
def text_of_a_refusal(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    flipped = sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
    reply = must_be_refused(client, sealed.but(ciphertext=flipped), seed, "a flipped bit")
    if len(reply.text.encode()) > MAX_TEXT:
        raise Broken(f"a text of at most {MAX_TEXT} bytes", f"{len(reply.text.encode())} bytes")
    for form in (seed.hex(), flipped.hex()[:64], repr(flipped)[2:60]):
        if form in reply.text:
            raise Broken("a text without bytes of the request", reply.text[:200])
