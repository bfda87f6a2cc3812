"""What the tests of an endpoint share besides fakes."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Protocol

from keystead._core import ROLE_ONLINE, Kek, KekStore, Record, Wrap
from keystead.host.report import KeyReport
from keystead.host.target import Target
from keystead.provider import WrapContext
from support.fakes import CLUSTER, SCHEME, FakeProvider, Rig, members_of, target_of
from support.messages import Ciphertext, encrypt

DAY = 24 * 3600.0

Lines = list[MutableMapping[str, Any]]
"""What was logged."""


class Start(Protocol):
    """Make an endpoint, as a new process would, and let it do what is due unless `tend` is false."""

    def __call__(self, target: Target, *, state: Path | None = ..., tend: bool = ...) -> Rig: ...


def target(
    *keys: FakeProvider, old: tuple[FakeProvider, ...] = (), recovery: tuple[FakeProvider, ...] = (), **changes: Any
) -> Target:
    """A target of these active keys, those of stage decrypt, and recovery keys, each with a new guard."""
    return target_of(members_of(*keys, decrypt=old, recovery=recovery), **changes)


def events(logged: Lines, name: str) -> Lines:
    """The log lines of one event."""
    return [line for line in logged if line["event"] == name]


def kek_id(ciphertext: Ciphertext) -> bytes:
    """The local KEK that a ciphertext was sealed under."""
    return Record.parse(ciphertext.record).kek_id


def errors_of(rig: Rig) -> dict[str, str]:
    """Why, for each key of which an error is reported."""
    return {key.name: key.error for key in rig.endpoint.report().keys if key.error is not None}


def key_report(rig: Rig, name: str) -> KeyReport:
    """What is reported of one key."""
    (found,) = [key for key in rig.endpoint.report().keys if key.name == name]
    return found


def sealed_under_its_own_kek(key: FakeProvider) -> Ciphertext:
    """What a process wrote that made a KEK for this one seed."""
    kek = Kek.generate()
    blob, version = key.wrap(kek.reveal(), WrapContext(kek.kek_id, CLUSTER), "1", 0.0)
    record = kek.encode_record(1, CLUSTER, [Wrap(SCHEME, str(key.ref), version, ROLE_ONLINE, blob)])
    store = KekStore([CLUSTER], 1)
    store.admit_fresh(record, kek)
    return encrypt(store.write_state(record, record.key_id(1)))
