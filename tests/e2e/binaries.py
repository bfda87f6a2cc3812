"""Where the programs of a cluster are that build/build.sh made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

NAMES = ("kube-apiserver", "kubectl", "etcd")


@dataclass(frozen=True)
class Binaries:
    """The programs for one release of Kubernetes."""

    version: str
    directory: Path

    @property
    def kube_apiserver(self) -> Path:
        return self.directory / "kube-apiserver"

    @property
    def kubectl(self) -> Path:
        return self.directory / "kubectl"

    @property
    def etcd(self) -> Path:
        return self.directory / "etcd"

    @property
    def minor(self) -> int:
        """36 for v1.36.3."""
        return int(self.version.split(".")[1])

    @property
    def decoders(self) -> int:
        """How many workers fill a watch cache: each asks the plugin for a seed that is new to it."""
        return 10 if self.minor >= 37 else 1

    @property
    def missing(self) -> list[str]:
        return [name for name in NAMES if not os.access(self.directory / name, os.X_OK)]


def binaries(version: str) -> Binaries:
    """Name the programs of a release, whether they are there or not."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("KEYSTEAD_CACHE") or user_cache / "keystead")
    return Binaries(version, cache / "cluster" / version)
