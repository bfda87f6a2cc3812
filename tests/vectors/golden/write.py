"""Write this release's golden files, once, before it is tagged: `cd tests && python -m vectors.golden.write`.

They hold what this version of Keystead writes, in the form of the other vectors. Every later version must open them,
so a file that exists is never written again.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import keystead
from keystead import _core
from vectors.reference import message, parse_message

MEMBERS = {
    "one-member": [
        _core.Wrap("aws-kms", "arn:aws:kms:eu-central-1:111122223333:key/k1", "", _core.ROLE_ONLINE, b"\1" * 184)
    ],
    "two-members": [
        _core.Wrap("gcp-kms", "projects/p/locations/l/keyRings/r/cryptoKeys/k", "12", _core.ROLE_ONLINE, b"\2" * 113),
        _core.Wrap("vault-transit", "dr/prod/transit/k8s", "3", _core.ROLE_ONLINE, b"vault:v3:" + b"A" * 80),
    ],
    "recovery-member": [
        _core.Wrap("local", "lab", "", _core.ROLE_ONLINE, b"\3" * 72),
        _core.Wrap("age-x25519", "age1qqqqqqqq", "", _core.ROLE_RECOVERY, b"age-encryption.org/v1\n" + b"\4" * 180),
    ],
}
CLUSTERS = {"one-member": "prod-eu-1", "two-members": "a" * 63, "recovery-member": ""}


def write(name: str, kind: str, comment: str, body: bytes, **fields: str) -> None:
    path = Path(__file__).parent / f"{keystead.__version__}-{name}"
    lines = ["expect: ok", f"kind: {kind}", *(f"{field}: {value}" for field, value in fields.items())]
    text = "\n".join([*lines, f"comment: {comment}", "", *textwrap.wrap(body.hex(), 96), ""])
    with path.open("x") as file:  # fails if it exists
        file.write(text)


def main() -> None:
    for epoch, (name, wraps) in zip((1, 42, 4_294_967_295), MEMBERS.items(), strict=True):
        kek, cluster = _core.Kek.generate(), CLUSTERS[name]
        record = kek.encode_record(1_790_000_000, cluster, wraps)
        store = _core.KekStore([cluster])
        store.admit_fresh(record, kek)
        key_id = record.key_id(epoch)
        state = store.write_state(record, key_id)
        holds = {"cluster": cluster, "kek": kek.reveal().hex(), "record": record.encoded.hex()}
        write(f"{name}-state-file", "state-file", f"epoch {epoch}", _core.StateFile(key_id, record).encoded)
        write(f"{name}-record", "record", f"epoch {epoch}", record.encoded, kek=kek.reveal().hex())
        for size in (1, 32, 947):
            plaintext = os.urandom(size)
            opened = holds | {"plaintext": plaintext.hex()}
            answer = dict(parse_message(state.encrypt_v2(message((1, plaintext)))))
            request = message((1, answer[1]), (2, b"uid"), (3, answer[2]), (4, answer[3]))
            write(f"{name}-v2-{size}", "decrypt-v2", f"{size} bytes, epoch {epoch}", request, **opened)
            answer = dict(parse_message(state.encrypt_v1(message((1, b"v1beta1"), (2, plaintext)))))
            request = message((1, b"v1beta1"), (2, answer[1]))
            write(f"{name}-v1-{size}", "decrypt-v1", f"{size} bytes, epoch {epoch}", request, **opened)


if __name__ == "__main__":
    main()
