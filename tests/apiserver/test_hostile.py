"""Upstream's own client code and the worst of clients against `keystead serve` (tests/apiserver/cmd/hostile)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BINARY = HERE.parent.parent / "build" / "apiserver" / "hostile"
BUILD_LIMIT, RUN_LIMIT = 900, 300


@pytest.fixture(scope="module")
def hostile() -> Path:
    """The hostile client, built by Go, whose own cache makes that quick when nothing has changed."""
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
    return BINARY


@pytest.fixture
def address() -> Iterator[str]:
    """The socket of a plugin with a throw-away key, serving both versions of the API."""
    # Not pytest's own directory, whose name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="ks-") as directory:
        path, log = Path(directory) / "kms.sock", Path(directory) / "log"
        with log.open("wb") as output:
            plugin = subprocess.Popen(
                [sys.executable, "-m", "keystead", "serve", "--dev"],
                env={**os.environ, "KEYSTEAD_DEV_DIR": directory},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_until_listening(path, plugin, log)
            yield f"unix://{path}"
            assert plugin.poll() is None, f"the plugin ended with code {plugin.returncode}:\n{log.read_text()[-2000:]}"
            assert "rpc.crashed" not in log.read_text()
        finally:
            plugin.terminate()
            plugin.wait(30)
        assert plugin.returncode == 0


@pytest.mark.timeout(BUILD_LIMIT + RUN_LIMIT)
def test_no_client_gets_a_wrong_answer_or_disturbs_another(hostile: Path, address: str) -> None:
    listed = subprocess.run([str(hostile), "-list"], capture_output=True, text=True, timeout=RUN_LIMIT, check=True)
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert len(names) >= 31
    assert len(set(names)) == len(names)

    ran = subprocess.run(
        [str(hostile), "-socket", address], capture_output=True, text=True, timeout=RUN_LIMIT, check=False
    )

    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[-1] == f"{len(names)} passed, 0 failed"
    assert [line.split()[0] for line in lines[:-1]] == names


def _wait_until_listening(path: Path, plugin: subprocess.Popen[bytes], log: Path, limit: float = 30) -> None:
    end = time.monotonic() + limit
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        assert plugin.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < end, f"nobody listens on {path} after {limit:.0f} s: {log.read_text()[-2000:]}"
        time.sleep(0.02)
