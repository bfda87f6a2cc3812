"""A large store costs time and memory in proportion, held against sha256sum on the same file in the same run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etcd.given import secret_key
from keystead._core import ROLE_ONLINE, Wrap
from support.etcd_server import EtcdServer
from support.sealed import LocalKek, Seed

OBJECTS = 100_000
AT_ONCE = 100
FASTEST_OF = 3


def measured(command: list[str]) -> tuple[float, int]:
    """Run to the end; return seconds and the most memory in bytes."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_objects_take_at_most_five_times_their_sha256_and_three_times_their_size(
    one_server: EtcdServer, tmp_path: Path
) -> None:
    sha256sum = shutil.which("sha256sum")
    assert sha256sum
    arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    keks = [LocalKek(Wrap("aws-kms", arn, "", ROLE_ONLINE, bytes(184)), epoch=n + 1) for n in range(3)]
    seeds = [Seed(keks[n % 3]) for n in range(9)]
    for start in range(0, OBJECTS, AT_ONCE):
        keys = [secret_key(f"{n:06}", f"ns{n % 200}") for n in range(start, start + AT_ONCE)]
        one_server.transact(*((key, seeds[n % 9].store(key, bytes(400))) for n, key in enumerate(keys)))
    snapshot = one_server.snapshot(tmp_path / "snapshot.db")
    size = snapshot.stat().st_size
    inventory = [sys.executable, "-m", "keystead", "inventory"]
    base = min(measured([sha256sum, str(snapshot)])[0] for _ in range(FASTEST_OF))
    runs = [measured([*inventory, "--snapshot", str(snapshot)]) for _ in range(FASTEST_OF)]
    ours, memory = min(seconds for seconds, _ in runs), max(used for _, used in runs)
    live = measured([*inventory, "--etcd", one_server.url])
    print(
        f"{size / 1e6:.0f} MB: sha256sum {base:.2f} s, inventory {ours:.2f} s = {ours / base:.1f} times, "
        f"{memory / 1e6:.0f} MB = {memory / size:.2f} of the file; live {live[0]:.2f} s, {live[1] / 1e6:.0f} MB"
    )
    assert ours <= 5 * base
    assert memory <= 3 * size
    assert live[1] <= size, "reading a running etcd keeps no more than a few pages"
