"""What a flight of the keyring is for: the KEK of a record, or a seed that another plugin wrapped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from keystead import errors
from keystead._core import KekStore, Record
from keystead.host.asking import ask
from keystead.host.guard import Guard
from keystead.host.members import Members
from keystead.provider import Foreign, WrapContext

log = structlog.get_logger("keystead.keyring")


class Errand(Protocol):
    """One thing to be had from a remote KMS."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of all that it was asked for with."""

    def log(self, endpoint: str, seconds: float, error: errors.KeysteadError | None) -> None:
        """Tell how it ended."""

    def able(self, members: Members) -> Sequence[Guard]:
        """The keys that may bring it, in the order in which to ask them."""

    async def run(self, members: Members, deadline: float) -> bytes | bytearray | None:
        """Have it brought; return what is not put into the store."""


class Unwrapping:
    """The local KEK of a record goes into the store."""

    def __init__(self, store: KekStore, record: Record) -> None:
        self._store = store
        self._record = record

    @property
    def digest(self) -> bytes:
        return self._record.digest

    def log(self, endpoint: str, seconds: float, error: errors.KeysteadError | None) -> None:
        log.info(
            "kek.unwrapped" if error is None else "kek.unwrap_failed",
            endpoint=endpoint,
            kek_id=self._record.kek_id.hex()[:16],
            seconds=seconds,
            error=str(error) if error is not None else None,
        )

    def able(self, members: Members) -> Sequence[Guard]:
        return list(members.for_record(self._record))

    async def run(self, members: Members, deadline: float) -> None:
        record = self._record
        if self._store.holds(record):
            return
        guards = self.able(members)
        if not guards:
            raise errors.NoConfiguredMember(
                "none of the keys of this record is a member of this endpoint: "
                + ", ".join(dict.fromkeys(f"{wrap.scheme} {wrap.ref}" for wrap in record.wraps))
                + "; add the key as a member with stage decrypt"
            )
        context = WrapContext(record.kek_id, record.cluster)

        def admit(guard: Guard, kek: bytes | bytearray) -> None:
            self._store.admit(record, kek)
            guard.unwrapped += 1

        await ask(guards, lambda guard: guard.start_unwrap(record, context, deadline), admit, deadline)


class Reading:
    """What another plugin wrapped is decrypted, for those who wait now. Nothing keeps it, as nothing did before."""

    def __init__(self, foreign: Foreign) -> None:
        self._foreign = foreign
        self.digest = _digest(foreign)

    def log(self, endpoint: str, seconds: float, error: errors.KeysteadError | None) -> None:
        """Nothing: with KMS v1 this is each object, and the metrics of the provider count it."""

    def able(self, members: Members) -> Sequence[Guard]:
        return list(members.for_foreign(self._foreign))

    async def run(self, members: Members, deadline: float) -> bytes | bytearray:
        guards = self.able(members)
        if not guards:
            raise errors.NoConfiguredMember("no key of this endpoint reads the ciphertexts of this plugin any more")
        foreign = self._foreign
        return await ask(guards, lambda guard: guard.start_read(foreign, deadline), lambda _guard, seed: seed, deadline)


def _digest(foreign: Foreign) -> bytes:
    parts = [foreign.api.encode(), foreign.ciphertext, foreign.key_id.encode()]
    for name, value in foreign.annotations:
        parts += [name.encode(), value]
    hashed = hashlib.sha256(b"foreign")
    for part in parts:
        hashed.update(len(part).to_bytes(4) + part)
    return hashed.digest()
