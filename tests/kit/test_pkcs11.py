"""The adapter for PKCS#11, a distribution of its own, passes its tests on a real SoftHSM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ADAPTER = Path(__file__).parents[2] / "adapters/keystead-pkcs11"


@pytest.mark.timeout(400)
def test_the_adapter_passes_its_own_tests_and_shows_what_it_claims(tmp_path: Path) -> None:
    if shutil.which("softhsm2-util") is None:
        pytest.skip("NOT TESTED: keystead-pkcs11, all of it: no SoftHSM; apt-get install softhsm2")
    pytest.importorskip(
        "pkcs11", reason="NOT TESTED: keystead-pkcs11; pip install --require-hashes -r requirements/backends.txt"
    )
    project = tomllib.loads((ADAPTER / "pyproject.toml").read_text())["project"]
    info = tmp_path / "keystead_pkcs11-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (entry,) = project["entry-points"]["keystead.providers"].items()
    (info / "entry_points.txt").write_text(f"[keystead.providers]\n{entry[0]} = {entry[1]}\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ADAPTER / 'src'}"}
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--keystead-report", str(report)]
    ran = subprocess.run(command, cwd=ADAPTER, env=environment, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (told,) = json.loads(report.read_text())
    assert (told["provider"], told["complete"], told["claimed"], told["tier"]) == ("pkcs11", True, "Silver", "Silver")
