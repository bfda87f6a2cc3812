"""What `keystead inventory` costs on a large store: time against `sha256sum` of the same file, and memory."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import client

AT_ONCE = 100
LOOK = 0.005
"""Seconds between two looks at a process."""
PAYLOAD = 400
"""Bytes of an object, sealed."""


class NoEtcd(RuntimeError):
    """There is no etcd to fill."""


@dataclass(frozen=True, slots=True)
class Run:
    """One command."""

    seconds: float
    memory: int
    """The most bytes that were resident."""
    progress: int
    """Lines of progress that a terminal would have shown."""


@dataclass(frozen=True, slots=True)
class Store:
    """One size of store."""

    objects: int
    size: int
    """Bytes of its snapshot."""
    sha256sum: list[float]
    snapshot: list[Run]
    live: list[Run]


def measure(directory: Path, objects: int, rounds: int) -> Store:
    """Fill an etcd, and measure in turns."""
    # The makers of values and the etcd are those of the tests.
    sys.path.append(str(client.ROOT / "tests"))
    from support.etcd_server import servers, serving

    found = servers()
    if not found:
        raise NoEtcd("there is no etcd: pip install --require-hashes -r requirements/backends.txt")
    program = list(found.values())[-1]
    place = directory / f"store-{objects}"
    place.mkdir()
    with serving(program, place) as server:
        _fill(server.transact, objects)
        snapshot = server.snapshot(place / "snapshot.db")
        inventory = [sys.executable, "-m", "keystead", "inventory"]
        sums: list[float] = []
        files: list[Run] = []
        lives: list[Run] = []
        for _ in range(rounds):
            sums.append(_run([shutil.which("sha256sum") or "sha256sum", str(snapshot)]).seconds)
            files.append(_run([*inventory, "--snapshot", str(snapshot)]))
            lives.append(_run([*inventory, "--etcd", server.url]))
        return Store(objects, snapshot.stat().st_size, sums, files, lives)


def table(stores: Sequence[Store]) -> list[tuple[str, ...]]:
    """A row for each way to read each store."""
    rows = [("objects", "snapshot MB", "read from", "seconds", "of sha256sum", "memory MB", "of the file", "progress")]
    for store in stores:
        base = min(store.sha256sum)
        for name, runs in (("the snapshot", store.snapshot), ("a running etcd", store.live)):
            seconds, memory = min(run.seconds for run in runs), max(run.memory for run in runs)
            rows.append(
                (
                    str(store.objects),
                    f"{store.size / 1e6:.0f}",
                    name,
                    f"{seconds:.2f}",
                    f"x {seconds / base:.1f}",
                    f"{memory / 1e6:.0f}",
                    f"x {memory / store.size:.2f}",
                    str(max(run.progress for run in runs)),
                )
            )
    return rows


def _fill(transact: Callable[..., None], objects: int) -> None:
    from keystead._core import ROLE_ONLINE, Wrap
    from support.sealed import LocalKek, Seed

    arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    keks = [LocalKek(Wrap("aws-kms", arn, "", ROLE_ONLINE, bytes(184)), epoch=n + 1) for n in range(3)]
    seeds = [Seed(keks[n % 3]) for n in range(9)]
    for start in range(0, objects, AT_ONCE):
        keys = [f"/registry/secrets/ns{n % 200}/{n:07}".encode() for n in range(start, start + AT_ONCE)]
        transact(*((key, seeds[n % 9].store(key, bytes(PAYLOAD))) for n, key in enumerate(keys)))


def _run(command: Sequence[str]) -> Run:
    """Run to the end, with a terminal for standard error."""
    terminal, end = pty.openpty()
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as child:
        os.close(end)
        shown, memory = _watch(terminal, child.pid)
        child.wait()
    seconds = time.perf_counter() - begin
    os.close(terminal)
    if child.returncode:
        raise RuntimeError(f"{command}: exit code {child.returncode}: {shown.decode(errors='replace')}")
    return Run(seconds, memory, shown.count(b"\r"))


def _watch(terminal: int, pid: int) -> tuple[bytes, int]:
    """Return what a process wrote to its terminal, and the most memory that it was seen to have.

    Not the `ru_maxrss` of wait4, for that counts the process that it was forked from.
    """
    shown, memory = b"", 0
    while True:
        ready, _, _ = select.select([terminal], [], [], LOOK)
        memory = max(memory, _high_water(pid))
        if not ready:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # what Linux answers once the other end is closed
            return shown, memory
        if not part:
            return shown, memory
        shown += part


def _high_water(pid: int) -> int:
    """The most bytes that were resident since the program began; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
