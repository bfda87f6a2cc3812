"""Write the vectors beside this file: `cd tests && python -m vectors.scenarios`. The same bytes in every run.

Each call below is one scenario. README.md explains the files.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from vectors.reference import (
    ONLINE,
    RECOVERY,
    Record,
    Wrap,
    annotation,
    decrypt_v1,
    decrypt_v2,
    derive,
    key_id,
    message,
    seal_seed,
    state_file,
    two_key_seed,
    v1_cipher,
)

KEK = bytes(range(32))
OTHER_KEK = bytes(range(1, 33))
NONCE = bytes(range(0x40, 0x58))
SEED = bytes(range(0x80, 0xA0))

AWS = Wrap(b"aws-kms", b"arn:aws:kms:eu-central-1:111122223333:key/k1", b"", ONLINE, bytes(8))
VAULT = Wrap(b"vault-transit", b"prod/transit/k8s", b"3", ONLINE, b"vault:v3:AAAA")
RECORD = Record(KEK, (AWS, VAULT))
RECORD_BYTES = RECORD.encode()
NAME = key_id(b"prod-eu-1", 7, RECORD.wraps)
FOREIGN_NAME = "ks1.e7.pnyzcrwzeoywp4o3wy3azjerciomoy7e"
SEALED = seal_seed(KEK, 2, NAME, SEED, NONCE)
SEALED_V1 = seal_seed(KEK, 1, NAME, SEED, NONCE)
CIPHER = v1_cipher(NAME, RECORD_BYTES, SEALED_V1)
OTHER_RECORD = Record(OTHER_KEK, (AWS,))

VECTORS: dict[str, str] = {}
"""Name of each file and its content."""


def vector(name: str, kind: str, expect: str, comment: str, body: bytes, **fields: str | bytes) -> None:
    lines = [f"expect: {expect}", f"kind: {kind}"]
    for field, value in fields.items():
        lines.append(f"{field}: {value.hex() if isinstance(value, bytes) else value}")
    lines.append(f"comment: {comment}")
    assert name not in VECTORS, name
    VECTORS[name] = "\n".join([*lines, "", *textwrap.wrap(body.hex(), 96), ""])


def flip(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def replace(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def records() -> None:
    def good(name: str, comment: str, record: Record) -> None:
        vector(f"record-{name}", "record", "ok", comment, record.encode(), kek=record.kek)

    def bad(name: str, reason: str, comment: str, record: Record | bytes) -> None:
        body = record if isinstance(record, bytes) else record.encode()
        vector(f"record-bad-{name}", "record", "malformed", comment, body, reason=reason)

    def bad_wrap(name: str, reason: str, comment: str, wrap: Wrap) -> None:
        bad(name, reason, comment, Record(KEK, (wrap,)))

    def forged(name: str, reason: str, comment: str, body: bytes, kek: bytes = KEK) -> None:
        vector(f"record-forged-{name}", "record", "not-authentic", comment, body, kek=kek, reason=reason)

    good("example", "the example of the specification", RECORD)
    good("one-wrap", "a single member", Record(KEK, (AWS,)))
    eight = tuple(AWS._replace(ref=b"key-%d" % n) for n in range(8))
    good("eight-wraps", "the most members", Record(KEK, eight))
    good("empty-cluster", "no cluster label, as the local provider allows", Record(KEK, (AWS,), cluster=b""))
    good("cluster-of-63", "the longest cluster label", Record(KEK, (AWS,), cluster=b"a" + b"-" * 61 + b"9"))
    good("cluster-of-one", "a cluster label of one character", Record(KEK, (AWS,), cluster=b"0"))
    longest = Wrap(b"s" * 32, b"~" * 512, b"!" * 64, ONLINE, b"\xff" * 4096)
    good("longest-fields", "every field of a wrap at its limit", Record(KEK, (longest,)))
    good(
        "shortest-fields",
        "every field of a wrap as short as it can be",
        Record(KEK, (Wrap(b"-", b"!", b"", ONLINE, b"\0"),)),
    )
    good(
        "recovery-member",
        "a member for recovery beside one for online use",
        Record(KEK, (AWS, VAULT._replace(role=RECOVERY))),
    )
    good("two-versions", "one key under two of its versions", Record(KEK, (VAULT, VAULT._replace(version=b"4"))))
    good("time-zero", "the earliest time", RECORD._replace(created=0))
    good("time-last", "the latest time", RECORD._replace(created=(1 << 40) - 1))

    bad("empty", "too short", "no bytes", b"")
    bad("magic", "not one of Keystead", "a seed's magic", RECORD._replace(head=b"KSD\x01\x01\x01"))
    bad("format-version", "newer format", "format version 2", RECORD._replace(head=b"KSK\x02\x01\x01"))
    bad("suite", "cipher suite", "suite 2", RECORD._replace(head=b"KSK\x01\x02\x01"))
    bad("threshold-0", "threshold", "threshold 0", RECORD._replace(head=b"KSK\x01\x01\x00"))
    bad("threshold-2", "threshold", "threshold 2", RECORD._replace(head=b"KSK\x01\x01\x02"))
    bad("no-wraps", "at least one wrap", "n = 0", Record(KEK, ()))
    bad("nine-wraps", "at most 8", "n = 9", Record(KEK, (*eight, AWS._replace(ref=b"key-8"))))
    bad("count-too-high", "ends within", "n = 3 with two wraps", RECORD._replace(wrap_count=3))
    bad("count-too-low", "after the KEK record", "n = 1 with two wraps", RECORD._replace(wrap_count=1))
    bad("time", "time", "created at 2^40", RECORD._replace(created=1 << 40))
    for name, label in [
        ("upper-case", b"Prod"),
        ("underscore", b"prod_eu"),
        ("of-64", b"c" * 64),
        ("leading-dash", b"-prod"),
        ("trailing-dot", b"prod."),
        ("of-a-dot", b"."),
        ("space", b"prod eu"),
    ]:
        bad(f"cluster-{name}", "cluster label", f"cluster label {label.decode()!r}", RECORD._replace(cluster=label))
    bad("cluster-not-utf-8", "ASCII", "a byte above 0x7f in the cluster label", RECORD._replace(cluster=b"prod\xff"))
    bad("cluster-umlaut", "cluster label", "valid UTF-8 beyond ASCII", RECORD._replace(cluster="köln".encode()))
    bad_wrap("scheme-empty", "scheme", "no scheme", AWS._replace(scheme=b""))
    bad_wrap("scheme-of-33", "scheme", "a scheme one byte too long", AWS._replace(scheme=b"s" * 33))
    bad_wrap("scheme-upper-case", "scheme", "a scheme in upper case", AWS._replace(scheme=b"AWS-KMS"))
    bad_wrap("scheme-dot", "scheme", "a dot in a scheme", AWS._replace(scheme=b"aws.kms"))
    bad_wrap("ref-empty", "ref", "no ref", AWS._replace(ref=b""))
    bad_wrap("ref-of-513", "ref", "a ref one byte too long", AWS._replace(ref=b"r" * 513))
    bad_wrap("ref-space", "ref", "a space in a ref", AWS._replace(ref=b"a b"))
    bad_wrap("ref-delete", "ref", "a control character in a ref", AWS._replace(ref=b"a\x7f"))
    bad_wrap("ref-newline", "ref", "a newline in a ref, which would forge a log line", AWS._replace(ref=b"a\nb"))
    bad_wrap("version-of-65", "version", "a version one byte too long", AWS._replace(version=b"1" * 65))
    bad_wrap("version-space", "version", "a space in a version", AWS._replace(version=b"1 "))
    bad_wrap("role-0", "role", "role 0", AWS._replace(role=0))
    bad_wrap("role-3", "role", "role 3", AWS._replace(role=3))
    bad_wrap("blob-empty", "1 to 4096", "no wrapped key", AWS._replace(blob=b""))
    bad_wrap("blob-of-4097", "1 to 4096", "a wrapped key one byte too long", AWS._replace(blob=b"b" * 4097))
    bad_wrap("no-online-member", "online", "only a recovery member", AWS._replace(role=RECOVERY))
    bad("unsorted", "sorted", "wraps in the wrong order", Record(KEK, (VAULT, AWS)))
    local = Wrap(b"local", b"k", b"1", ONLINE, b"b")
    bad("sorted-by-length", "sorted", "wraps sorted by their encoding with the lengths", Record(KEK, (local, AWS)))
    bad("duplicate", "occurs twice", "the same wrap twice", Record(KEK, (AWS, AWS)))
    bad(
        "duplicate-other-role",
        "occurs twice",
        "one key online and for recovery",
        Record(KEK, (AWS, AWS._replace(role=RECOVERY))),
    )
    bad(
        "duplicate-other-blob",
        "occurs twice",
        "one key with two wrapped keys",
        Record(KEK, (AWS, AWS._replace(blob=b"x"))),
    )
    bad("trailing-byte", "after the KEK record", "one byte more", RECORD_BYTES + b"\0")
    bad("short-mac", "within the MAC", "one byte less", RECORD_BYTES[:-1])
    bad("no-mac", "within the MAC", "no MAC", RECORD_BYTES[:-32])
    bad(
        "too-large",
        "larger than",
        "more than kube-apiserver stores",
        Record(KEK, tuple(w._replace(blob=b"b" * 4096) for w in eight)),
    )

    forged("mac", "MAC", "the last bit of the MAC flipped", flip(RECORD_BYTES, -1))
    forged("time", "MAC", "another time", flip(RECORD_BYTES, 14))
    forged(
        "cluster",
        "MAC",
        "another cluster label with the MAC of the old one",
        RECORD_BYTES.replace(b"prod-eu-1", b"prod-eu-2"),
    )
    forged("blob", "MAC", "another wrapped key", RECORD_BYTES.replace(b"vault:v3:AAAA", b"vault:v3:AAAB"))
    forged(
        "role",
        "MAC",
        "an online member made a recovery member",
        RECORD_BYTES.replace(b"\x013\x01\0\x0d", b"\x013\x02\0\x0d"),
    )
    forged("wrap-removed", "MAC", "a member removed", Record(KEK, (AWS,)).encode()[:-32] + RECORD_BYTES[-32:])
    forged(
        "kek-id",
        "commits to",
        "the kek_id of another KEK",
        RECORD._replace(kek_id=derive(OTHER_KEK, "kek-id")).encode(),
    )
    forged(
        "by-another-kek",
        "MAC",
        "the right kek_id, signed with another KEK",
        Record(OTHER_KEK, (AWS,), kek_id=derive(KEK, "kek-id")).encode(),
    )
    forged("wrong-kek", "commits to", "a good record for which a remote returned another KEK", RECORD_BYTES, OTHER_KEK)
    forged("short-kek", "32 bytes", "a good record for which a remote returned 31 bytes", RECORD_BYTES, KEK[:31])
    forged("long-kek", "32 bytes", "a good record for which a remote returned 33 bytes", RECORD_BYTES, KEK + b"\0")
    forged("no-kek", "32 bytes", "a good record for which a remote returned nothing", RECORD_BYTES, b"")


def containers() -> None:
    def parsed(name: str, kind: str, body: bytes) -> None:
        vector(name, kind, "ok", "the example of the specification", body)

    def bad(name: str, kind: str, reason: str, comment: str, body: bytes) -> None:
        vector(name, kind, "malformed", comment, body, reason=reason)

    parsed("seed-example", "seed", SEALED)
    bad("seed-bad-empty", "seed", "not written by Keystead", "no bytes", b"")
    bad("seed-bad-magic", "seed", "not written by Keystead", "a record's magic", replace(SEALED, 0, b"KSK"))
    bad("seed-bad-format-version", "seed", "not written by Keystead", "format version 2", replace(SEALED, 3, b"\x02"))
    bad("seed-bad-suite", "seed", "cipher suite", "suite 2", replace(SEALED, 4, b"\x02"))
    bad("seed-bad-77-bytes", "seed", "78 to 1024", "no byte of ciphertext", SEALED[:61] + SEALED[-16:])
    bad("seed-bad-1025-bytes", "seed", "78 to 1024", "one byte too long", SEALED + bytes(1025 - 109))

    parsed("v1-cipher-example", "v1-cipher", CIPHER)
    bad("v1-cipher-bad-empty", "v1-cipher", "too short", "no bytes", b"")
    bad("v1-cipher-bad-magic", "v1-cipher", "not written by Keystead", "a bare seed", SEALED_V1)
    bad(
        "v1-cipher-bad-format-version", "v1-cipher", "not written by Keystead", "version 2", replace(CIPHER, 3, b"\x02")
    )
    bad(
        "v1-cipher-bad-key-id",
        "v1-cipher",
        "key_id",
        "a key_id of another form",
        v1_cipher("vault/3", RECORD_BYTES, SEALED_V1),
    )
    bad("v1-cipher-bad-key-id-bytes", "v1-cipher", "key_id", "a key_id that is not UTF-8", replace(CIPHER, 5, b"\xff"))
    bad(
        "v1-cipher-bad-record",
        "v1-cipher",
        "threshold",
        "a record that is malformed",
        CIPHER.replace(b"KSK\1\1\1", b"KSK\1\1\2"),
    )
    bad("v1-cipher-bad-no-seed", "v1-cipher", "not written by Keystead", "no seed", v1_cipher(NAME, RECORD_BYTES, b""))
    bad("v1-cipher-bad-cut", "v1-cipher", "within the KEK record", "cut within the record", CIPHER[:100])

    state = state_file(NAME, RECORD_BYTES)
    parsed("state-file-example", "state-file", state)
    bad("state-file-bad-empty", "state-file", "too short", "no bytes", b"")
    bad("state-file-bad-magic", "state-file", "not a state file", "a record alone", RECORD_BYTES)
    bad("state-file-bad-format-version", "state-file", "newer format", "version 2", replace(state, 3, b"\x02"))
    bad(
        "state-file-bad-key-id",
        "state-file",
        "does not belong",
        "the key_id of other members",
        state_file(FOREIGN_NAME, RECORD_BYTES),
    )
    bad(
        "state-file-bad-key-id-form",
        "state-file",
        "key_id",
        "an epoch with a leading zero",
        state_file(NAME.replace("e7", "e07"), RECORD_BYTES),
    )
    bad("state-file-bad-trailing-byte", "state-file", "after the state", "one byte more", state + b"\0")
    bad("state-file-bad-cut", "state-file", "within the KEK record", "one byte less", state[:-1])


def v2_requests() -> None:
    holds: dict[str, str | bytes] = {"kek": KEK, "record": RECORD_BYTES, "cluster": "prod-eu-1"}

    def good(name: str, comment: str, body: bytes, plaintext: bytes = SEED) -> None:
        vector(f"v2-{name}", "decrypt-v2", "ok", comment, body, plaintext=plaintext, **holds)

    def bad(name: str, reason: str, comment: str, body: bytes) -> None:
        vector(f"v2-bad-{name}", "decrypt-v2", "malformed", comment, body, reason=reason, **holds)

    def forged(name: str, reason: str, comment: str, body: bytes) -> None:
        vector(f"v2-forged-{name}", "decrypt-v2", "not-authentic", comment, body, reason=reason, **holds)

    example = decrypt_v2(SEALED, NAME, RECORD_BYTES)
    good("example", "the example of the specification", example)
    one = seal_seed(KEK, 2, NAME, b"\0", NONCE)
    good("one-byte", "the shortest plaintext", decrypt_v2(one, NAME, RECORD_BYTES), b"\0")
    most = seal_seed(KEK, 2, NAME, b"\xa5" * 947, NONCE)
    good("947-bytes", "the longest plaintext", decrypt_v2(most, NAME, RECORD_BYTES), b"\xa5" * 947)
    again = RECORD._replace(created=1_790_000_001, wraps=(AWS,)).encode()
    good("wrapped-again", "another record of the same KEK, with a good MAC", decrypt_v2(SEALED, NAME, again))
    old = "ks1.e1.pnyzcrwzeoywp4o3wy3azjerciomoy7e"
    good(
        "old-key-id",
        "an older key_id that the seed was sealed under",
        decrypt_v2(seal_seed(KEK, 2, old, SEED, NONCE), old, RECORD_BYTES),
    )
    good("unknown-fields", "fields of a later protocol", b"\x28\x01" + example + b"\x7a\x01x\x31" + bytes(8))
    good(
        "repeated-fields",
        "the last one of a repeated field counts",
        message((1, b"x"), (3, b"y"), annotation(b"z")) + example,
    )

    bad("empty", "annotation kek.keystead.dev is missing", "no bytes", b"")
    bad(
        "no-annotation", "annotation kek.keystead.dev is missing", "no record", message((1, SEALED), (3, NAME.encode()))
    )
    bad(
        "second-annotation",
        "does not write",
        "an annotation beside the record",
        example + message(annotation(b"x", b"a.example.com")),
    )
    bad(
        "other-annotation",
        "does not write",
        "the record under another name",
        message((1, SEALED), (3, NAME.encode()), annotation(RECORD_BYTES, b"kek.keystead.dev.")),
    )
    bad("empty-annotation", "too short", "an empty record", decrypt_v2(SEALED, NAME, b""))
    bad("no-ciphertext", "not written by Keystead", "no ciphertext", decrypt_v2(b"", NAME, RECORD_BYTES))
    bad(
        "foreign-ciphertext",
        "not written by Keystead",
        "a ciphertext of another plugin",
        decrypt_v2(b"vault:v1:" + bytes(60), NAME, RECORD_BYTES),
    )
    bad("v1-ciphertext", "not written by Keystead", "a whole v1 ciphertext", decrypt_v2(CIPHER, NAME, RECORD_BYTES))
    bad("short-ciphertext", "78 to 1024", "no byte of ciphertext", decrypt_v2(SEALED[:77], NAME, RECORD_BYTES))
    bad("no-key-id", "key_id", "no key_id", decrypt_v2(SEALED, "", RECORD_BYTES))
    for name, wrong in [
        ("foreign", "vault/transit/k8s/3"),
        ("epoch-0", NAME.replace("e7", "e0")),
        ("leading-zero", NAME.replace("e7", "e07")),
        ("plus-sign", NAME.replace("e7", "e+7")),
        ("epoch-too-large", NAME.replace("e7", "e4294967296")),
        ("upper-case", NAME.upper()),
        ("hash-of-31", NAME[:-1]),
        ("hash-of-33", NAME + "a"),
        ("not-base32", NAME[:-1] + "1"),
        ("newline", NAME + "\n"),
    ]:
        bad(f"key-id-{name}", "key_id", f"key_id {wrong!r}", decrypt_v2(SEALED, wrong, RECORD_BYTES))
    bad("record", "sorted", "a record that is malformed", decrypt_v2(SEALED, NAME, Record(KEK, (VAULT, AWS)).encode()))
    bad("cut", "ends too early", "the last byte is missing", example[:-1])
    bad("wire-type", "another type", "the ciphertext as a number", b"\x08\x01" + example)
    bad("group", "another type", "a group", example + b"\x2b\x2c")
    bad("field-0", "out of range", "field number 0", example + b"\x02\x00")
    bad("varint", "too long", "a length with a superfluous byte", example + b"\x2a\x81\x00x")
    bad("uid", "UTF-8", "a uid that is not UTF-8", example + b"\x12\x02\xc3\x28")
    bad("huge-length", "ends too early", "a field of 2^64 - 1 bytes", example + b"\x2a" + b"\xff" * 9 + b"\x01")

    forged(
        "ciphertext",
        "does not authenticate",
        "a bit of the ciphertext flipped",
        decrypt_v2(flip(SEALED, 61), NAME, RECORD_BYTES),
    )
    forged("tag", "does not authenticate", "a bit of the tag flipped", decrypt_v2(flip(SEALED, -1), NAME, RECORD_BYTES))
    forged(
        "nonce", "does not authenticate", "a bit of the nonce flipped", decrypt_v2(flip(SEALED, 37), NAME, RECORD_BYTES)
    )
    forged(
        "truncated", "does not authenticate", "the last byte is missing", decrypt_v2(SEALED[:-1], NAME, RECORD_BYTES)
    )
    forged("extended", "does not authenticate", "one byte more", decrypt_v2(SEALED + b"\0", NAME, RECORD_BYTES))
    forged(
        "epoch",
        "does not authenticate",
        "relabelled with another epoch, so that a key looks unused",
        decrypt_v2(SEALED, NAME.replace("e7", "e8"), RECORD_BYTES),
    )
    forged(
        "members",
        "does not authenticate",
        "relabelled with other members",
        decrypt_v2(SEALED, FOREIGN_NAME, RECORD_BYTES),
    )
    forged(
        "v1-seed", "does not authenticate", "a seed that was sealed for v1", decrypt_v2(SEALED_V1, NAME, RECORD_BYTES)
    )
    forged(
        "other-kek",
        "different local KEKs",
        "a seed of another KEK with our record",
        decrypt_v2(seal_seed(OTHER_KEK, 2, NAME, SEED, NONCE), NAME, RECORD_BYTES),
    )
    forged(
        "kek-id",
        "different local KEKs",
        "the kek_id in the seed changed",
        decrypt_v2(flip(SEALED, 5), NAME, RECORD_BYTES),
    )
    forged(
        "record-mac",
        "MAC",
        "a record with the live kek_id and a wrong MAC",
        decrypt_v2(SEALED, NAME, flip(RECORD_BYTES, -1)),
    )
    forged(
        "record-time",
        "MAC",
        "a record with the live kek_id and another time",
        decrypt_v2(SEALED, NAME, flip(RECORD_BYTES, 14)),
    )
    forged(
        "record-of-another-kek",
        "different local KEKs",
        "our seed with the record of another KEK",
        decrypt_v2(SEALED, NAME, OTHER_RECORD.encode()),
    )

    elsewhere = RECORD._replace(cluster=b"prod-us-1")
    strange = decrypt_v2(SEALED, NAME, elsewhere.encode())
    vector(
        "v2-cluster-not-accepted",
        "decrypt-v2",
        "cluster-not-accepted",
        "a record of another cluster, with a good MAC",
        strange,
        reason="acceptClusters",
        **holds,
    )
    strange = decrypt_v2(flip(SEALED, 5), NAME, flip(elsewhere.encode(), -1))
    vector(
        "v2-cluster-checked-first",
        "decrypt-v2",
        "cluster-not-accepted",
        "the cluster label is looked at before the MAC and the kek_id",
        strange,
        reason="acceptClusters",
        **holds,
    )


def v1_requests() -> None:
    holds: dict[str, str | bytes] = {"kek": KEK, "record": RECORD_BYTES, "cluster": "prod-eu-1"}

    def bad(name: str, reason: str, comment: str, body: bytes) -> None:
        vector(f"v1-bad-{name}", "decrypt-v1", "malformed", comment, body, reason=reason, **holds)

    def forged(name: str, reason: str, comment: str, cipher: bytes) -> None:
        vector(f"v1-forged-{name}", "decrypt-v1", "not-authentic", comment, decrypt_v1(cipher), reason=reason, **holds)

    vector(
        "v1-example",
        "decrypt-v1",
        "ok",
        "the example of the specification",
        decrypt_v1(CIPHER),
        plaintext=SEED,
        **holds,
    )
    bad("empty", "version", "no bytes", b"")
    bad("no-version", "version", "no version field", message((2, CIPHER)))
    bad("other-version", "version", "version v2", message((1, b"v2"), (2, CIPHER)))
    bad("no-cipher", "too short", "no ciphertext", message((1, b"v1beta1")))
    bad("v2-seed", "not written by Keystead", "a v2 ciphertext", decrypt_v1(SEALED))
    bad("cut", "not written by Keystead", "cut before the seed", decrypt_v1(CIPHER[:-109]))
    forged("tag", "does not authenticate", "a bit of the tag flipped", flip(CIPHER, -1))
    forged("trailing-byte", "does not authenticate", "one byte more", CIPHER + b"\0")
    forged("epoch", "does not authenticate", "relabelled with another epoch", CIPHER.replace(b"ks1.e7", b"ks1.e8"))
    forged(
        "v2-seed-inside",
        "does not authenticate",
        "a seed that was sealed for v2",
        v1_cipher(NAME, RECORD_BYTES, SEALED),
    )
    forged(
        "record-mac",
        "MAC",
        "a record with the live kek_id and a wrong MAC",
        v1_cipher(NAME, flip(RECORD_BYTES, -1), SEALED_V1),
    )
    forged(
        "record-of-another-kek",
        "different local KEKs",
        "our seed with the record of another KEK",
        v1_cipher(NAME, OTHER_RECORD.encode(), SEALED_V1),
    )
    elsewhere = v1_cipher(NAME, RECORD._replace(cluster=b"prod-us-1").encode(), SEALED_V1)
    vector(
        "v1-cluster-not-accepted",
        "decrypt-v1",
        "cluster-not-accepted",
        "a record of another cluster",
        decrypt_v1(elsewhere),
        reason="acceptClusters",
        **holds,
    )


def two_keys() -> None:
    """One ciphertext that the AEAD alone would open to two plaintexts, depending on which member was unwrapped."""
    seed = two_key_seed(KEK, OTHER_KEK, 2, NAME, NONCE)
    record, other = Record(KEK, (AWS, VAULT)), Record(OTHER_KEK, (AWS, VAULT))
    comment = "opens under two AEAD keys; refused for the second, whose KEK the record does not commit to"
    vector(
        "two-keys-second-unwrap",
        "record",
        "not-authentic",
        comment,
        record.encode(),
        kek=OTHER_KEK,
        reason="commits to",
    )
    comment = "opens under two AEAD keys; refused with the record of the second"
    body = decrypt_v2(seed, NAME, other.encode())
    vector(
        "two-keys-second-record",
        "decrypt-v2",
        "not-authentic",
        comment,
        body,
        kek=OTHER_KEK,
        record=other.encode(),
        cluster="prod-eu-1",
        reason="different local KEKs",
    )
    comment = "opens under two AEAD keys; refused with the header of the second, which is authenticated"
    body = decrypt_v2(replace(seed, 5, derive(OTHER_KEK, "kek-id")), NAME, other.encode())
    vector(
        "two-keys-second-header",
        "decrypt-v2",
        "not-authentic",
        comment,
        body,
        kek=OTHER_KEK,
        record=other.encode(),
        cluster="prod-eu-1",
        reason="does not authenticate",
    )


def encrypt_requests() -> None:
    holds: dict[str, str | bytes] = {"kek": KEK, "record": RECORD_BYTES, "cluster": "prod-eu-1", "key_id": NAME}
    for version in ("v1", "v2"):

        def plain(data: bytes, version: str = version) -> bytes:
            return message((1, data), (2, b"uid")) if version == "v2" else message((1, b"v1beta1"), (2, data))

        kind = f"encrypt-{version}"
        for size in (1, 4, 32, 947):
            vector(
                f"{kind}-{size}",
                kind,
                "ok",
                f"a plaintext of {size} bytes",
                plain(b"p" * size),
                plaintext=b"p" * size,
                **holds,
            )
        for size in (0, 948):
            vector(
                f"{kind}-bad-{size}",
                kind,
                "malformed",
                f"a plaintext of {size} bytes",
                plain(b"p" * size),
                reason="1 to 947",
                **holds,
            )
    vector(
        "encrypt-v2-bad-cut",
        "encrypt-v2",
        "malformed",
        "cut within the plaintext",
        message((1, SEED))[:-1],
        reason="ends too early",
        **holds,
    )
    vector(
        "encrypt-v1-bad-version",
        "encrypt-v1",
        "malformed",
        "version v1",
        message((1, b"v1"), (2, SEED)),
        reason="version",
        **holds,
    )
    vector(
        "encrypt-v1-bad-no-version",
        "encrypt-v1",
        "malformed",
        "no version field",
        message((2, SEED)),
        reason="version",
        **holds,
    )


for scenarios in (records, containers, v2_requests, v1_requests, two_keys, encrypt_requests):
    scenarios()

if __name__ == "__main__":
    here = Path(__file__).parent
    for name, content in VECTORS.items():
        (here / name).write_text(content)
    print(f"wrote {len(VECTORS)} vectors to {here}")
