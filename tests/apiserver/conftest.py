"""The hostile client, and plugins as child processes for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BINARY = HERE.parent.parent / "build" / "apiserver" / "hostile"
BUILD_LIMIT = 900
RUN_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the hostile client said of a plugin."""

    code: int
    passed: list[str]
    failed: list[str]
    text: str


class Hostile:
    """The hostile client."""

    def names(self, *arguments: str) -> list[str]:
        """The checks that it has."""
        listed = self._run("-list", *arguments)
        assert listed.returncode == 0, listed.stderr
        return [line.split()[0] for line in listed.stdout.splitlines()]

    def attack(self, address: str, *arguments: str) -> Outcome:
        """Run it against a socket."""
        ran = self._run("-socket", address, *arguments)
        verdicts = [line.split()[:2] for line in ran.stdout.splitlines() if line.startswith("H")]
        passed = [name for name, verdict in verdicts if verdict == "ok"]
        failed = [name for name, verdict in verdicts if verdict == "FAILED"]
        text = ran.stdout + ran.stderr
        assert ran.stdout.splitlines()[-1:] == [f"{len(passed)} passed, {len(failed)} failed"], text
        return Outcome(ran.returncode, passed, failed, text)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=RUN_LIMIT, check=False)


@pytest.fixture(scope="session")
def hostile() -> Hostile:
    """The client, built by Go, whose own cache makes that quick when nothing has changed."""
    if shutil.which("go") is None:
        pytest.skip("the hostile client is written in Go, and there is no `go` on the PATH: NOT ONE of its checks ran")
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-o", str(BINARY), "./cmd/hostile"]
    # Without cgo, as the end-to-end tests build kube-apiserver, so that both share what Go keeps of its packages.
    environment = {**os.environ, "CGO_ENABLED": "0"}
    built = subprocess.run(
        command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=BUILD_LIMIT, check=False
    )
    assert built.returncode == 0, built.stderr
    return Hostile()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name, for a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="ks-") as name:
        yield Path(name)


@contextlib.contextmanager
def running(
    command: Sequence[str], path: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A plugin as a child process, from when its socket accepts connections; its output goes to `path` + ".log"."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        plugin = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + 30
        while not _listens(path):
            assert plugin.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, f"nobody listens on {path}: {log.read_text()[-2000:]}"
            time.sleep(0.02)
        yield plugin
    finally:
        plugin.terminate()
        plugin.wait(30)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
