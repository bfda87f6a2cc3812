"""A real SoftHSM, which stands for an HSM of a node: a token with one key, whose cable can be pulled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.adapters import ADAPTERS, installed

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")
MISSING = "NOT TESTED: keystead-pkcs11 under a kube-apiserver: no SoftHSM; apt-get install softhsm2 opensc"


class Hsm:
    """One token and its AES key. `program` is a command in an environment where the provider is installed."""

    name = "pkcs11"

    def __init__(self, directory: Path) -> None:
        module = next((path for path in MODULES if Path(path).exists()), None)
        if module is None or shutil.which("softhsm2-util") is None:
            pytest.skip(MISSING)
        pytest.importorskip("pkcs11", reason="NOT TESTED: no python-pkcs11")
        self._directory = directory / "hsm"
        (self._directory / "tokens").mkdir(parents=True)
        self._configuration = self._directory / "softhsm2.conf"
        self._configuration.write_text(f"directories.tokendir = {self._directory}/tokens\nlog.level = ERROR\n")
        self._module = module
        pin_file = self._directory / "pin"
        pin_file.touch(mode=0o600)
        pin_file.write_text("1234\n")
        self._run("softhsm2-util", "--init-token", "--free", "--label", "k8s", "--pin", "1234", "--so-pin", "5678")
        self.make(1)
        self.key = {"name": "hsm", "provider": self.name, "module": module, "tokenLabel": "k8s", "keyLabel": "kek"}
        self.key["pinFile"] = str(pin_file)

    def make(self, number: int) -> None:
        """Make a version of the key, in a process of its own, as its owner does."""
        code = (
            "import sys, pkcs11\n"
            "with pkcs11.lib(sys.argv[1]).get_token(token_label='k8s').open(rw=True, user_pin='1234') as session:\n"
            "    session.generate_key(pkcs11.KeyType.AES, 256, label='kek', id=bytes([int(sys.argv[2])]), store=True)\n"
        )
        self._run(sys.executable, "-c", code, self._module, str(number))

    def program(self, command: list[str]) -> list[str]:
        """Return a command in an environment where the provider is installed, and that knows the tokens."""
        path = installed(ADAPTERS / "keystead-pkcs11", self._directory / "site")
        return ["env", f"PYTHONPATH={path}", f"SOFTHSM2_CONF={self._configuration}", *command]

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Have no token: the cable is pulled."""
        here, away = self._directory / "tokens", self._directory / "away"
        here.rename(away)
        here.mkdir()
        yield
        here.rmdir()
        away.rename(here)

    def _run(self, *command: str) -> None:
        environment: dict[str, Any] = {**os.environ, "SOFTHSM2_CONF": str(self._configuration)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
