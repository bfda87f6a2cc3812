"""KS-C001 to 029: what Status and Encrypt answer, and that Decrypt gives it back."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor

from keystead.operate.self_test import MAX_ANNOTATIONS, MAX_CIPHERTEXT, MAX_KEY_ID, is_annotation_name
from keystead.testing.plugin_rules.book import (
    BOOK,
    SEED_SIZE,
    PluginCase,
    broken,
    new_seed,
    opens,
    plaintext_of,
    sealed_of,
    status_of,
)
from keystead.testing.rules import Broken, Tier

STATUS_CALLS = 100
QUICK = 1.0
CALLERS = 200

_UNHEALTHY = "kube-apiserver takes the plugin for unhealthy: /readyz is red, and writes end three minutes later."
_REFUSED = (
    "kube-apiserver throws the whole answer away: no rotation happens, and at a start nothing encrypted can be read or "
    "written."
)


@BOOK.rule(
    1,
    Tier.BRONZE,
    "Status answers with version v2 (or v2beta1, for Kubernetes before 1.29).",
    why="Until one Status and one Encrypt succeed, kube-apiserver can neither write nor read what is encrypted.",
    fix='Answer Status from memory, with version "v2".',
)
def status_version(case: PluginCase) -> None:
    version = status_of(case.client()).version
    if version not in ("v2", "v2beta1"):
        raise Broken("version v2 or v2beta1", repr(version)[:100])


@BOOK.rule(2, Tier.BRONZE, "healthz is exactly `ok`.", why=_UNHEALTHY, fix="Answer `ok`, in lower case, when it is.")
def healthz_is_ok(case: PluginCase) -> None:
    healthz = status_of(case.client()).healthz
    if healthz != "ok":
        raise Broken("healthz ok", repr(healthz)[:200])


@BOOK.rule(
    3,
    Tier.BRONZE,
    f"key_id has 1 to {MAX_KEY_ID} bytes.",
    why=_UNHEALTHY,
    fix="Use a short, public name that all nodes derive alike from the remote key and its version.",
)
def key_id_size(case: PluginCase) -> None:
    size = len(status_of(case.client()).key_id.encode())
    if not 1 <= size <= MAX_KEY_ID:
        raise Broken(f"1 to {MAX_KEY_ID} bytes", f"{size}")


@BOOK.rule(
    4,
    Tier.BRONZE,
    f"Status says the same {STATUS_CALLS} times, also while seeds are encrypted.",
    why="A key_id that flips makes kube-apiserver make a new seed each time, and leaves objects stale for ever. A "
    "version that changes turns its health red until it is restarted.",
    fix="Serve Status and Encrypt from one snapshot, and change it only for a verified rotation.",
)
def status_is_stable(case: PluginCase) -> None:
    client = case.client()
    seen = set()
    for number in range(STATUS_CALLS):
        status = status_of(client)
        seen.add((status.version, status.key_id))
        if number % 10 == 0:
            sealed_of(client, new_seed())
    if len(seen) != 1:
        raise Broken("one version and key_id", " and ".join(sorted(f"{one[0]}/{one[1]}" for one in seen))[:200])


@BOOK.rule(
    5,
    Tier.SILVER,
    f"Status answers within {QUICK:g} s while 64 callers decrypt.",
    why="A starting API server decrypts many seeds at once. A Status that waits in their line times out, and writes "
    "end three minutes later.",
    fix="Answer Status from memory, in a thread that no Decrypt uses.",
)
def status_does_not_wait(case: PluginCase) -> None:
    client, other = case.client(), case.client()
    seed = new_seed()
    sealed = sealed_of(client, seed)
    with ThreadPoolExecutor(64) as pool:
        calls = [pool.submit(client.decrypt, sealed) for _ in range(512)]
        worst = 0.0
        while not all(call.done() for call in calls):
            reply = other.status()
            if reply.refused:
                broken("Status to answer while others decrypt", reply)
            worst = max(worst, reply.seconds)
            time.sleep(0.01)
    if worst > QUICK:
        raise Broken(f"Status within {QUICK:g} s", f"one took {worst:.2f} s")


@BOOK.rule(
    10, Tier.BRONZE, f"A ciphertext has 1 to {MAX_CIPHERTEXT} bytes.", why=_REFUSED, fix="Put the rest in annotations."
)
def ciphertext_size(case: PluginCase) -> None:
    size = len(sealed_of(case.client(), new_seed()).ciphertext)
    if not 1 <= size <= MAX_CIPHERTEXT:
        raise Broken(f"1 to {MAX_CIPHERTEXT} bytes", f"{size}")


@BOOK.rule(
    11,
    Tier.BRONZE,
    "Encrypt names the key_id of Status.",
    why=_REFUSED,
    fix="Serve both from one snapshot, which is swapped as a whole.",
)
def encrypt_names_the_key_id(case: PluginCase) -> None:
    client = case.client()
    for _ in range(20):
        before, sealed, after = status_of(client).key_id, sealed_of(client, new_seed()), status_of(client).key_id
        if sealed.key_id not in (before, after):
            raise Broken(f"the key_id {before!r}"[:200], repr(sealed.key_id)[:200])


@BOOK.rule(
    12,
    Tier.BRONZE,
    "Annotations are named by lower-case domain names of two labels or more.",
    why=_REFUSED,
    fix="Name them as `kek.example.com`: no slash, no underscore, no capital letters.",
)
def annotation_names(case: PluginCase) -> None:
    for name in sealed_of(case.client(), new_seed()).annotations:
        if not is_annotation_name(name):
            raise Broken("names such as kek.example.com", repr(name)[:100])


@BOOK.rule(
    13,
    Tier.BRONZE,
    f"All annotations together have at most {MAX_ANNOTATIONS} bytes.",
    why=f"{_REFUSED} They are also stored with every single object.",
    fix="Keep them to a few hundred bytes.",
)
def annotation_size(case: PluginCase) -> None:
    annotations = sealed_of(case.client(), new_seed()).annotations
    size = sum(len(name.encode()) + len(value) for name, value in annotations.items())
    if size > MAX_ANNOTATIONS:
        raise Broken(f"{MAX_ANNOTATIONS} bytes at the most", f"{size}")


@BOOK.rule(
    14,
    Tier.BRONZE,
    "The same seed, encrypted twice, gives two results.",
    why="Equal results show an observer that two API servers have the same seed, and mostly come from a nonce that is "
    "used again.",
    fix="Use a random nonce of at least 96 bits, or a misuse-resistant cipher with one.",
)
def results_differ(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    results = [sealed_of(client, seed) for _ in range(8)]
    distinct = {(one.ciphertext, one.key_id, tuple(sorted(one.annotations.items()))) for one in results}
    if len(distinct) != len(results):
        raise Broken(f"{len(results)} different results", f"{len(distinct)}")


@BOOK.rule(
    15,
    Tier.BRONZE,
    "Nothing of a seed shows in what Encrypt answers.",
    why="Whoever reads etcd or a backup would read every Secret.",
    fix="Encrypt.",
)
def nothing_shows(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    parts = {"the ciphertext": sealed.ciphertext, "key_id": sealed.key_id.encode()}
    parts |= {f"annotation {name}": value for name, value in sealed.annotations.items()}
    forms = [("as it is", seed), ("backwards", seed[::-1]), ("in hexadecimal", seed.hex().encode())]
    # Base64 of the middle of a text depends on where it begins, modulo 3.
    forms += [("in base64", base64.b64encode(bytes(offset) + seed)[4:-4]) for offset in range(3)]
    for where, value in parts.items():
        for how, form in forms:
            if form[:16] in value or form[:16] in value.lower():
                raise Broken("nothing of the seed", f"the seed, {how}, in {where}")


@BOOK.rule(
    16,
    Tier.BRONZE,
    "Two seeds are not encrypted with the same key stream.",
    why="With AES-GCM, two seeds under one nonce give their difference away, and the authentication key as well.",
    fix="Never use a nonce twice: make it at random for each call.",
)
def key_stream_is_fresh(case: PluginCase) -> None:
    client = case.client()
    first, second = sealed_of(client, bytes(SEED_SIZE)), sealed_of(client, b"\xff" * SEED_SIZE)
    one, other = first.ciphertext, second.ciphertext
    difference = bytes(a ^ b for a, b in zip(one, other, strict=False))
    if b"\xff" * SEED_SIZE in difference:
        raise Broken("ciphertexts that have nothing to do with each other", "ones that differ as their seeds do")


@BOOK.rule(
    20,
    Tier.BRONZE,
    "What was encrypted decrypts to the same bytes, whatever the 32 bytes are.",
    why="kube-apiserver never tries this. What cannot be decrypted is found at the next restart, as lost data.",
    fix="Decrypt each result in Encrypt before answering with it.",
)
def round_trip(case: PluginCase) -> None:
    client = case.client()
    for seed in (new_seed(), new_seed(), bytes(SEED_SIZE), b"\xff" * SEED_SIZE, b"\n" * SEED_SIZE):
        opens(client, sealed_of(client, seed), seed)


@BOOK.rule(
    21,
    Tier.BRONZE,
    f"{CALLERS} calls at once each get their own seed back.",
    why="A starting API server decrypts many seeds together, without waiting. One mixed-up answer makes reads of that "
    "seed fail until it is restarted.",
    fix="Keep no state of a call outside of it, and set no low limit on calls at once.",
)
def many_at_once(case: PluginCase) -> None:
    clients = [case.client() for _ in range(4)]

    def once(number: int) -> str | None:
        client, seed = clients[number % len(clients)], new_seed()
        reply = client.decrypt(sealed_of(client, seed))
        return None if reply.answer is not None and plaintext_of(reply) == seed else str(reply)

    with ThreadPoolExecutor(50) as pool:
        wrong = [what for what in pool.map(once, range(CALLERS)) if what is not None]
    if wrong:
        raise Broken(f"{CALLERS} right seeds", f"{len(wrong)} wrong or refused, such as {wrong[0]}")


@BOOK.rule(
    22,
    Tier.BRONZE,
    "The uid of a Decrypt does not matter.",
    why="Each call has another uid, also for the same seed. Bound to it, nothing can ever be read.",
    fix="Use the uid in logs only.",
)
def uid_is_free(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    for uid in ("", "another", "x" * 1000):
        opens(client, sealed, seed, f"Decrypt with a uid of {len(uid)} characters", uid)
