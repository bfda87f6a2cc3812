"""One socket's worth of Keystead: what Status, Encrypt and Decrypt answer.

They read one immutable `Snapshot` and the KEK store, and never call a remote but through the keyring. What keeps both
as they should be is the `Caretaker`'s, in a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from keystead import errors
from keystead._core import KekStore, Record, WriteState, encode_decrypt, foreign_v1, foreign_v2, is_ping
from keystead.host.caretaker import Caretaker
from keystead.host.clocks import Clocks
from keystead.host.keyring import Keyring
from keystead.host.observer import Observer
from keystead.host.report import Report
from keystead.host.snapshot import Snapshot
from keystead.host.state import StateDir
from keystead.host.target import Target
from keystead.provider import Foreign

ANSWER_BUDGET = 2.5
"""Seconds that a Decrypt waits at most: the API server's default timeout is 3 s."""
ANSWER_MARGIN = 0.3
"""Seconds left for the answer to travel."""

T = TypeVar("T")


class Endpoint:
    """One endpoint. `start` it once, then call the RPC methods from any thread."""

    def __init__(
        self, name: str, target: Target, state_path: Path | None, observer: Observer, clocks: Clocks | None = None
    ) -> None:
        self.name = name
        self._observer = observer
        self._store = KekStore(target.accept_clusters)
        self._keyring = Keyring(name, self._store, target.members, target.unwrap_timeout)
        state_dir = StateDir(state_path) if state_path is not None else None
        self._caretaker = Caretaker(name, target, self._store, self._keyring, state_dir, observer, clocks or Clocks())

    @property
    def snapshot(self) -> Snapshot:
        """What Status and Encrypt answer from now."""
        return self._caretaker.snapshot

    def status(self) -> bytes:
        """Answer v2 Status: from memory, whatever the remote does."""
        return self._caretaker.snapshot.status

    def encrypt_v2(self, request: bytes) -> bytes:
        """Answer a v2 EncryptRequest."""
        return self._encrypt(WriteState.encrypt_v2, request)

    def encrypt_v1(self, request: bytes) -> bytes:
        """Answer a v1 EncryptRequest; the health check's `ping` fails whenever Status would not be ok."""
        healthz = self._caretaker.snapshot.healthz
        if healthz != "ok" and is_ping(request):
            raise errors.NotReady(healthz)
        return self._encrypt(WriteState.encrypt_v1, request)

    def decrypt_v2(self, request: bytes, remaining: Callable[[], float | None]) -> bytes:
        """Answer a v2 DecryptRequest. `remaining` tells the seconds that the caller will wait, if it is cold."""
        try:
            answer = self._store.decrypt_v2(request)
        except errors.MalformedRequest:
            foreign = self._foreign_v2(request)
            if foreign is None:
                raise
            return self._read(foreign, remaining)
        return (
            answer if isinstance(answer, bytes) else self._decrypt_cold(KekStore.decrypt_v2, request, answer, remaining)
        )

    def decrypt_v1(self, request: bytes, remaining: Callable[[], float | None]) -> bytes:
        """Answer a v1 DecryptRequest."""
        try:
            answer = self._store.decrypt_v1(request)
        except errors.MalformedRequest:
            foreign = self._foreign_v1(request)
            if foreign is None:
                raise
            return self._read(foreign, remaining)
        return (
            answer if isinstance(answer, bytes) else self._decrypt_cold(KekStore.decrypt_v1, request, answer, remaining)
        )

    def start(self) -> None:
        """Start the caretaker, which opens keys and brings a local KEK into use."""
        self._caretaker.start()

    def apply(self, target: Target) -> None:
        """Ask for a new configuration; the caretaker takes it up at once."""
        self._caretaker.apply(target)

    def tend(self) -> bool:
        """Do once what the caretaker's thread does, where no thread is wanted."""
        return self._caretaker.tend()

    def stop(self) -> None:
        """Stop the caretaker and start no more unwraps."""
        self._caretaker.stop()
        self._keyring.close()

    def report(self) -> Report:
        """Facts for /readyz, metrics and commands."""
        return self._caretaker.report()

    def _encrypt(self, seal: Callable[[WriteState, bytes], bytes], request: bytes) -> bytes:
        writing = self._caretaker.snapshot.writing
        if isinstance(writing, errors.KeysteadError):
            # Many threads raise this error, and raising writes into the object, so each raises a copy.
            raise type(writing)(*writing.args)
        try:
            return seal(writing, request)
        except errors.Unsafe:
            self._caretaker.distrust()
            raise

    def _decrypt_cold(
        self,
        open_seed: Callable[[KekStore, bytes], bytes | Record],
        request: bytes,
        record: Record,
        remaining: Callable[[], float | None],
    ) -> bytes:
        self._wait(partial(self._keyring.unwrap, record), remaining)
        answer = open_seed(self._store, request)
        if isinstance(answer, bytes):
            return answer
        # Only if thousands of other KEKs were admitted between the two calls.
        raise errors.Overloaded("the KEK of this ciphertext was displaced by others at once; try again")

    # What another plugin wrote: only what the core refuses comes here, so the calls above stay as quick as they are.

    def _foreign_v2(self, request: bytes) -> Foreign | None:
        parts = foreign_v2(request) if self._keyring.reads_any else None
        if parts is None:
            return None
        ciphertext, key_id, annotations = parts
        return self._recognised(Foreign("v2", ciphertext, key_id, tuple(annotations)))

    def _foreign_v1(self, request: bytes) -> Foreign | None:
        ciphertext = foreign_v1(request) if self._keyring.reads_any else None
        return self._recognised(Foreign("v1beta1", ciphertext)) if ciphertext is not None else None

    def _recognised(self, foreign: Foreign) -> Foreign | None:
        return foreign if self._keyring.reads(foreign) else None

    def _read(self, foreign: Foreign, remaining: Callable[[], float | None]) -> bytes:
        # A copy for each caller, since it is wiped.
        return encode_decrypt(bytearray(self._wait(partial(self._keyring.read, foreign), remaining)))

    def _wait(self, call: Callable[[float], T], remaining: Callable[[], float | None]) -> T:
        """Wait for a remote as long as the caller will."""
        left = remaining()
        budget = ANSWER_BUDGET if left is None else min(left - ANSWER_MARGIN, ANSWER_BUDGET)
        started = time.monotonic()
        failure: errors.KeysteadError | None = None
        try:
            return call(max(0.0, budget))
        except errors.KeysteadError as exc:
            failure = exc
            raise
        finally:
            self._observer.cold(self.name, time.monotonic() - started, failure)
