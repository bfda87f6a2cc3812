"""Creates a Secret through kube-apiserver, and proves that etcd has it encrypted under Keystead.

Ends with 0 if it does. Calls the two servers over HTTP, and `keystead inspect` for what is stored; needs the standard
library only.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import secrets
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 90.0
"""Seconds for kube-apiserver to become ready, which takes it some five."""


class Refused(Exception):
    """A server answered with something else than success."""


class Server:
    """An HTTP server that speaks JSON."""

    def __init__(self, address: str, ca_file: Path | None = None, token: str = "") -> None:
        parts = urlsplit(address)
        self._place = (parts.hostname or "", parts.port)
        self._tls = ssl.create_default_context(cafile=str(ca_file)) if parts.scheme == "https" else None
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        """Return the text of the answer. Raises `OSError`, or `Refused` with what was answered."""
        connection = self._connection()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {text}")
        return text

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._place
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=10)
        return http.client.HTTPSConnection(host, port, timeout=10, context=self._tls)


def wait_for(server: Server, path: str) -> None:
    """Wait until a health endpoint says ok."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            server.call("GET", path)
            return
        except (OSError, Refused) as exc:
            if time.monotonic() > ends:
                raise Refused(f"not ready after {PATIENCE:.0f} s: {exc}") from None
        time.sleep(0.5)


def stored(etcd: Server, key: str) -> bytes:
    """Return a value of etcd, through the JSON form of its API."""
    answer = json.loads(etcd.call("POST", "/v3/kv/range", {"key": base64.b64encode(key.encode()).decode()}))
    if "kvs" not in answer:
        raise Refused(f"etcd has no {key}")
    return base64.b64decode(answer["kvs"][0]["value"])


def main() -> None:
    """Run the steps, and print what each one shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="address of kube-apiserver")
    parser.add_argument("--ca", type=Path, required=True, help="PEM file of the CA of its certificate")
    parser.add_argument("--token-file", type=Path, required=True, help="token of a user who may write Secrets")
    parser.add_argument("--etcd", required=True, help="address of etcd, without TLS")
    parser.add_argument("--provider", default="keystead", help="name in the EncryptionConfiguration")
    parser.add_argument("--keystead", default="keystead", help="the command")
    given = parser.parse_args()
    apiserver = Server(given.server, given.ca, given.token_file.read_text().strip())
    etcd = Server(given.etcd)

    wait_for(apiserver, "/readyz")
    name, plaintext = f"demo-{secrets.token_hex(4)}", secrets.token_hex(16)
    secret = {"metadata": {"name": name}, "stringData": {"password": plaintext}}
    apiserver.call("POST", "/api/v1/namespaces/default/secrets", {"apiVersion": "v1", "kind": "Secret", **secret})
    print(f"created the Secret default/{name}")

    value = stored(etcd, f"/registry/secrets/default/{name}")
    prefix = f"k8s:enc:kms:v2:{given.provider}:".encode()
    if not value.startswith(prefix):
        raise Refused(f"what etcd has begins with {value[:40]!r} and not with {prefix!r}")
    if plaintext.encode() in value or base64.b64encode(plaintext.encode()) in value:
        raise Refused("the password is readable in etcd")
    print(f"etcd has {len(value)} bytes, from which the password cannot be read:\n")
    sys.stdout.flush()
    subprocess.run([given.keystead, "inspect"], input=value, check=True)

    read = json.loads(apiserver.call("GET", f"/api/v1/namespaces/default/secrets/{name}"))
    if base64.b64decode(read["data"]["password"]).decode() != plaintext:
        raise Refused("kube-apiserver answers with another password")
    print("\nDone: kube-apiserver reads the Secret back, decrypted")


if __name__ == "__main__":
    try:
        main()
    except (OSError, Refused, subprocess.CalledProcessError) as exc:
        sys.exit(f"FAIL  {exc}")
