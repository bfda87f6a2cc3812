"""What `keystead conformance` finds in plugins of other authors: two of the Kubernetes project's own, for its tests.

docs/vendors/testing.md says the same in words. Neither was made to guard anything, so what is found is no reproach.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from apiserver.conftest import running
from keystead.testing.plugin_rules import BOOK, PluginCase
from keystead.testing.rules import Outcome, Verdict, judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
APISERVER = HERE.parent / "apiserver"
FRAMEWORK = "k8s.io/kms@v0.28.4"
"""The last minor release whose module has the example service."""
NEED_MORE = {"KS-C080", "KS-C081", "KS-C085", "KS-C090", "KS-C091"}
"""Rules that need a command or a peer."""

BASE64 = {
    "KS-C014",
    "KS-C015",
    "KS-C022",
    "KS-C030",
    "KS-C031",
    "KS-C033",
    "KS-C034",
    "KS-C035",
    "KS-C036",
    "KS-C037",
    "KS-C040",
    "KS-C050",
}
AES = {"KS-C040", "KS-C050"}


def built(source: Path, package: str, program: Path) -> Path:
    """Build a package of the module in `source`. Skips, to be counted, where that cannot be done."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("NOT TESTED: plugins of other authors; no go to build them with")
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
    command = [go, "build", "-p", "2", "-trimpath", "-o", str(program), package]
    ran = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"NOT TESTED: {package} of another author does not build here: {ran.stderr.strip()[-200:]}")
    return program


def tried(program: Path, directory: Path) -> dict[str, Outcome]:
    """Try every rule."""
    path = directory / "kms.sock"
    with running([str(program), str(path)], path):
        return {rule.id: judge(rule, PluginCase(f"unix://{path}")) for rule in BOOK.rules}


def broken(outcomes: dict[str, Outcome]) -> set[str]:
    for one in outcomes.values():
        if one.verdict is Verdict.BROKEN:
            print(f"{one.id} {one.title}\n  expected {one.expected}\n  got      {one.got}")
    assert {one.id for one in outcomes.values() if one.verdict is Verdict.NOT_SHOWN} == NEED_MORE
    return {one.id for one in outcomes.values() if one.verdict is Verdict.BROKEN}


def test_the_plugin_that_kubernetes_tests_its_api_server_with_encrypts_nothing(tmp_path: Path) -> None:
    program = built(APISERVER, "./cmd/base64", tmp_path / "base64")
    assert broken(tried(program, tmp_path)) == BASE64


def test_the_example_of_kubernetes_own_framework_authenticates_and_is_lax_about_codes_and_sizes(tmp_path: Path) -> None:
    go = shutil.which("go") or pytest.skip("NOT TESTED: plugins of other authors; no go to build them with")
    got = subprocess.run([go, "mod", "download", "-json", FRAMEWORK], capture_output=True, text=True, check=False)
    if got.returncode != 0:
        pytest.skip(f"NOT TESTED: {FRAMEWORK} cannot be had here")
    module = shutil.copytree(json.loads(got.stdout)["Dir"], tmp_path / "kms", copy_function=shutil.copyfile)
    for one in (module, *(path for path in module.rglob("*") if path.is_dir())):
        one.chmod(0o755)
    (module / "cmd/aes").mkdir(parents=True)
    shutil.copyfile(HERE / "foreign/aes.go.txt", module / "cmd/aes/main.go")
    program = built(module, "./cmd/aes", tmp_path / "aes")
    assert broken(tried(program, tmp_path)) == AES
