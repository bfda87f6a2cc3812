"""promtool and prometheus, where tests/monitoring/build.sh has built them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "build.sh"


def program(name: str) -> Path:
    """The program, or a skip that is counted."""
    version = re.search(r"^version=(\S+)", SCRIPT.read_text(), re.MULTILINE)
    assert version is not None
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("KEYSTEAD_CACHE") or user_cache / "keystead")
    found = cache / "prometheus" / version[1] / name
    if not found.exists():
        pytest.skip(f"NOT TESTED: no {name}; tests/monitoring/build.sh builds it")
    return found
