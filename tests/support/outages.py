"""Outages by the clock: a real endpoint over fake keys, and two API servers as far as they decide when writes stop.

`python -m support.outages`, in the directory of the tests, prints the table of docs/operate/outage.md.

What is modelled of kube-apiserver, as measured on 1.36 and 1.37: it asks for Status every 60 s, and every 10 s while
that fails. It writes under a seed that the plugin has encrypted, until 3 minutes after the start of the last good
Status. Status is good today if it has a valid key_id that is the seed's; with the fix that upstream has accepted for
Kubernetes issue 138950, `healthz` has to be `ok` as well. A Status with another key_id makes a new seed, which takes an
Encrypt.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import structlog

from keystead import errors
from keystead.host import caller as caller_module
from keystead.host.caretaker import RETRY_INTERVAL
from support.endpoints import sealed_under_its_own_kek, target
from support.fakes import FakeProvider, Rig, rig_of
from support.messages import SEED, Ciphertext, decrypt, encrypt, status

POLL, POLL_SOON, SEED_LIFE = 60, 10, 180
DURATIONS = {"10 s": 10, "10 min": 600, "1 h": 3600}
AFTER = 300
"""Seconds that are watched after an outage; all is well again before they end."""
HEAD = "| what happens | for | writes fail, today | with the fix | reads fail, KEK in use | KEK not in memory |"
SAMPLE = 10
"""Seconds between tries of what waits for a remote."""
AWAY = errors.Unavailable("no route to host")
DENIED = errors.KeyDisabled("pending deletion")


@dataclass
class ApiServer:
    """When one API server may write. `strict` is the one with the fix."""

    strict: bool
    key_id: str = ""
    good_until: float = -math.inf
    due: float = -math.inf

    def poll(self, rig: Rig, now: float) -> None:
        """Ask for Status if that is due, and for a new seed if the key_id calls for one."""
        if now < self.due:
            return
        answer = status(rig.endpoint.status())
        good = answer.key_id != "" and (answer.healthz == "ok" or not self.strict)
        if answer.key_id not in ("", self.key_id):
            try:
                self.key_id = encrypt(rig.endpoint).key_id
            except errors.KeysteadError:
                good = False
        if good and self.key_id:
            self.good_until = now + SEED_LIFE
        self.due = now + (POLL if good and answer.healthz == "ok" else POLL_SOON)

    def writes(self, now: float) -> bool:
        return now < self.good_until


class Row(NamedTuple):
    """Seconds in which something failed."""

    case: str
    outage: str
    writes_today: int
    writes_with_fix: int
    reads: int
    """Of seeds that the API server does not know yet, under the local KEK in use."""
    older_reads: int
    """The same under a local KEK that was not in memory."""


@dataclass
class Lab:
    """One node in an outage."""

    directory: Path
    keys: tuple[FakeProvider, ...]
    changes: dict[str, Any]
    now: int = 0
    turn: float = 0.0
    rig: Rig = field(init=False)

    def start(self) -> None:
        """Start the plugin, or start it anew."""
        before = self.rig if hasattr(self, "rig") else None
        self.rig = rig_of(target(*self.keys, **self.changes), self.directory / "main")
        self.rig.endpoint._keyring._clock = self.rig.monotonic
        if before is not None:
            self.rig.wall.now = before.wall.now
            before.endpoint.stop()
        self.tend()

    def tend(self) -> None:
        calm = self.rig.endpoint.tend()
        self.turn = self.now + (60.0 if calm else RETRY_INTERVAL)

    def second(self) -> None:
        """Let a second pass."""
        self.now += 1
        self.rig.monotonic.advance(1)
        self.rig.wall.advance(1)
        if self.now >= self.turn or self.rig.endpoint._caretaker._custody.unsafe:
            self.tend()


Event = Callable[[Lab], None]


@dataclass(frozen=True)
class Case:
    """What goes away, and what else happens at that moment."""

    name: str
    keys: int = 1
    away: int = 1
    error: errors.ProviderError = AWAY
    event: Event = lambda _lab: None
    changes: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    """Whether plugin and API server are new on this node."""


def _break(lab: Lab) -> None:
    lab.rig.endpoint._caretaker.distrust()


CASES = (
    Case("one of two keys is away", keys=2),
    Case("one of two keys is away, and the plugin restarts", keys=2, event=Lab.start),
    Case("every key is away"),
    Case("every key is away, with `health.grace: 5m`", changes={"grace": 300.0}),
    Case("every key is away, and the plugin restarts", event=Lab.start),
    Case("every key refuses, `onRevoked: keep`", error=DENIED),
    Case("every key refuses, `onRevoked: zeroize`", error=DENIED, changes={"zeroize": True}),
    Case("every key is away, and a self-test fails", event=_break),
    Case("one of two keys is away, and node and plugin are new", keys=2, fresh=True),
)


def measure(case: Case, outage: str) -> Row:
    """Run one outage."""
    with tempfile.TemporaryDirectory() as name, _no_second_attempts():
        keys = tuple(FakeProvider(letter) for letter in "ab"[: case.keys])
        lab = Lab(Path(name), keys, dict(case.changes))
        servers = [ApiServer(strict=False), ApiServer(strict=True)]
        unread = [sealed_under_its_own_kek(keys[0]) for _ in range(DURATIONS[outage] + AFTER)]
        current = unread.pop()
        if not case.fresh:
            lab.start()
            current = encrypt(lab.rig.endpoint)
            for _ in range(POLL - 1):
                lab.second()
                for server in servers:
                    server.poll(lab.rig, lab.now)
            assert all(server.writes(lab.now) for server in servers)
        for key in keys[len(keys) - case.away :]:
            key.fail(case.error)
        if case.fresh:
            lab.start()
        case.event(lab)
        failed = [0, 0, 0, 0]
        ends = lab.now + DURATIONS[outage]
        for _ in range(DURATIONS[outage] + AFTER):
            if lab.now == ends:
                for key in keys:
                    key.fail(None)
            for number, server in enumerate(servers):
                server.poll(lab.rig, lab.now)
                failed[number] += not server.writes(lab.now)
            if lab.now % SAMPLE == 0:
                failed[2] += SAMPLE * (not _reads(lab, current))
                failed[3] += SAMPLE * (not _reads(lab, unread[-1]))
                unread.pop()
            lab.second()
        assert all(server.writes(lab.now) for server in servers), "it heals by itself"
        assert _reads(lab, current)
        lab.rig.endpoint.stop()
        return Row(case.name, outage, *failed)


def _reads(lab: Lab, ciphertext: Ciphertext) -> bool:
    try:
        return decrypt(lab.rig.endpoint, ciphertext) == SEED
    except errors.KeysteadError:
        return False


@contextmanager
def _no_second_attempts() -> Iterator[None]:
    with mock.patch.object(caller_module, "RETRY_NEEDS", math.inf):
        yield


def rows() -> list[Row]:
    """All of the table."""
    return [measure(case, outage) for case, outage in itertools.product(CASES, DURATIONS)]


def table() -> str:
    """The table as docs/operate/outage.md has it."""
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows()]
    return "\n".join([HEAD, "|---|---|---|---|---|---|", *lines])


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.stdout.write(table() + "\n")
    sys.stdout.flush()
    os._exit(0)  # threads of the endpoints would be waited for
