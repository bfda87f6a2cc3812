"""The local KEK that an endpoint encrypts under: brings it into use, replaces it when that is due, wipes it.

The order is always: wrap under all, unwrap through each, write to disk, use. So whatever Encrypt has answered can be
decrypted again, also after a crash at any moment.
"""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from keystead import errors
from keystead._core import KekStore, StateFile, WriteState, key_id_epoch
from keystead.host.assess import may_fit, versions_to_wrap_under, wanted_of
from keystead.host.clocks import Clocks
from keystead.host.decide import (
    Current,
    Decision,
    Keep,
    Mint,
    Refuse,
    Wanted,
    decide,
    misfit,
    online_versions,
    went_back,
)
from keystead.host.keyring import fetch
from keystead.host.ledger import Ledger, read_record_file
from keystead.host.mint import mint
from keystead.host.observer import Observer
from keystead.host.target import Target
from keystead.host.watch import Watch

JUST_STARTED = "the plugin has just started"
RETRY_FIRST, RETRY_LAST = 5.0, 80.0
"""Seconds between attempts to replace a KEK: the first pause, and the one that its doubling ends at."""

log = structlog.get_logger("keystead.endpoint")


class Custody:
    """What is in use and why. Its methods are for the endpoint's own thread; others may read the attributes."""

    def __init__(
        self, endpoint: str, store: KekStore, ledger: Ledger, watch: Watch, observer: Observer, clocks: Clocks
    ) -> None:
        self._endpoint = endpoint
        self._store = store
        self._ledger = ledger
        self._watch = watch
        self._observer = observer
        self._clocks = clocks
        self.write: WriteState | None = None
        self.problem = JUST_STARTED
        """Why nothing is in use, if so."""
        self.refused: str | None = None
        """Why a rule keeps the configured keys from use."""
        self.overdue: str | None = None
        """Why what should have been replaced is still in use."""
        self.unproven = False
        """Whether a key became active that this node never had as `decrypt`."""
        self.unsafe = False
        """Whether what was sealed did not open."""
        self.wiped = False
        """Whether the KEKs were wiped, for every active key refuses."""
        self._decision: Decision | None = None
        self._since = 0.0
        self._pause = RETRY_FIRST
        self._retry_at = -float("inf")

    @property
    def current(self) -> StateFile | None:
        """What is in use, or what is on disk if that is ahead or nothing is in use."""
        if self.write is not None and not self.is_behind:
            return StateFile(self.write.key_id, self.write.record)
        return self._ledger.kept

    @property
    def is_behind(self) -> bool:
        """Whether no KEK is in use, or another process has left one of a higher epoch on disk."""
        write, kept = self.write, self._ledger.kept
        return write is None or (kept is not None and key_id_epoch(kept.key_id) > key_id_epoch(write.key_id))

    def retarget(self, target: Target) -> None:
        """Take up a new configuration."""
        self._pause, self._retry_at = RETRY_FIRST, -float("inf")
        self._accept_clusters(target)

    def load(self, target: Target) -> None:
        """Bring the KEK on disk into use, from the last run, from another process, or from another node's file."""
        kept = self._ledger.load()
        if kept is None or self.wiped:
            return
        try:
            self._use(self._fetched(kept, target), target)
        except (errors.NotAuthentic, errors.InvalidCiphertext) as exc:
            self.problem = f"the local KEK on disk cannot be unwrapped: {exc}"
            # The epoch may not fall, whatever has become of the record.
            if target.epoch >= key_id_epoch(kept.key_id):
                self._ledger.give_up(kept, exc)
            return
        except (errors.KeysteadError, KeyError) as exc:
            self.problem = self._with_ways_out(str(exc), target)
            return
        log.info("kek.loaded", endpoint=self._endpoint, key_id=kept.key_id, kek_id=kept.record.kek_id.hex()[:16])

    def settle(self, target: Target) -> bool:
        """Replace what is in use if that is due; return whether all stands as the configuration wants it."""
        if self.wiped:
            return False
        current = self.current
        try:
            wanted = self._wanted(target, current)
        except errors.ProviderError as exc:
            if current is None and self._begin_with_placed(target):
                return False
            writes = self.write is not None and current is not None and key_id_epoch(current.key_id) != target.epoch
            self._postpone(f"epoch {target.epoch} is asked for", str(exc), target, writes=writes)
            return False
        decision, offered = self._decide(target, wanted, current), None
        if target.record_file is not None and not isinstance(decision, Refuse):
            try:
                offered = read_record_file(target.record_file)
                decision = self._compare(target.record_file, offered, wanted, current, decision)
            except errors.ConfigError as exc:
                decision = Refuse(str(exc), rule="recordFile")
        self._note(decision)
        if isinstance(decision, Mint):
            return self._replace(target, wanted, current, decision, offered)
        self.overdue = None
        return self.write is not None and not isinstance(decision, Refuse)

    def wipe(self) -> None:
        """Drop every KEK, wiping its memory, until a key is granted again."""
        self.write, self.wiped = None, True

    def drop_unusable(self, target: Target) -> None:
        """Drop the KEKs of keys that are gone, so that a key that was removed too early shows now."""
        refs = target.members.refs()
        dropped = self._store.retain(refs) if refs is not None else 0
        if dropped:
            log.warning(
                "kek.dropped", endpoint=self._endpoint, count=dropped, msg="no configured key can unwrap them any more"
            )
        if self.write is not None and not self._store.holds(self.write.record):
            # What it sealed could not be opened again, so it seals nothing more.
            self.write = None

    def _seen(self, current: StateFile | None, target: Target) -> Current | None:
        if current is None:
            return None
        record = current.record
        in_use = self.write is not None and self.write.record == record
        # The wall clock may jump, also to before the KEK was made; the other one knows how long it has been here.
        age = self._clocks.wall() - record.created
        if in_use:
            age = max(age, self._clocks.monotonic() - self._since)
        refs = target.members.refs()
        usable = refs is None or any((wrap.scheme, wrap.ref) in refs for wrap in record.wraps)
        return Current(current.key_id, record, age, self.write.uses if in_use and self.write else 0, usable)

    def _wanted(self, target: Target, current: StateFile | None) -> Wanted:
        now, deadline = self._clocks.monotonic(), time.monotonic() + target.unwrap_timeout
        wanted = wanted_of(target, current, self._watch, now, deadline)
        if current is None or target.epoch <= key_id_epoch(current.key_id):
            return wanted
        in_use = online_versions(current.record)
        new = [
            member
            for member in target.members.online
            if member.active and (member.guard.scheme, member.guard.ref) not in in_use
        ]
        self._watch.prove(new, target.cluster, current.record, now, target.unwrap_timeout)
        return wanted_of(target, current, self._watch, now, deadline)

    def _decide(self, target: Target, wanted: Wanted, current: StateFile | None) -> Decision:
        twins = target.members.twins()
        if twins is not None:
            return Refuse(twins, rule="twins")
        decision = decide(self._seen(current, target), wanted, self._clocks.wall())
        return Mint("a self-test failed") if self.unsafe and isinstance(decision, Keep) else decision

    def _compare(
        self, path: Path, offered: StateFile, wanted: Wanted, current: StateFile | None, decision: Decision
    ) -> Decision:
        """Decide about a record that an operator placed: it takes the place of a mint, and obeys the same rules."""
        if current is not None and offered.encoded == current.encoded:
            return decision
        epoch = key_id_epoch(offered.key_id)
        if epoch != wanted.epoch:
            return Refuse(
                f"recordFile {path} was made for epoch {epoch}, and epoch is {wanted.epoch}: place one of that epoch",
                rule="recordFile",
            )
        unfit = misfit(offered.key_id, offered.record, wanted)
        if unfit is None and current is not None and epoch == key_id_epoch(current.key_id):
            back = went_back(current.record, offered.record)
            unfit = Refuse(back) if back is not None else None
        if unfit is not None:
            return Refuse(f"recordFile {path} does not belong to this configuration: {unfit.reason}", rule="recordFile")
        return decision if isinstance(decision, Mint) else Mint("another recordFile was placed")

    def _note(self, decision: Decision) -> None:
        if isinstance(decision, Refuse):
            if decision != self._decision:
                log.error("configuration.refused", endpoint=self._endpoint, reason=decision.reason)
            self.problem = decision.reason
        self.refused = decision.reason if isinstance(decision, Refuse) else None
        self._decision = decision

    def _replace(
        self, target: Target, wanted: Wanted, current: StateFile | None, decision: Mint, offered: StateFile | None
    ) -> bool:
        """Mint, or take what the operator placed."""
        now = self._clocks.monotonic()
        writes = self.write is not None and not self.unsafe
        down = self._down(target) if writes and target.record_file is None else None
        if down is not None:
            # All keys are needed, so the others are not troubled for nothing.
            self._postpone(decision.reason, down, target, writes=writes)
            return False
        if writes and now < self._retry_at:
            return False
        try:
            if target.record_file is not None:
                write = self._taken(target, current, offered)
            else:
                write = self._minted(target, wanted, current)
        except (errors.KeysteadError, KeyError) as exc:
            self._postpone(decision.reason, str(exc), target, writes=writes)
            self._retry_at = now + self._pause
            self._pause = min(2 * self._pause, RETRY_LAST)
            return False
        self._pause, self._retry_at, self.overdue = RETRY_FIRST, now, None
        if not self._ledger.keep(StateFile(write.key_id, write.record)):
            return False
        if current is None or key_id_epoch(current.key_id) != target.epoch:
            self.unproven = decision.unproven
        self._use(write, target)
        log.info("kek.minted", endpoint=self._endpoint, reason=decision.reason, key_id=write.key_id)
        self._observer.minted(self._endpoint)
        return True

    def _postpone(self, reason: str, error: str, target: Target, *, writes: bool) -> None:
        problem, overdue = self._with_ways_out(error, target), f"{reason}: {error}" if writes else None
        if (problem, overdue) != (self.problem, self.overdue):
            log.warning("kek.overdue", endpoint=self._endpoint, reason=reason, error=error)
        self.problem, self.overdue = problem, overdue

    def _minted(self, target: Target, wanted: Wanted, current: StateFile | None) -> WriteState:
        deadline = time.monotonic() + target.unwrap_timeout
        versions = versions_to_wrap_under(target, wanted, self._watch)
        record, kek = mint(target.members, target.cluster, versions, self._clocks.wall, deadline)
        if current is not None and key_id_epoch(current.key_id) == target.epoch:
            back = went_back(current.record, record)
            if back is not None:
                raise errors.Misbehaved(back)
        self._watch.minted(target.members, self._clocks.monotonic())
        self._store.admit_fresh(record, kek)
        return self._store.write_state(record, record.key_id(target.epoch))

    def _taken(self, target: Target, current: StateFile | None, offered: StateFile | None) -> WriteState:
        if offered is None or (current is not None and offered.encoded == current.encoded):
            raise errors.ConfigError(f"place a new record in {target.record_file}")
        return self._fetched(offered, target)

    def _begin_with_placed(self, target: Target) -> bool:
        """Use the record that an operator placed before every key is open, on a node that has none.

        One of its keys is enough to unwrap it, as with another node's file in the state directory. It must fit the
        keys as far as those tell that are open; it is compared with all of them once they are.
        """
        if target.record_file is None:
            return False
        try:
            offered = read_record_file(target.record_file)
            if not may_fit(offered, target):
                return False
            write = self._fetched(offered, target)
        except (errors.KeysteadError, KeyError):
            return False
        if not self._ledger.keep(offered):
            return False
        self.unproven = target.epoch > 1
        self._use(write, target)
        log.info("kek.placed", endpoint=self._endpoint, key_id=offered.key_id, file=str(target.record_file))
        return True

    def _fetched(self, state: StateFile, target: Target) -> WriteState:
        fetch(self._store, state.record, target.members, time.monotonic() + target.unwrap_timeout)
        return self._store.write_state(state.record, state.key_id)

    def _use(self, write: WriteState, target: Target) -> None:
        if self.write is None or self.write.record != write.record:
            self._since = self._clocks.monotonic()
        self.write, self.unsafe = write, False
        self._accept_clusters(target)

    def _down(self, target: Target) -> str | None:
        down = [guard.name for guard in target.members.active if not self._watch[guard].health.up]
        return f"key {', '.join(down)} is down" if down else None

    def _accept_clusters(self, target: Target) -> None:
        """Accept what is configured, and what is in use while a change of the label is refused."""
        in_use = (self.write.record.cluster,) if self.write is not None else ()
        self._store.accept((*target.accept_clusters, *in_use))

    def _with_ways_out(self, problem: str, target: Target) -> str:
        """Add what an operator can do about a node that has no KEK in use."""
        kept = self._ledger.kept
        if kept is not None:
            able = [*target.members.for_record(kept.record)]
            if self.write is not None or not able:
                return problem
            if key_id_epoch(kept.key_id) == target.epoch:
                # Those of stage decrypt that are not open yet are not in it, for the active ones have not changed.
                able = [guard for guard in able if guard in target.members.active]
            # First, for the remote's own words may fill what Status has room for.
            way_out = f"mend {' or '.join(f'key {guard.name}' for guard in able)}, and all goes on by itself"
            return f"the local KEK on disk is to be unwrapped: {way_out}: {problem}"
        if target.record_file is not None:
            return problem
        path = self._ledger.path
        copy = f", or a copy of another node's file in {path}" if path is not None else ""
        return f"{problem}; a node without a record needs every active key once{copy}"
