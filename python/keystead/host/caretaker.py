"""The thread that keeps an endpoint able to answer: it opens keys, brings a local KEK into use, and probes.

It alone changes the snapshot that Status and Encrypt answer from, and takes up a new configuration.
"""

from __future__ import annotations

import threading
import time

import structlog

from keystead import errors
from keystead._core import ROLE_ONLINE, KekStore, Record, StateFile, WriteState, key_id_epoch
from keystead.host.clocks import Clocks
from keystead.host.decide import Decision, Keep, Mint, Refuse, decide
from keystead.host.health import Health, State
from keystead.host.keyring import Keyring, fetch
from keystead.host.members import Member
from keystead.host.mint import mint, round_trip
from keystead.host.observer import Observer
from keystead.host.report import KeyReport, RecordReport, Report, WrapReport
from keystead.host.snapshot import Snapshot
from keystead.host.state import StateAhead, StateDir
from keystead.host.target import Target

RETRY_INTERVAL = 5.0
"""Seconds between attempts while something fails."""
_JUST_STARTED = "the plugin has just started"
_NOT_READY = "there is no local KEK to encrypt under yet: {reason}"

log = structlog.get_logger("keystead.endpoint")


class Caretaker:
    """What tends one endpoint. Everything but `apply`, `distrust`, `snapshot` and `report` is its own thread's."""

    def __init__(
        self,
        name: str,
        target: Target,
        store: KekStore,
        keyring: Keyring,
        state_dir: StateDir | None,
        observer: Observer,
        clocks: Clocks,
    ) -> None:
        self._name = name
        self._target = target
        self._store = store
        self._keyring = keyring
        self._state_dir = state_dir
        self._observer = observer
        self._clocks = clocks
        self._disk: StateFile | None = None
        self._unsaved: StateFile | None = None
        self._write: WriteState | None = None
        self._decision: Decision | None = None
        self._problem = _JUST_STARTED
        self._overdue: str | None = None
        self._health = Health()
        self._health.track(guard.name for guard in target.members.active)
        self._unsafe = False
        self._last_probe = -float("inf")
        self._closed: dict[str, str] = {}
        self._state = "init"
        self._state_since = clocks.monotonic()
        self.snapshot = self._take_snapshot()
        """What Status and Encrypt answer from now; replaced as a whole."""
        self._wake = threading.Event()
        self._stopping = False
        self._applied = threading.Condition()
        self._pending: Target | None = None
        self._thread = threading.Thread(target=self._run, name=f"endpoint-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def apply(self, target: Target) -> None:
        """Ask for a new configuration; the thread takes it up at once."""
        with self._applied:
            self._pending = target
        self._wake.set()

    def distrust(self) -> None:
        """Say that what was sealed did not open: nothing is sealed any more until a new KEK has been made."""
        self._unsafe = True
        self._wake.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def report(self) -> Report:
        """Say what there is to say, from any thread."""
        snapshot, target = self.snapshot, self._target
        return Report(
            name=self._name,
            cluster=target.cluster,
            epoch=target.epoch,
            state=self._state_now(),
            since=self._clocks.unix(self._state_since),
            healthz=snapshot.healthz,
            key_id=snapshot.key_id,
            refused=self._decision.reason if isinstance(self._decision, Refuse) else None,
            activation_unproven=False,
            overdue=self._overdue,
            record=self._record_report(),
            keys=tuple(self._key_report(member) for member in target.members.all),
            keks=len(self._store),
            waiting=self._keyring.waiting,
        )

    def _record_report(self) -> RecordReport | None:
        write, kept = self._write, self._kept
        if write is not None:
            key_id, record, uses = write.key_id, write.record, write.uses
        elif kept is not None:
            key_id, record, uses = kept.key_id, kept.record, 0
        else:
            return None
        wraps = tuple(
            WrapReport(wrap.scheme, wrap.ref, wrap.version, "online" if wrap.role == ROLE_ONLINE else "recovery")
            for wrap in record.wraps
        )
        persisted = self._unsaved is None if self._state_dir is not None else None
        return RecordReport(record.kek_id.hex(), key_id, record.created, uses, persisted, wraps)

    def _key_report(self, member: Member) -> KeyReport:
        guard = member.guard
        error = {**self._health.down(), **self._closed}.get(guard.name)
        current = self._current()
        wraps = current[1].wraps if current is not None else ()
        expiry = guard.credential_expiry
        return KeyReport(
            name=guard.name,
            provider=guard.scheme,
            ref=guard.ref,
            stage="active" if member.active else "decrypt",
            role="online",
            up=error is None and guard.ref is not None,
            since=None,
            error=error,
            version=next(
                (wrap.version for wrap in wraps if (wrap.scheme, wrap.ref) == (guard.scheme, guard.ref)), None
            ),
            observed_version=None,
            proven=False,
            proven_at=None,
            last_success=None,
            staged_since=None,
            soak_left=0.0,
            credential_expiry=expiry,
        )

    def _state_now(self) -> str:
        if self._unsafe:
            return "unsafe"
        if self._write is None:
            return "init"
        return self._health.state(self._clocks.monotonic(), self._target.grace).value

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                calm = self.tend()
            except Exception:
                log.exception("endpoint.tend_failed", endpoint=self._name)
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
                log.warning("key.not_open", endpoint=self._name, key=name, error=reason)
        for name in self._closed.keys() - closed.keys():
            log.info("key.opened", endpoint=self._name, key=name)
        self._closed = closed
        refs = target.members.refs()
        dropped = self._store.retain(refs) if refs is not None else 0
        if dropped:
            log.warning(
                "kek.dropped", endpoint=self._name, count=dropped, msg="no configured key can unwrap them any more"
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
        log.info("kek.loaded", endpoint=self._name, key_id=key_id, kek_id=record.kek_id.hex()[:16])

    def _give_up(self, kept: StateFile, target: Target, error: errors.KeysteadError) -> None:
        """No key will ever open this record: put it aside, so that a new KEK is minted. The epoch may not fall."""
        self._problem = f"the local KEK on disk cannot be unwrapped: {error}"
        if self._state_dir is None or kept is not self._disk or target.epoch < key_id_epoch(kept.key_id):
            return
        moved_to = self._set_aside(self._state_dir)
        log.error("state.refused", endpoint=self._name, moved_to=moved_to, error=str(error))
        if moved_to is not None:
            self._disk = None

    def _read_state(self) -> StateFile | None:
        if self._state_dir is None:
            return None
        try:
            return self._state_dir.read()
        except errors.MalformedRequest as exc:
            moved_to = self._set_aside(self._state_dir)
            log.error("state.unreadable", endpoint=self._name, moved_to=moved_to, error=str(exc))
        except OSError as exc:
            log.error("state.unreadable", endpoint=self._name, error=f"{exc.strerror}: {exc.filename}")
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
            log.error("configuration.refused", endpoint=self._name, reason=decision.reason)
        self._decision = decision
        if isinstance(decision, Refuse):
            self._problem = decision.reason
        if not isinstance(decision, Mint):
            self._overdue = None
            return self._write is not None and not isinstance(decision, Refuse)
        try:
            record, kek = mint(target.members, target.cluster, self._clocks.wall, deadline)
            self._store.admit_fresh(record, kek)
            write = self._store.write_state(record, record.key_id(target.epoch))
        except (errors.KeysteadError, KeyError) as exc:
            self._problem = str(exc)
            self._overdue = f"{decision.reason}: {exc}" if self._write is not None else None
            log.warning("kek.overdue", endpoint=self._name, reason=decision.reason, error=str(exc))
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
        self._write, self._unsafe, self._overdue = write, False, None
        self._accept_clusters()
        self._publish()
        log.info("kek.minted", endpoint=self._name, reason=reason, key_id=write.key_id)
        self._observer.minted(self._name)
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
            log.error("state.ahead", endpoint=self._name, on_disk=exc.key_id, msg="another process runs a higher epoch")
            self._disk, self._unsaved = self._read_state(), None
        except OSError as exc:
            log.error("state.persist_failed", endpoint=self._name, error=str(exc))
            self._observer.persisted(self._name, False)
        else:
            self._disk, self._unsaved = self._unsaved, None
            self._observer.persisted(self._name, True)

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
        for member in target.members.all:
            if not member.active:
                member.guard.keep_alive(time.monotonic() + target.unwrap_timeout)
        after = self._health.state(self._clocks.monotonic(), target.grace)
        if after is not before:
            level = log.info if after is State.OK else log.warning
            level(
                "health.changed", endpoint=self._name, before=before.value, after=after.value, down=self._health.down()
            )

    def _publish(self) -> None:
        self.snapshot = self._take_snapshot()
        state = self._state_now()
        if state != self._state:
            self._state, self._state_since = state, self._clocks.monotonic()

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
        return Snapshot.of(writing, key_id, healthz, target.status_version)
