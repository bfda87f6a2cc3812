"""A minimal client of kube-apiserver, and kubectl for what an operator does by hand."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]

IDLE = 60
"""Seconds after which a connection is not used again: the apiserver may be about to close it, which is no finding."""


class KubeError(Exception):
    """The apiserver answered something else than success."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:600]}")
        self.status = status
        self.body = body


class Kube:
    """Speaks to one apiserver, over one connection per thread, without any retry: a failed call is a finding.

    A GET without resourceVersion is answered from etcd; a LIST comes out of the watch cache, which holds plaintext
    and answers even where nothing can be decrypted. So a test that something is readable must GET it.
    """

    def __init__(self, address: str, port: int, token: str, certificate: Path) -> None:
        self._address, self._port = address, port
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.load_verify_locations(certificate)
        self._per_thread = threading.local()
        self._connections: list[http.client.HTTPSConnection] = []

    def raw(self, method: str, path: str, body: Object | None = None) -> tuple[int, str]:
        """Make one call and return status and text, whatever the status."""
        connection: http.client.HTTPSConnection | None = getattr(self._per_thread, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection(self._address, self._port, timeout=60, context=self._tls)
            self._per_thread.connection = connection
            self._connections.append(connection)
        elif time.monotonic() - self._per_thread.used > IDLE:
            connection.close()  # the request below opens it again
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request of this thread opens it again
            raise
        finally:
            self._per_thread.used = time.monotonic()

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._connections:
            connection.close()

    def call(self, method: str, path: str, body: Object | None = None) -> Object:
        status, text = self.raw(method, path, body)
        if not 200 <= status < 300:
            raise KubeError(method, path, status, text)
        answer = json.loads(text)
        assert isinstance(answer, dict)
        return answer

    def get(self, path: str) -> Object:
        return self.call("GET", path)

    def create(self, collection: str, body: Object) -> Object:
        return self.call("POST", collection, body)

    def replace(self, path: str, body: Object) -> Object:
        return self.call("PUT", path, body)


def secrets(namespace: str) -> str:
    """Return the path of a namespace's Secrets."""
    return f"/api/v1/namespaces/{namespace}/secrets"


def config_maps(namespace: str) -> str:
    """Return the path of a namespace's ConfigMaps."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


def secret(name: str, content: dict[str, str]) -> Object:
    """Return a Secret as it is created or replaced."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def content_of(stored: Object) -> dict[str, str]:
    """Return the content of a Secret that was read."""
    return {key: base64.b64decode(value).decode() for key, value in stored.get("data", {}).items()}


class Kubectl:
    """Runs kubectl with a kubeconfig."""

    def __init__(self, binary: Path, kubeconfig: Path) -> None:
        self._command = [str(binary), "--kubeconfig", str(kubeconfig)]
        # kubectl caches discovery in its user's home; the tests leave nothing there.
        self._env = {**os.environ, "HOME": str(kubeconfig.parent)}

    def __call__(self, *arguments: str, given: str | None = None) -> str:
        """Run to the end and return what was printed; `given` is standard input."""
        done = self._run(arguments, given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        """Run what must fail, and return what its user sees of the reason."""
        done = self._run(arguments)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} did it: {done.stdout[-2000:]}"
        return done.stderr

    def migrate(self, resource: str) -> int:
        """Write every object of a resource anew, as the Kubernetes documentation tells operators to; count them."""
        return len(self("replace", "-f", "-", given=self("get", resource, "-A", "-o", "json")).splitlines())

    def _run(self, arguments: Sequence[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            env=self._env,
            check=False,
        )
