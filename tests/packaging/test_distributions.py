"""The sdist holds what a build needs; the wheel runs in an environment that has the run requirements and no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MATURIN = Path(sys.executable).with_name("maturin")

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not on the PATH")


def maturin(*arguments: str) -> None:
    outcome = subprocess.run([str(MATURIN), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_the_sdist_holds_the_sources_of_both_languages_and_the_locked_versions(tmp_path: Path) -> None:
    maturin("sdist", "--out", str(tmp_path))
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for wanted in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "rust/Cargo.lock",
        "rust/Cargo.toml",
        "rust/core/Cargo.toml",
        "rust/core/src/lib.rs",
        "rust/locked/src/lib.rs",
        "rust/py/src/lib.rs",
        "python/keystead/__init__.py",
        "python/keystead/_core.pyi",
        "python/keystead/py.typed",
        "python/keystead/_proto/v2/api_pb2.py",
        "python/keystead/_proto/etcd/encrypted_object_pb2.pyi",
    ):
        assert wanted in names, wanted
    assert not [name for name in names if name.endswith((".so", ".pyc")) or "/target/" in name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    maturin("build", "--release", "--locked", "--out", str(directory))
    (path,) = directory.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_one_abi3_module_its_types_and_no_tests(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        text = archive.read(entry_points).decode()
    assert [name for name in names if name.endswith(".so")] == ["keystead/_core.abi3.so"]
    assert {"keystead/py.typed", "keystead/_core.pyi", "keystead/cli/serve.py"} <= set(names)
    assert all(name.startswith(("keystead/", "keystead-")) for name in names)
    assert "keystead=keystead.cli:main" in text.replace(" ", "")
    assert "local=keystead.providers.local:LocalProvider" in text.replace(" ", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_serves_in_an_environment_with_the_run_requirements_only(wheel: Path, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        outcome = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        return outcome.stdout

    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    binaries = tmp_path / "venv/bin"
    pip = [str(binaries / "pip"), "--quiet", "--disable-pip-version-check", "install"]
    run(*pip, "--require-hashes", "-r", str(ROOT / "requirements/run.txt"))
    run(*pip, "--no-deps", str(wheel))
    run(str(binaries / "pip"), "--disable-pip-version-check", "check")
    listing = (
        "import keystead._core, keystead.registry as registry; "
        "print(keystead.__file__); print(*[one.name for one in registry.names()])"
    )
    shown = run(str(binaries / "python"), "-c", listing).splitlines()
    assert shown[0].startswith(str(tmp_path))
    assert "local" in shown[1].split()
    assert run(str(binaries / "keystead"), "version").startswith("keystead ")
    demo = run(str(ROOT / "examples/demo.sh"), str(binaries / "keystead"))
    assert "Done: a seed was wrapped and unwrapped" in demo
