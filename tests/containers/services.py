"""The services of docker/compose.yaml as processes of this machine: the same programs, arguments, scripts and files.

Every volume is a directory, and in whatever a service reads, the paths that its mounts have in a container are replaced
by the directories behind them. So a mount, a variable or an argument that is missing in compose.yaml is missing here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from e2e.processes import free_port

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker/compose.yaml"
PROGRAMS = Path(sys.executable).parent
"""Where `keystead`, `python` and `bao` are, as in the images."""

Service = dict[str, Any]


def compose() -> dict[str, Any]:
    """The file, with its anchors resolved."""
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(COMPOSE_FILE)
    return document


def default(value: str) -> str:
    """What `${NAME:-DEFAULT}` becomes where no variable is set."""
    return re.sub(r"\$\{\w+:-((?:[^{}]|\{[^{}]*\})*)\}", r"\1", value)


def mounts(service: Service) -> dict[str, str]:
    """Where a service's volumes are mounted: path in the container to volume or path on the host."""
    pairs = [volume.removesuffix(":ro").split(":") for volume in service.get("volumes", [])]
    return {target: source for source, target in pairs}


class Machine:
    """Runs services of the file below one directory, on free ports of loopback."""

    def __init__(self, directory: Path, programs: Path | None = None) -> None:
        """`programs` is a directory of further programs, such as kube-apiserver."""
        self.directory = directory
        self.services: dict[str, Service] = compose()["services"]
        self._path = os.pathsep.join([str(PROGRAMS), *([str(programs)] if programs else []), os.environ["PATH"]])
        self._addresses = self._on_loopback()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for volume in compose()["volumes"]:
            (directory / "volumes" / volume).mkdir(parents=True)

    def volume(self, name: str) -> Path:
        """The directory that stands for a volume."""
        return self.directory / "volumes" / name

    def run(self, name: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a service to its end, as `docker compose run --env …` does."""
        arguments, environment = self._prepare(name, command)
        return subprocess.run(
            arguments,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def start(self, name: str) -> None:
        """Start a service that goes on; its output goes to `log`."""
        arguments, environment = self._prepare(name, ())
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, name: str) -> int:
        """Stop it with SIGTERM, as Docker does, and return its exit code."""
        process = self._running.pop(name)
        process.terminate()
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not end within 10 s of SIGTERM, when Docker kills") from None

    def close(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def log(self, name: str) -> Path:
        """What a service that was started writes."""
        return self.directory / f"{name}.log"

    def local(self, name: str) -> Path:
        """The service's own copy of what it reads from the repository."""
        return self.directory / "services" / name

    def _prepare(self, name: str, command: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
        service = self.services[name]
        targets = mounts(service)
        for target, source in targets.items():
            if source.startswith(".") and not (copy := self.local(name) / target.strip("/")).exists():
                shutil.copytree(COMPOSE_FILE.parent / source, copy)
                for file in copy.rglob("*"):
                    if file.is_file():
                        file.write_text(self._native(name, file.read_text()))
        given = {key: default(str(value)) for key, value in service.get("environment", {}).items()}
        environment = {key: self._native(name, value) for key, value in given.items()} | {"PATH": self._path}
        if name == "prepare":
            # Its volumes lie side by side, and a test's user has no other to give them to.
            environment |= {"VOLUMES": str(self.directory / "volumes"), "OWNER": f"{os.getuid()}:{os.getgid()}"}
        # Without an entrypoint it is that of docker/Dockerfile, whose test holds it.
        arguments = [*service.get("entrypoint", ["keystead"]), *(command or service.get("command", []))]
        return [self._native(name, default(argument)) for argument in arguments], environment

    def _native(self, name: str, text: str) -> str:
        """Replace the paths of a service's mounts, and the addresses of services."""
        targets = mounts(self.services[name])
        homes = {
            target: str(self.local(name) / target.strip("/") if source.startswith(".") else self.volume(source))
            for target, source in targets.items()
        }
        longest_first = sorted(homes, key=len, reverse=True)
        paths = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?![\w.-])")
        for address, replacement in self._addresses.items():
            text = text.replace(address, replacement)
        return paths.sub(lambda match: homes[match[1]], text)

    def _on_loopback(self) -> dict[str, str]:
        transit, raft, etcd, peer, apiserver, metrics = (free_port() for _ in range(6))
        return {
            "transit:8200": f"127.0.0.1:{transit}",
            "0.0.0.0:8200": f"127.0.0.1:{transit}",
            "transit:8201": f"127.0.0.1:{raft}",
            "0.0.0.0:8201": f"127.0.0.1:{raft}",
            "etcd:2379": f"127.0.0.1:{etcd}",
            "0.0.0.0:2379": f"127.0.0.1:{etcd}",
            "127.0.0.1:2380": f"127.0.0.1:{peer}",
            "kube-apiserver:6443": f"127.0.0.1:{apiserver}",
            "--secure-port=6443": f"--secure-port={apiserver}",
            "127.0.0.1:9853": f"127.0.0.1:{metrics}",
        }
