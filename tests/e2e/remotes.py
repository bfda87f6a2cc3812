"""Remote KMSs behind a plugin of a scenario: those of tests/faults, and a recovery key that lies in a file here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.golang import built

from .etcd import EtcdReader, parse_sealed
from .plugin import command

TOOL = Path(__file__).parents[1] / "providers/age/tool"


def program(directory: Path) -> list[str]:
    """Return the program to test in an environment that leads to no account and no machine of a cloud."""
    names = [f"--unset={name}" for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "VAULT_", "BAO_"))]
    return ["env", *names, f"HOME={directory}", "AWS_EC2_METADATA_DISABLED=true", *command()]


def keystead(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to test, to its end."""
    line = [*command(), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


@dataclass(frozen=True)
class RecoveryKey:
    """A key pair of age. The plugin knows `recipient` only."""

    recipient: str
    identity: Path
    age: Path

    @classmethod
    def create(cls, directory: Path) -> RecoveryKey:
        """Make the pair with age's own tool, which is built from its module once."""
        pytest.importorskip("pyrage", reason="NOT TESTED: no pyrage, which the provider age-x25519 needs")
        keygen, age = (built(TOOL, f"filippo.io/age/cmd/{name}", name) for name in ("age-keygen", "age"))
        identity = directory / "identity.txt"
        subprocess.run([keygen, "-o", identity], check=True, capture_output=True, timeout=20)
        recipient = subprocess.run(
            [keygen, "-y", identity], check=True, capture_output=True, text=True, timeout=20
        ).stdout.strip()
        return cls(recipient, identity, age)

    def entry(self, name: str) -> dict[str, Any]:
        """The key in a configuration."""
        return {"name": name, "provider": "age-x25519", "recipient": self.recipient}

    def open(self, blob: Path, to: Path) -> Path:
        """Unwrap a local KEK by hand."""
        to.touch(mode=0o600)
        subprocess.run([self.age, "-d", "-i", self.identity, "-o", to, blob], check=True, timeout=20)
        return to


def schemes(etcd: EtcdReader, prefix: str) -> set[frozenset[str]]:
    """Name the sets of providers that the local KEKs under a prefix of etcd are wrapped with."""
    records = (parse_sealed(value).record for value in etcd.values(prefix).values())
    return {frozenset(wrap.scheme for wrap in record.wraps) for record in records}
