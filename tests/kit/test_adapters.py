"""Each package in adapters/ passes its own tests, as its author would run them, and shows the tier that it claims."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support import adapters

ADAPTERS = sorted(path.parent for path in adapters.ADAPTERS.glob("*/pyproject.toml"))


def report_of(adapter: Path, directory: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run its tests, and return the report."""
    if adapter.name == "keystead-pkcs11":
        if shutil.which("softhsm2-util") is None:
            pytest.skip("NOT TESTED: keystead-pkcs11, all of it: no SoftHSM; apt-get install softhsm2")
        pytest.importorskip(
            "pkcs11", reason="NOT TESTED: keystead-pkcs11; pip install --require-hashes -r requirements/backends.txt"
        )
    report = directory / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--keystead-report", str(report)]
    environment = os.environ | {"PYTHONPATH": adapters.installed(adapter, directory / "site")}
    ran = subprocess.run(
        [*command, *arguments], cwd=adapter, env=environment, capture_output=True, text=True, check=False
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return list(json.loads(report.read_text()))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.name)
def test_an_adapter_passes_its_own_tests(adapter: Path, tmp_path: Path) -> None:
    """All but the rules that wait for something that fails, which are tried below."""
    waiting = " or ".join(f"KS-R0{number}" for number in (14, 15, 63, *range(70, 100)))
    told = report_of(adapter, tmp_path, "-k", f"not ({waiting})")
    assert all(len(one["rules"]) > 40 for one in told)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.name)
def test_an_adapter_shows_what_it_claims(adapter: Path, tmp_path: Path) -> None:
    told = report_of(adapter, tmp_path)
    assert all(one["complete"] for one in told)
    entries = tomllib.loads((adapter / "pyproject.toml").read_text())["project"]["entry-points"]["keystead.providers"]
    assert {one["provider"] for one in told} == entries.keys()
    assert {(one["claimed"], one["tier"]) for one in told} <= {("Silver", "Silver"), ("Gold", "Gold")}


def test_no_adapter_is_forgotten() -> None:
    assert [path.name for path in ADAPTERS] == ["keystead-azure", "keystead-pkcs11"]
