"""Looks after the keys of an endpoint: opens them, probes them, and keeps what that says of each.

Facts are frozen and replaced one by one, so a report reads them from any thread; everything else here is for the
endpoint's own.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from keystead._core import Record
from keystead.host.decide import Ref
from keystead.host.facts import Facts
from keystead.host.guard import Guard
from keystead.host.health import KeyHealth
from keystead.host.members import Member, Members
from keystead.host.probe import Outcome, probe
from keystead.host.stages import PROOF_LIFE
from keystead.host.verdict import bare

PROBE_SOON = 5.0
"""Seconds between probes of a key while it fails."""
_PROBES_AT_ONCE = 8

log = structlog.get_logger("keystead.endpoint")


class Watch:
    """The facts of one endpoint's keys."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._facts: dict[str, Facts] = {}
        self._pool = ThreadPoolExecutor(_PROBES_AT_ONCE, thread_name_prefix=f"probe-{endpoint}")

    def __getitem__(self, guard: Guard) -> Facts:
        facts = self._facts.get(guard.name, Facts())
        # A name may have been given to another key.
        return facts if guard.ref is None or facts.ref in (None, guard.ref) else Facts(health=facts.health)

    def health(self, members: Members) -> list[KeyHealth]:
        """The health of the active online keys."""
        return [self[guard].health for guard in members.active]

    def failing(self, members: Members) -> bool:
        """Whether a key is to be looked at soon."""
        return any(self[member.guard].health.failing or self[member.guard].refusals for member in members.online)

    def track(self, members: Members) -> None:
        """Watch exactly these keys, and probe them all the next time; what is known of those that stay is kept."""
        self._facts = {member.guard.name: replace(self[member.guard], due=-float("inf")) for member in members.all}

    def open(self, members: Members, deadline: float) -> bool:
        """Open what is not open, all at once; return whether everything is."""
        closed = members.open(deadline)
        for member in members.all:
            guard, facts = member.guard, self[member.guard]
            error = closed.get(guard.name)
            if error is not None and str(facts.closed) != str(error):
                log.warning("key.not_open", endpoint=self._endpoint, key=guard.name, error=str(error))
            elif error is None and facts.closed is not None:
                log.info("key.opened", endpoint=self._endpoint, key=guard.name)
            self._facts[guard.name] = replace(facts, ref=guard.ref or facts.ref, closed=bare(error) if error else None)
        return not closed

    def soak(
        self, members: Members, in_use: Collection[Ref], staged: Mapping[Ref, bool], soak: float, now: float
    ) -> None:
        """Let the time run of keys that decrypt here.

        `in_use` are those of the record, which need no soak, also not to come back after they have been retired.
        `staged` says of which keys an earlier process let the time run, and whether to the end.
        """
        for member in members.online:
            facts = self[member.guard]
            if facts.ref is None:
                continue
            pair = (member.guard.scheme, facts.ref)
            before, since = staged.get(pair), facts.staged_since
            if since is None and (not member.active or before is not None):
                since = now
            ended = since is not None and now - since >= soak
            soaked = facts.soaked or ended or before is True or pair in in_use
            self._facts[member.guard.name] = replace(facts, staged_since=since, soaked=soaked)

    def staged(self, members: Members, before: Mapping[Ref, bool]) -> dict[Ref, bool]:
        """Say which keys decrypt here without being in use, and whether for a whole soak, for the next process."""
        now = {}
        for member in members.online:
            facts = self[member.guard]
            pair = (member.guard.scheme, facts.ref or "")
            if facts.ref is not None and (not member.active or pair in before):
                now[pair] = facts.soaked
        return now

    def hear(self, members: Members, now: float) -> None:
        """Count what a key has unwrapped for Decrypts as a success: no probe proves more."""
        for member in members.online:
            facts, count = self[member.guard], member.guard.unwrapped
            if count > facts.unwrapped:
                facts = replace(facts, health=facts.health.after(None, now))
            self._facts[member.guard.name] = replace(facts, unwrapped=count)

    def probe_due(
        self, members: Members, cluster: str, record: Record | None, now: float, interval: float, timeout: float
    ) -> bool:
        """Try the keys whose time it is, all at once; return whether there were any."""
        due = [member for member in members.all if self[member.guard].due <= now]
        self.probe(due, cluster, record, now, timeout)
        for member in due:
            facts = self[member.guard]
            soon = facts.health.failing or facts.refusals > 0
            self._facts[member.guard.name] = replace(facts, due=now + (PROBE_SOON if soon else interval))
        return bool(due)

    def probe(self, members: Iterable[Member], cluster: str, record: Record | None, now: float, timeout: float) -> None:
        """Try these keys, all at once. Ends within `timeout` seconds whatever they do."""
        deadline = time.monotonic() + timeout
        running = [
            (member, self._pool.submit(_try, member, self[member.guard], cluster, record, deadline))
            for member in members
        ]
        for member, pending in running:
            outcome = pending.result()
            if outcome is not None:
                self._take(member, outcome, now, record)

    def prove(self, members: Iterable[Member], cluster: str, record: Record | None, now: float, timeout: float) -> None:
        """Try those of these keys whose last success is too old to count, unless they have just failed."""
        stale = [member for member in members if self._is_stale(self[member.guard], now)]
        self.probe(stale, cluster, record, now, timeout)

    def minted(self, members: Members, now: float) -> None:
        """Count a mint as a success of every active online key."""
        for guard in members.active:
            facts = self[guard]
            self._facts[guard.name] = replace(facts, health=facts.health.after(None, now), proven_at=now)

    def close(self) -> None:
        """Start no more probes."""
        self._pool.shutdown(wait=False)

    @staticmethod
    def _is_stale(facts: Facts, now: float) -> bool:
        fresh = facts.proven_at is not None and now - facts.proven_at <= PROOF_LIFE
        return not fresh and (not facts.health.failing or facts.due <= now)

    def _take(self, member: Member, outcome: Outcome, now: float, record: Record | None) -> None:
        name, before = member.guard.name, self[member.guard]
        after = before.after(outcome, now, active=member.active, record=record)
        if after.alarm is not None and len(after.lost) > len(before.lost):
            log.error("key.version_refused", endpoint=self._endpoint, key=name, error=after.alarm)
        elif before.alarm is not None and after.alarm is None:
            log.info("key.version_restored", endpoint=self._endpoint, key=name)
        self._facts[name] = after


def _try(member: Member, facts: Facts, cluster: str, record: Record | None, deadline: float) -> Outcome | None:
    outcome = None
    if member.online:
        closed = facts.closed
        outcome = Outcome(error=closed) if closed else probe(member.guard, facts.asked(cluster, record), deadline)
    if not member.active or not member.online:
        # No other call renews the credentials of a key that nobody mints with for months.
        member.guard.keep_alive(deadline)
    return outcome
