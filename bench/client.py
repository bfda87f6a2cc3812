"""The load client of tests/apiserver: built once with Go, then run on a core of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench.process import CLIENT_CORE, pinned

ROOT = Path(__file__).parent.parent
BINARY = ROOT / "build" / "bench" / "load"


class NoGo(RuntimeError):
    """The client cannot be built here."""


def build() -> None:
    """Build the client; Go's own cache makes that quick when nothing has changed."""
    if shutil.which("go") is None:
        raise NoGo("the load client is written in Go, and there is no `go` on the PATH: install Go 1.26 or newer")
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-o", str(BINARY), "./cmd/load"]
    built = subprocess.run(
        command,
        cwd=ROOT / "tests" / "apiserver",
        env={**os.environ, "CGO_ENABLED": "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    if built.returncode != 0:
        raise NoGo(f"the load client cannot be built: {built.stderr.strip()}")


def start(address: str, *arguments: str) -> subprocess.Popen[str]:
    """Start the client on its core."""
    command = [str(BINARY), "-socket", address, *arguments]
    # Go counts the cores that it may use, so it runs one goroutine at a time.
    with pinned(CLIENT_CORE):
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str], timeout: float = 120) -> dict[str, Any]:
    """Wait for the client and return its report; a wrong answer ends the benchmark."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"the load client did not end within {timeout:.0f} s: {process.args!r}") from None
    if not output:
        raise RuntimeError(f"the load client ended with code {process.returncode}: {process.args!r}")
    report: dict[str, Any] = json.loads(output)
    if report["wrong"]:
        raise RuntimeError(f"{report['wrong']} wrong answers: {report}")
    return report


def run(address: str, *arguments: str) -> dict[str, Any]:
    """Start the client and wait for it."""
    return result(start(address, *arguments))
