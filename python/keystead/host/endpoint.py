"""One socket's worth of Keystead: what Status, Encrypt and Decrypt answer, and the thread that keeps them able to.

The RPC side reads one immutable `Snapshot` and the KEK store, and never calls a remote but through the keyring. The
other side is a single thread, the only one that changes the snapshot: it opens keys, loads or mints the local KEK,
probes, and applies a new configuration.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from keystead import errors
from keystead._core import KekStore, Record, StateFile, WriteState, encode_status, is_ping, key_id_epoch
from keystead.host.decide import Decision, Keep, Mint, Refuse, decide
from keystead.host.health import Health, State
from keystead.host.keyring import Keyring, fetch
from keystead.host.members import Members
from keystead.host.mint import mint, round_trip
from keystead.host.observer import Observer
from keystead.host.state import StateAhead, StateDir

ANSWER_BUDGET = 2.5
"""Seconds that a Decrypt waits at most: the API server's default timeout is 3 s."""
ANSWER_MARGIN = 0.3
"""Seconds left for the answer to travel."""
RETRY_INTERVAL = 5.0
"""Seconds between attempts while something fails."""
_HEALTHZ_SIZE = 400
_JUST_STARTED = "the plugin has just started"
_NOT_READY = "there is no local KEK to encrypt under yet: {reason}"

log = structlog.get_logger("keystead.endpoint")


@dataclass(frozen=True, slots=True)
class Target:
    """What the configuration asks of an endpoint."""

    cluster: str
    accept_clusters: tuple[str, ...]
    epoch: int
    members: Members
    status_version: str
    max_age: float
    unwrap_timeout: float
    grace: float
    probe_interval: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Status and Encrypt answer from; replaced as a whole."""

    writing: WriteState | errors.KeysteadError
    """What Encrypt uses, or why it refuses."""
    key_id: str
    healthz: str
    status: bytes
    """The encoded StatusResponse."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an endpoint tells about itself."""

    state: str
    healthz: str
    key_id: str
    refused: str | None
    """Why a rule keeps the configured keys from use."""
    unsaved: bool
    """Whether the record in use is not on disk."""
    down: Mapping[str, str]
    """Why, for each member that is down or could not be opened."""
    members: Mapping[str, bool]
    """Whether each member has been opened."""
    keks: int
    """Unwrapped KEKs in memory."""
    waiting: int
    """Decrypts that wait for a remote KMS."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time, passed in so that tests need not wait."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Endpoint:
    """One endpoint. `start` it once, then call the RPC methods from any thread."""

    def __init__(
        self, name: str, target: Target, state_path: Path | None, observer: Observer, clocks: Clocks | None = None
    ) -> None:
        self.name = name
        self._target = target
        self._observer = observer
        self._clocks = clocks or Clocks()
        self._store = KekStore(target.accept_clusters)
        self._keyring = Keyring(name, self._store, target.members, target.unwrap_timeout)
        self._state_dir = StateDir(state_path) if state_path is not None else None
        self._disk: StateFile | None = None
        self._unsaved: StateFile | None = None
        self._write: WriteState | None = None
        self._decision: Decision | None = None
        self._problem = _JUST_STARTED
        self._health = Health()
        self._health.track(guard.name for guard in target.members.active)
        self._unsafe = False
        self._last_probe = -float("inf")
        self._closed: dict[str, str] = {}
        self._snapshot = self._take_snapshot()
        self._wake = threading.Event()
        self._stopping = False
        self._applied = threading.Condition()
        self._pending: Target | None = None
        self._thread = threading.Thread(target=self._run, name=f"endpoint-{name}", daemon=True)

    # The RPC side.

    @property
    def snapshot(self) -> Snapshot:
        """What Status and Encrypt answer from now."""
        return self._snapshot

    def status(self) -> bytes:
        """Answer v2 Status: from memory, whatever the remote does."""
        return self._snapshot.status

    def encrypt_v2(self, request: bytes) -> bytes:
        """Answer a v2 EncryptRequest."""
        return self._encrypt(WriteState.encrypt_v2, request)

    def encrypt_v1(self, request: bytes) -> bytes:
        """Answer a v1 EncryptRequest; the health check's `ping` fails whenever Status would not be ok."""
        healthz = self._snapshot.healthz
        if healthz != "ok" and is_ping(request):
            raise errors.NotReady(healthz)
        return self._encrypt(WriteState.encrypt_v1, request)

    def decrypt_v2(self, request: bytes, remaining: Callable[[], float | None]) -> bytes:
        """Answer a v2 DecryptRequest. `remaining` tells the seconds that the caller will wait, if it is cold."""
        answer = self._store.decrypt_v2(request)
        return (
            answer if isinstance(answer, bytes) else self._decrypt_cold(KekStore.decrypt_v2, request, answer, remaining)
        )

    def decrypt_v1(self, request: bytes, remaining: Callable[[], float | None]) -> bytes:
        """Answer a v1 DecryptRequest."""
        answer = self._store.decrypt_v1(request)
        return (
            answer if isinstance(answer, bytes) else self._decrypt_cold(KekStore.decrypt_v1, request, answer, remaining)
        )

    def _encrypt(self, seal: Callable[[WriteState, bytes], bytes], request: bytes) -> bytes:
        writing = self._snapshot.writing
        if isinstance(writing, errors.KeysteadError):
            # Many threads raise this error, and raising writes into the object, so each raises a copy.
            raise type(writing)(*writing.args)
        try:
            return seal(writing, request)
        except errors.Unsafe:
            self._unsafe = True
            self._wake.set()
            raise

    def _decrypt_cold(
        self,
        open_seed: Callable[[KekStore, bytes], bytes | Record],
        request: bytes,
        record: Record,
        remaining: Callable[[], float | None],
    ) -> bytes:
        left = remaining()
        budget = ANSWER_BUDGET if left is None else min(left - ANSWER_MARGIN, ANSWER_BUDGET)
        started = time.monotonic()
        failure: errors.KeysteadError | None = None
        try:
            self._keyring.unwrap(record, max(0.0, budget))
        except errors.KeysteadError as exc:
            failure = exc
            raise
        finally:
            self._observer.cold(self.name, time.monotonic() - started, failure)
        answer = open_seed(self._store, request)
        if isinstance(answer, bytes):
            return answer
        # Only if thousands of other KEKs were admitted between the two calls.
        raise errors.Overloaded("the KEK of this ciphertext was displaced by others at once; try again")

    # The other side.

    def start(self) -> None:
        """Start the endpoint's thread."""
        self._thread.start()

    def apply(self, target: Target) -> None:
        """Ask for a new configuration; the thread takes it up at once."""
        with self._applied:
            self._pending = target
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread and start no more unwraps."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        self._keyring.close()

    def report(self) -> Report:
        """Facts for /readyz and metrics."""
        now = self._clocks.monotonic()
        snapshot = self._snapshot
        state = self._health.state(now, self._target.grace)
        return Report(
            state="unsafe" if self._unsafe else "init" if self._write is None else state.value,
            healthz=snapshot.healthz,
            key_id=snapshot.key_id,
            refused=self._decision.reason if isinstance(self._decision, Refuse) else None,
            unsaved=self._unsaved is not None,
            down={**self._health.down(), **self._closed},
            members={member.guard.name: member.guard.ref is not None for member in self._target.members.all},
            keks=len(self._store),
            waiting=self._keyring.waiting,
        )

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                calm = self.tend()
            except Exception:
                log.exception("endpoint.tend_failed", endpoint=self.name)
                calm = False
            self._wake.wait(self._target.probe_interval if calm else RETRY_INTERVAL)

    def tend(self) -> bool:
        """Do what is due once; return whether all is well, so that the next turn may come late."""
        self._take_target()
        target = self._target
        if self._unsafe:
            self._publish()
        elif self._is_behind():
            self._load(target, self._deadline())
        settled = self._settle(target, self._deadline())
        self._save()
        self._publish()
        # Last, for it waits for keys that are down, and those that only decrypt are not needed for what comes before.
        opened = self._open(target, self._deadline())
        self._probe(target)
        self._publish()
        return opened and settled and self._unsaved is None and not self._health.failing

    def _deadline(self) -> float:
        return time.monotonic() + self._target.unwrap_timeout

    def _take_target(self) -> None:
        with self._applied:
            target, self._pending = self._pending, None
        if target is None:
            return
        self._target = target
        self._accept_clusters()
        self._keyring.reconfigure(target.members, target.unwrap_timeout)
        self._health.track(guard.name for guard in target.members.active)
        self._last_probe = -float("inf")

    def _accept_clusters(self) -> None:
        """Accept what is configured, and what is in use while a change of the label is refused."""
        in_use = (self._write.record.cluster,) if self._write is not None else ()
        self._store.accept((*self._target.accept_clusters, *in_use))

    def _open(self, target: Target, deadline: float) -> bool:
        """Open what is not open; drop the KEKs of keys that are gone, so that a key removed too early shows now."""
        closed = {name: str(error) for name, error in target.members.open(deadline).items()}
        for name, reason in closed.items():
            if self._closed.get(name) != reason:
                log.warning("key.not_open", endpoint=self.name, key=name, error=reason)
        for name in self._closed.keys() - closed.keys():
            log.info("key.opened", endpoint=self.name, key=name)
        self._closed = closed
        refs = target.members.refs()
        dropped = self._store.retain(refs) if refs is not None else 0
        if dropped:
            log.warning(
                "kek.dropped", endpoint=self.name, count=dropped, msg="no configured key can unwrap them any more"
            )
        if self._write is not None and not self._store.holds(self._write.record):
            # What it sealed could not be opened again, so it seals nothing more.
            self._write = None
        return not closed

    def _is_behind(self) -> bool:
        """Whether no KEK is in use, or another process has left one of a higher epoch on disk."""
        write, kept = self._write, self._kept
        return write is None or (kept is not None and key_id_epoch(kept.key_id) > key_id_epoch(write.key_id))

    def _load(self, target: Target, deadline: float) -> None:
        """Bring the KEK on disk into use, from the last run or from another process."""
        if self._kept is None:
            self._disk = self._read_state()
        kept = self._kept
        if kept is None:
            return
        record, key_id = kept.record, kept.key_id
        # Status names the key_id before the remote has answered: an empty one would count as a fault of its own.
        if self._problem == _JUST_STARTED:
            self._problem = "the local KEK on disk is being unwrapped"
            self._publish()
        try:
            fetch(self._store, record, target.members, deadline)
            self._write = self._store.write_state(record, key_id)
        except (errors.NotAuthentic, errors.InvalidCiphertext) as exc:
            self._give_up(kept, target, exc)
            return
        except (errors.KeysteadError, KeyError) as exc:
            self._problem = f"the local KEK on disk cannot be unwrapped: {exc}"
            return
        self._accept_clusters()
        self._publish()
        log.info("kek.loaded", endpoint=self.name, key_id=key_id, kek_id=record.kek_id.hex()[:16])

    def _give_up(self, kept: StateFile, target: Target, error: errors.KeysteadError) -> None:
        """No key will ever open this record: put it aside, so that a new KEK is minted. The epoch may not fall."""
        self._problem = f"the local KEK on disk cannot be unwrapped: {error}"
        if self._state_dir is None or kept is not self._disk or target.epoch < key_id_epoch(kept.key_id):
            return
        moved_to = self._set_aside(self._state_dir)
        log.error("state.refused", endpoint=self.name, moved_to=moved_to, error=str(error))
        if moved_to is not None:
            self._disk = None

    def _read_state(self) -> StateFile | None:
        if self._state_dir is None:
            return None
        try:
            return self._state_dir.read()
        except errors.MalformedRequest as exc:
            moved_to = self._set_aside(self._state_dir)
            log.error("state.unreadable", endpoint=self.name, moved_to=moved_to, error=str(exc))
        except OSError as exc:
            log.error("state.unreadable", endpoint=self.name, error=f"{exc.strerror}: {exc.filename}")
        return None

    def _set_aside(self, state_dir: StateDir) -> str | None:
        try:
            return str(state_dir.set_aside())
        except OSError:
            return None

    def _settle(self, target: Target, deadline: float) -> bool:
        """Mint if that is due; return whether the endpoint stands where the configuration wants it."""
        current = self._current()
        try:
            decision = self._decide(target, current, deadline)
        except errors.ProviderError as exc:
            self._problem = str(exc)
            return False
        twins = target.members.twins()
        if twins is not None:
            decision = Refuse(twins)
        if self._unsafe and isinstance(decision, Keep):
            decision = Mint("a self-test failed")
        if decision != self._decision and isinstance(decision, Refuse):
            log.error("configuration.refused", endpoint=self.name, reason=decision.reason)
        self._decision = decision
        if isinstance(decision, Refuse):
            self._problem = decision.reason
        if not isinstance(decision, Mint):
            return self._write is not None and not isinstance(decision, Refuse)
        try:
            record, kek = mint(target.members, target.cluster, self._clocks.wall, deadline)
            self._store.admit_fresh(record, kek)
            write = self._store.write_state(record, record.key_id(target.epoch))
        except (errors.KeysteadError, KeyError) as exc:
            self._problem = str(exc)
            log.warning("kek.overdue", endpoint=self.name, reason=decision.reason, error=str(exc))
            return False
        return self._adopt(write, decision.reason)

    def _current(self) -> tuple[str, Record] | None:
        if self._write is not None and not self._is_behind():
            return self._write.key_id, self._write.record
        kept = self._kept
        return (kept.key_id, kept.record) if kept is not None else None

    @property
    def _kept(self) -> StateFile | None:
        """The state of the last run, or the one of this run."""
        return self._unsaved if self._unsaved is not None else self._disk

    def _decide(self, target: Target, current: tuple[str, Record] | None, deadline: float) -> Decision:
        versions: dict[tuple[str, str], str | None] = {}
        for guard in target.members.active:
            ref = guard.open(deadline)
            # Without a KEK in use a mint asks for the versions itself.
            versions[guard.scheme, ref] = guard.current_version(deadline) if current is not None else None
        now = self._clocks.wall()
        return decide(current, target.cluster, target.accept_clusters, target.epoch, versions, target.max_age, now)

    def _adopt(self, write: WriteState, reason: str) -> bool:
        """Persist, then use: in this order, so that a crash never leaves an answer whose record is nowhere."""
        self._unsaved = StateFile(write.key_id, write.record)
        self._save()
        if self._disk is not None and key_id_epoch(self._disk.key_id) > key_id_epoch(write.key_id):
            return False
        self._write, self._unsafe = write, False
        self._accept_clusters()
        self._publish()
        log.info("kek.minted", endpoint=self.name, reason=reason, key_id=write.key_id)
        self._observer.minted(self.name)
        return True

    def _save(self) -> None:
        """Write the state file if it is behind. A full or read-only disk does not stop the endpoint."""
        if self._unsaved is None:
            return
        if self._state_dir is None:
            self._disk, self._unsaved = self._unsaved, None
            return
        try:
            self._state_dir.write(self._unsaved)
        except StateAhead as exc:
            log.error("state.ahead", endpoint=self.name, on_disk=exc.key_id, msg="another process runs a higher epoch")
            self._disk, self._unsaved = self._read_state(), None
        except OSError as exc:
            log.error("state.persist_failed", endpoint=self.name, error=str(exc))
            self._observer.persisted(self.name, False)
        else:
            self._disk, self._unsaved = self._unsaved, None
            self._observer.persisted(self.name, True)

    def _probe(self, target: Target) -> None:
        """Wrap and unwrap a throwaway value under each active key when that is due."""
        now = self._clocks.monotonic()
        if now - self._last_probe < (RETRY_INTERVAL if self._health.failing else target.probe_interval):
            return
        self._last_probe = now
        before = self._health.state(now, target.grace)
        for guard in target.members.active:
            error: errors.KeysteadError | None = None
            try:
                round_trip(guard, target.cluster, time.monotonic() + target.unwrap_timeout)
            except (errors.ProviderError, errors.Unsafe) as exc:
                error = exc
            self._health.observe(guard.name, error, self._clocks.monotonic())
        after = self._health.state(self._clocks.monotonic(), target.grace)
        if after is not before:
            level = log.info if after is State.OK else log.warning
            level(
                "health.changed", endpoint=self.name, before=before.value, after=after.value, down=self._health.down()
            )

    def _publish(self) -> None:
        self._snapshot = self._take_snapshot()

    def _take_snapshot(self) -> Snapshot:
        target, write, kept = self._target, self._write, self._kept
        writing: WriteState | errors.KeysteadError
        if self._unsafe:
            healthz = "self-test failed"
            writing = errors.Unsafe("self-test failed: what was sealed did not open; a new local KEK is being made")
        elif write is None:
            healthz = f"starting: {self._problem}"
            writing = errors.NotReady(_NOT_READY.format(reason=self._problem))
        else:
            healthz = self._health.healthz(self._clocks.monotonic(), target.grace)
            writing = write
        key_id = write.key_id if write is not None else kept.key_id if kept is not None else ""
        healthz = healthz if len(healthz) <= _HEALTHZ_SIZE else healthz[: _HEALTHZ_SIZE - 1] + "…"
        return Snapshot(writing, key_id, healthz, encode_status(target.status_version, healthz, key_id))
