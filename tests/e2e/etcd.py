"""Reads what kube-apiserver left in etcd, byte by byte, past kube-apiserver."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .wire import KekRecord, Message

PAGE = 200
RECORD_ANNOTATION = "kek.keystead.dev"


class EtcdReader:
    """Asks etcd through the JSON gateway that its client port serves beside gRPC."""

    def __init__(self, url: str) -> None:
        self._url = url

    def values(self, prefix: str = "/registry/") -> dict[str, bytes]:
        """Return every key under `prefix` with its raw value, all as of one revision."""
        return dict(self._pages(prefix.encode()))

    def healthy(self) -> bool:
        with urllib.request.urlopen(f"{self._url}/health", timeout=2) as answer:
            return bool(json.load(answer)["health"] == "true")

    def _pages(self, prefix: bytes) -> Iterator[tuple[str, bytes]]:
        start, end, revision = prefix, prefix[:-1] + bytes([prefix[-1] + 1]), 0
        while True:
            page = self._range(start, end, revision)
            found = [(base64.b64decode(kv["key"]), base64.b64decode(kv.get("value", ""))) for kv in page.get("kvs", [])]
            for key, value in found:
                yield key.decode(), value
            if not page.get("more"):
                return
            start, revision = found[-1][0] + b"\0", int(page["header"]["revision"])

    def _range(self, start: bytes, end: bytes, revision: int) -> Any:
        question = {
            "key": base64.b64encode(start).decode(),
            "range_end": base64.b64encode(end).decode(),
            "limit": PAGE,
            "revision": revision,
        }
        request = urllib.request.Request(f"{self._url}/v3/kv/range", json.dumps(question).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@dataclass(frozen=True)
class Sealed:
    """One value that a KMS v2 provider encrypted."""

    provider: str
    key_id: str
    seed: bytes
    """The apiserver's seed as the plugin encrypted it. Objects of one seed carry the same bytes."""
    annotations: Mapping[str, bytes]

    @property
    def record(self) -> KekRecord:
        return KekRecord.parse(self.annotations[RECORD_ANNOTATION])


def parse_sealed(value: bytes) -> Sealed:
    """Parse a raw value; an assertion fails if a KMS v2 provider did not encrypt it."""
    match = re.match(rb"k8s:enc:kms:v2:([^:]+):", value)
    assert match, f"not encrypted by a KMS v2 provider: begins with {value[:24]!r}"
    stored = Message.parse(value[match.end() :])
    return Sealed(
        provider=match[1].decode(),
        key_id=stored.text(2),
        seed=stored.raw(3),
        annotations=stored.mapping(4),
    )


def readable_in(values: Iterable[bytes], marker: str) -> int:
    """Count the values in which `marker` can be read, as it is or inside of base64.

    Text within longer base64 starts at one of three offsets in a group of four characters. Of each of the three
    forms only the characters that depend on the marker alone are searched for.
    """
    plain = marker.encode()
    forms = [plain]
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + plain)
        forms.append(encoded[(offset * 8 + 5) // 6 : (offset + len(plain)) * 8 // 6])
    return sum(any(form in value for form in forms) for value in values)
