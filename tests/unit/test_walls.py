"""Each wall of the structure holds: a copy of the package with one forbidden import planted is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

VIOLATIONS = [
    ("host/decide.py", "import keystead.server.codes", "arrows point one way"),
    ("config/values.py", "import keystead.host.decide", "arrows point one way"),
    ("errors.py", "import keystead.provider", "arrows point one way"),
    ("server/app.py", "import keystead.operate.describe", "arrows point one way"),
    ("registry.py", "import keystead.providers.local", "nobody imports a provider"),
    ("cli/serve.py", "import keystead.providers.local", "nobody imports a provider"),
    ("providers/local.py", "import keystead.host.guard", "a provider sees the public interface only"),
    ("providers/local.py", "import grpc", "a provider sees the public interface only"),
    ("host/guard.py", "import grpc", "only the server speaks gRPC"),
    ("testing/case.py", "import keystead.host.guard", "the conformance kit sees what a vendor sees"),
]


def _copy(to: Path) -> Path:
    package = to / "keystead"
    shutil.copytree(ROOT / "python/keystead", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return package


def _run(command: list[str], at: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(at)}
    return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)


def test_the_package_as_it_is_breaks_no_wall(tmp_path: Path) -> None:
    _copy(tmp_path)
    outcome = _run([str(BIN / "lint-imports"), "--no-cache"], tmp_path)
    assert outcome.returncode == 0, outcome.stdout
    assert "5 kept, 0 broken" in outcome.stdout


@pytest.mark.parametrize(("module", "planted", "wall"), VIOLATIONS)
def test_a_forbidden_import_is_refused(tmp_path: Path, module: str, planted: str, wall: str) -> None:
    package = _copy(tmp_path)
    with (package / module).open("a") as file:
        file.write(f"\n{planted}\n")
    outcome = _run([str(BIN / "lint-imports"), "--no-cache"], tmp_path)
    assert outcome.returncode == 1, outcome.stdout
    broken = " ".join(outcome.stdout.split("Broken contracts")[1].split())
    assert wall in broken


@pytest.mark.parametrize("module", ["cli/serve.py", "config/values.py", "registry.py", "provider.py"])
def test_key_bytes_stay_out_of_modules_that_have_no_business_with_them(tmp_path: Path, module: str) -> None:
    package = _copy(tmp_path)
    with (package / module).open("a") as file:
        file.write("\nimport keystead._core\n")
    outcome = _run([str(BIN / "ruff"), "check", "--no-cache", "--select", "TID251", str(package / module)], tmp_path)
    assert outcome.returncode == 1, outcome.stdout
    assert "keystead._core` is banned" in outcome.stdout
