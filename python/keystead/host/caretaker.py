"""The thread that keeps an endpoint able to answer: it opens keys, brings a local KEK into use, and probes.

It alone changes the snapshot that Status and Encrypt answer from, and takes up a new configuration.
"""

from __future__ import annotations

import threading
import time

import structlog

from keystead import errors
from keystead._core import KekStore, WriteState
from keystead.host.clocks import Clocks
from keystead.host.custody import JUST_STARTED, Custody
from keystead.host.decide import online_versions
from keystead.host.health import State, healthz, state_of
from keystead.host.keyring import Keyring
from keystead.host.ledger import Ledger
from keystead.host.observer import Observer
from keystead.host.report import Report
from keystead.host.reporting import report_of
from keystead.host.snapshot import Snapshot
from keystead.host.state import StateDir
from keystead.host.target import Target
from keystead.host.verdict import combine
from keystead.host.watch import Watch

RETRY_INTERVAL = 5.0
"""Seconds between turns while something fails or is waited for."""

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
        self._clocks = clocks
        self._watch = Watch(name)
        self._watch.track(target.members)
        self._ledger = Ledger(name, state_dir, observer)
        self._custody = Custody(name, store, self._ledger, self._watch, observer, clocks)
        self._state = State.INIT
        self._since = clocks.monotonic()
        self.snapshot = self._take_snapshot()
        """What Status and Encrypt answer from now; replaced as a whole."""
        self._wake = threading.Event()
        self._stopping = False
        self._applied = threading.Lock()
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
        self._custody.unsafe = True
        self._wake.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        self._watch.close()

    def report(self) -> Report:
        """Say what there is to say, from any thread."""
        return report_of(
            self._name,
            self._target,
            self._state_now(),
            self._since,
            self.snapshot,
            self._custody,
            self._ledger,
            self._watch,
            self._clocks,
            keks=len(self._store),
            waiting=self._keyring.waiting,
        )

    def tend(self) -> bool:
        """Do what is due once; return whether all is well, so that the next turn may come late."""
        self._take_target()
        target, custody = self._target, self._custody
        if custody.unsafe:
            self._publish()
        elif custody.is_behind:
            self._load()
        settled = custody.settle(target)
        self._ledger.save()
        self._publish()
        # Last, for it waits for keys that are down, and those that only decrypt are not needed for what comes before.
        opened = self._watch.open(target.members, time.monotonic() + target.unwrap_timeout)
        self._watch.hear(target.members, self._clocks.monotonic())
        custody.drop_unusable(target)
        self._soak()
        if self._probe():
            self._zeroize()
            self._ledger.check()
            settled = custody.settle(target)
        self._ledger.save()
        self._publish()
        return opened and settled and self._ledger.saved and not self._watch.failing(target.members)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                calm = self.tend()
            except Exception:
                log.exception("endpoint.tend_failed", endpoint=self._name)
                calm = False
            self._wake.wait(self._target.probe_interval if calm else RETRY_INTERVAL)

    def _take_target(self) -> None:
        with self._applied:
            target, self._pending = self._pending, None
        if target is None:
            return
        self._target = target
        self._watch.track(target.members)
        self._custody.retarget(target)
        self._keyring.reconfigure(target.members, target.unwrap_timeout)

    def _load(self) -> None:
        # Status names the key_id before the remote has answered: an empty one would count as a fault of its own.
        if self._custody.problem == JUST_STARTED and self._ledger.load() is not None:
            self._custody.problem = "the local KEK on disk is being unwrapped"
            self._publish()
        self._custody.load(self._target)
        self._publish()

    def _soak(self) -> None:
        """Let keys grow old that only decrypt, and remember that for a process that is started to make one active."""
        members, staged, write = self._target.members, self._ledger.staged(), self._custody.write
        in_use = online_versions(write.record) if write is not None else {}
        self._watch.soak(members, in_use, staged, self._target.soak, self._clocks.monotonic())
        if members.refs() is not None:
            self._ledger.stage(self._watch.staged(members, staged))

    def _probe(self) -> bool:
        target, current = self._target, self._custody.current
        return self._watch.probe_due(
            target.members,
            target.cluster,
            current.record if current is not None else None,
            self._clocks.monotonic(),
            target.probe_interval,
            target.unwrap_timeout,
        )

    def _zeroize(self) -> None:
        """Wipe the KEKs once every key refuses, if that is wanted, and unwrap them again once one does not."""
        health = self._watch.health(self._target.members)
        denied = state_of(health, self._clocks.monotonic(), self._target.grace) is State.DENIED
        if self._custody.wiped and not denied:
            self._custody.wiped = False
            log.info("kek.granted", endpoint=self._name)
            self._load()
        elif denied and self._target.zeroize:
            if not self._custody.wiped and self._custody.write is not None:
                log.error("kek.wiped", endpoint=self._name, msg="every active key refuses; onRevoked is zeroize")
            self._custody.wipe()
            self._publish()
            self._store.retain([])

    def _publish(self) -> None:
        state = self._state_now()
        if state is not self._state:
            keys = self._watch.health(self._target.members)
            level = log.warning if state not in (State.OK, State.INIT) else log.info
            down = [str(key.error) for key in keys if not key.up]
            level("health.changed", endpoint=self._name, before=self._state.value, after=state.value, down=down)
            self._state, self._since = state, self._clocks.monotonic()
        self.snapshot = self._take_snapshot()

    def _state_now(self) -> State:
        custody = self._custody
        return state_of(
            self._watch.health(self._target.members),
            self._clocks.monotonic(),
            self._target.grace,
            ready=custody.write is not None or custody.wiped,
            safe=not custody.unsafe,
        )

    def _take_snapshot(self) -> Snapshot:
        custody, write, kept = self._custody, self._custody.write, self._ledger.kept
        keys, state = self._watch.health(self._target.members), self._state_now()
        text = healthz(state, keys, self._clocks.monotonic())
        if state is State.INIT:
            text = f"{text}: {custody.problem}"
        writing: WriteState | errors.KeysteadError
        if state is State.UNSAFE:
            writing = errors.Unsafe("self-test failed: what was sealed did not open; a new local KEK is being made")
        elif custody.wiped:
            refusal = combine([key.error for key in keys if key.error is not None])
            writing = type(refusal)(f"the local KEKs were wiped, for every active key refuses: {refusal}")
        elif write is None:
            writing = errors.NotReady(f"there is no local KEK to encrypt under yet: {custody.problem}")
        else:
            writing = write
        key_id = write.key_id if write is not None else kept.key_id if kept is not None else ""
        return Snapshot.of(writing, key_id, text, self._target.status_version)
