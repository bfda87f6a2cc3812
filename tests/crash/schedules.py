"""Random schedules of death: `python -m crash.schedules ROOT COUNT SEED`, in the directory of the tests.

A schedule is a few lives of one plugin over one state directory. Each life changes what it writes under again and
again, by another epoch or another version of its key, while a client asks for Encrypt without a pause. It ends by
SIGKILL: at a random moment, as a random system call on files begins, or in the middle of a write. Then one more life,
which nobody kills, has to decrypt everything that any of them has answered.

Each life is a child of one single-threaded process, for a Python of its own would take most of a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import select
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from keystead import errors
from keystead._core import Record, key_id_epoch
from keystead.host.state import StateDir
from support.fakes import FakeProvider, members_of, rig_of, target_of
from support.killed import TORN, die_at
from support.messages import SEED, Ciphertext, decrypt, encrypt

CHANGES = 6
"""Changes of epoch or version in one life."""
MOST_LIVES = 3
LONGEST = 0.2
"""Seconds of a life that a random moment ends, at most: about what all changes take."""
MOST_CALLS = 82
"""System calls on files that all changes of a first life make."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Death:
    """When a life ends: after so many seconds, or at the call of this number."""

    seconds: float | None = None
    call: int = 0
    how: str = "whole"

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {1000 * self.seconds:.2f} ms"
        return f"at call {self.call}{', a write half done' if self.how == TORN else ''}"


def deaths_of(seed: int) -> list[Death]:
    """The schedule that belongs to a number."""
    chance = random.Random(seed)
    found = []
    for _ in range(chance.randint(1, MOST_LIVES)):
        if chance.random() < 0.5:
            found.append(Death(seconds=chance.uniform(0, LONGEST)))
        else:
            found.append(Death(call=chance.randint(1, MOST_CALLS), how=chance.choice(("whole", TORN))))
    return found


def remote_key() -> FakeProvider:
    """The same remote key in each life, with all its versions."""
    provider = FakeProvider("k", limits={"rate": 10_000})
    provider.versions = {str(n): hashlib.sha256(f"version {n}".encode()).digest() for n in range(1, 1000)}
    return provider


def live(directory: Path, said: int, death: Death) -> None:
    """Live one life: go on from what is on disk. Answers go to the file descriptor `said`, one line each."""
    out = os.fdopen(said, "wb", buffering=0)
    if death.seconds is None:
        die_at(death.call, death.how)
    state = StateDir(directory / "main").read()
    epoch, version = (key_id_epoch(state.key_id), int(state.record.wraps[0].version)) if state else (1, 1)
    provider = remote_key()
    provider.current = str(version)
    members = members_of(provider)
    rig = rig_of(target_of(members, epoch=epoch), directory / "main")
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                answer = encrypt(rig.endpoint)
            except errors.NotReady:
                continue
            fields = {"c": answer.ciphertext.hex(), "k": answer.key_id, "r": answer.record.hex()}
            # In one write, so that a line is there as a whole or not at all.
            out.write(json.dumps(fields).encode() + b"\n")
            done.wait(0.0005)

    client = threading.Thread(target=serve)
    client.start()
    out.write(b"\n")
    rig.tend()
    for change in range(CHANGES):
        if change % 2:
            provider.current = str(version + change)
            rig.pass_time(60.0)
        else:
            epoch += 1
            rig.tend(target_of(members, epoch=epoch))
    done.set()
    client.join()


def read_all(directory: Path, said: int, answers: list[bytes]) -> None:
    """Live the last life: decrypt everything, and say what could not be."""
    out = os.fdopen(said, "wb", buffering=0)
    state = StateDir(directory / "main").read()
    provider = remote_key()
    rig = rig_of(target_of(members_of(provider), epoch=key_id_epoch(state.key_id) if state else 1), directory / "main")
    rig.tend()
    lost = []
    for line in answers:
        fields = json.loads(line)
        one = Ciphertext(bytes.fromhex(fields["c"]), fields["k"], bytes.fromhex(fields["r"]))
        try:
            good = decrypt(rig.endpoint, one) == SEED
        except errors.KeysteadError as exc:
            lost.append(f"{one.key_id}: {exc}")
        else:
            if not good:
                lost.append(f"{one.key_id}: another plaintext")
    highest = max((key_id_epoch(json.loads(line)["k"]) for line in answers), default=0)
    if key_id_epoch(rig.key_id) < highest:
        lost.append(f"{rig.key_id} after an answer under epoch {highest}")
    if rig.healthz != "ok" or decrypt(rig.endpoint, encrypt(rig.endpoint)) != SEED:
        lost.append(f"the last life is not well: {rig.healthz}")
    out.write(json.dumps(lost).encode() + b"\n")


@dataclass
class Found:
    """What a schedule came to."""

    answers: list[bytes]
    killed: int
    """Lives that were ended, and did not end by themselves."""
    lost: list[str]
    """Answers that the last life could not decrypt, and whatever else was wrong with it."""
    early: list[str]
    """Records that were used before they were on disk."""


def run(directory: Path, seed: int) -> Found:
    """Run one schedule."""
    directory.mkdir(parents=True)
    answers: list[bytes] = []
    early: list[str] = []
    killed = 0
    for death in deaths_of(seed):

        def living(said: int, death: Death = death) -> None:
            live(directory, said, death)

        lines, status = child(living, death.seconds)
        given = [line for line in lines if line]
        early += not_on_disk(directory, given)
        answers += given
        by_kill = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert by_kill or status == 0, f"a life ended with {os.waitstatus_to_exitcode(status)}"
        killed += by_kill
    lines, status = child(lambda said: read_all(directory, said, answers), None)
    assert status == 0, f"the last life ended with {os.waitstatus_to_exitcode(status)}"
    shutil.rmtree(directory)
    return Found(answers, killed, json.loads(lines[-1]), early)


def not_on_disk(directory: Path, answers: list[bytes]) -> list[str]:
    """Say whether a life that has just ended used a record that it had not written before."""
    if not answers:
        return []
    used = Record.parse(bytes.fromhex(json.loads(answers[-1])["r"]))
    key_id = json.loads(answers[-1])["k"]
    state = StateDir(directory / "main").read()
    if state is not None:
        on_disk, answered = (
            (key_id_epoch(name), int(record.wraps[0].version))
            for name, record in ((state.key_id, state.record), (key_id, used))
        )
        if on_disk > answered or state.record == used:
            return []
    return [f"{key_id} was used, and is not on disk"]


def child(work: Callable[[int], None], seconds: float | None) -> tuple[list[bytes], int]:
    """Run `work` in a child that is killed so long after its first word; return its whole lines, and how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(writing)
            os._exit(0)
        finally:
            os._exit(3)
    os.close(writing)
    text = b"".join(_until_closed(reading, pid, seconds))
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    return text.split(b"\n")[:-1], status


def _until_closed(reading: int, pid: int, seconds: float | None) -> Iterator[bytes]:
    ends = time.monotonic() + PATIENCE
    dies: float | None = None
    while True:
        now = time.monotonic()
        if now >= (dies if dies is not None else ends):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert now < ends, "a life did not end"
            dies = None
        ready, _, _ = select.select([reading], [], [], max(0.0, (dies if dies is not None else ends) - now))
        if ready:
            part = os.read(reading, 1 << 16)
            if not part:
                return
            if seconds is not None:
                dies, seconds = time.monotonic() + seconds, None
            yield part


def main(root: Path, count: int, first: int) -> int:
    """Run so many schedules and print what they came to; return the exit code."""
    totals: Counter[str] = Counter()
    started = time.monotonic()
    for seed in range(first, first + count):
        found = run(root / str(seed), seed)
        totals["lives killed"] += found.killed
        totals["answers"] += len(found.answers)
        totals["undecryptable"] += len(found.lost)
        totals["early"] += len(found.early)
        totals["without an answer"] += not found.answers
        if found.lost or found.early:
            print(f"schedule {seed} ({', then '.join(map(str, deaths_of(seed)))}): {found.lost + found.early}")
    print(
        f"{count} schedules: {totals['lives killed']} lives killed, {totals['without an answer']} schedules without an "
        f"answer, {totals['answers']} answers, {totals['undecryptable']} undecryptable, "
        f"{totals['early']} used before they were on disk, in {time.monotonic() - started:.0f} s"
    )
    return 1 if totals["undecryptable"] or totals["early"] else 0


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
