"""What is missing is said with what to install: the SDK of each provider, whole packages, and the kit's own extra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keystead import registry

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
RECIPIENT = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"
SDKS: dict[str, tuple[str, dict[str, Any]]] = {
    "age-x25519": ("keystead[age]", {"recipient": RECIPIENT}),
    "aws-kms": ("keystead[aws]", {"keyID": ARN}),
    "gcp-kms": ("keystead[gcp]", {"keyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}),
    "vault-transit": (
        "keystead[vault]",
        {"address": "https://127.0.0.1:1", "transitKey": "k", "auth": {"method": "token", "tokenFile": "/none"}},
    ),
}
"""What brings the SDK of each provider that needs one, and a configuration of it."""
KEYSTEAD = Path(sys.executable).with_name("keystead")
BARE = """
import sys
KEEP = {"keystead", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}

class NoSdk:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if not (top in KEEP or top in sys.stdlib_module_names or top.startswith("_sysconfigdata")):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, NoSdk())
"""
"""Finds no package but Keystead's own and what it always has, as in an environment without extras."""
OPEN = """
import json, time
from keystead import errors, registry
fields = json.loads(sys.argv[1])
kind = registry.provider_class(fields["provider"])
try:
    kind(kind.config_type.model_validate(fields)).open(time.monotonic() + 5)
except errors.ProviderError as exc:
    print(type(exc).__name__, exc)
"""


def bare(code: str, *arguments: str) -> str:
    """What a program prints in such an environment."""
    ran = subprocess.run([sys.executable, "-c", BARE + code, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("name", SDKS)
def test_without_its_sdk_a_provider_says_which_extra_to_install(name: str) -> None:
    extra, fields = SDKS[name]
    said = bare(OPEN, json.dumps({"name": "k", "provider": name} | fields))
    assert said.startswith("ConfigError ")
    assert said.endswith(f"is not installed: install {extra}")


def test_no_other_provider_of_ours_has_an_sdk(tmp_path: Path) -> None:
    assert {one.name for one in registry.names() if one.distribution == "keystead"} - SDKS.keys() == {"local"}
    said = bare(OPEN, json.dumps({"name": "k", "provider": "local", "keyFile": str(tmp_path / "none")}))
    assert "none" in said
    assert "install" not in said


def test_tls_faults_without_cryptography_name_the_extra() -> None:
    code = """
from keystead.testing import FaultProxy, NotShown
try:
    FaultProxy().to("127.0.0.1:1", tls=True)
except NotShown as exc:
    print(exc)
"""
    assert bare(code) == "TLS faults need the package cryptography: install keystead[testing]"


@pytest.mark.parametrize(
    ("provider", "package"),
    [("pkcs11", "keystead-pkcs11"), ("azure-key-vault", "keystead-azure"), ("azure-managed-hsm", "keystead-azure")],
)
def test_without_an_adapter_lint_and_info_name_its_package(provider: str, package: str, tmp_path: Path) -> None:
    file = tmp_path / "keystead.yaml"
    file.write_text(
        "apiVersion: config.keystead.dev/v1alpha1\nkind: KeysteadConfiguration\ncluster: lab\n"
        f"keys:\n- {{name: k, provider: {provider}}}\n"
        "endpoints:\n- {name: main, socket: 'unix:///run/kms.sock', members: [{key: k, stage: active}]}\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (["provider", "info", provider], ["config", "lint", "--config", str(file)]):
        ran = subprocess.run([KEYSTEAD, *command], env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode != 0, ran.stdout
        assert f"no provider '{provider}' is installed" in ran.stdout + ran.stderr
        assert f"{package}" in (ran.stdout + ran.stderr).replace("\n", " ")
