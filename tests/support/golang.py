"""Independent programs that tests hold the project against, built from their Go modules once per version."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD_SECONDS = 600


def built(source: Path, package: str, name: str) -> Path:
    """Build a package of the module in `source`, outside of the tree, and return the program.

    Skips the test, to be counted, where it cannot be built.
    """
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"NOT TESTED against {name}: no go to build it with")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("KEYSTEAD_CACHE") or user_cache / "keystead")
    files = sorted(path for path in source.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    content = b"".join(path.read_bytes() for path in files)
    program = cache / name / hashlib.sha256(content).hexdigest()[:16] / name
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(f".{os.getpid()}")
    outcome = subprocess.run(
        [go, "build", "-p", "2", "-trimpath", "-o", str(partial), package],
        cwd=source,
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if outcome.returncode != 0:
        last = outcome.stderr.strip().splitlines()[-1:]
        pytest.skip(f"NOT TESTED against {name}: it does not build here: {last}")
    partial.rename(program)
    return program
