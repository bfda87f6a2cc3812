"""A stand-in for the SDK of your KMS, to be replaced by it: it speaks to the fake KMS of `keystead.testing`.

Two things of it are worth looking for in a real one: the time-out is for a call as a whole, and there are no retries.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_ANSWER = 1 << 16


class SdkError(Exception):
    """A call failed. `code` is the service's word for it, or `unavailable`, or `bad_answer`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Client:
    """Safe to use from many threads: it makes a connection for each call."""

    def __init__(self, address: str, token: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._token = token

    def renew(self, token: str) -> bool:
        """Use another token from now on; whether it is another one."""
        changed, self._token = token != self._token, token
        return changed

    def describe(self, key: str, timeout: float) -> dict[str, Any]:
        return self._call("GET", f"/v1/keys/{key}", timeout)

    def encrypt(self, key: str, plaintext: bytes, aad: bytes, version: int | None, timeout: float) -> tuple[bytes, int]:
        body = {"plaintext": _text(plaintext), "aad": _text(aad)} | ({"version": version} if version else {})
        answer = self._call("POST", f"/v1/keys/{key}:encrypt", timeout, body)
        return _bytes(answer, "ciphertext"), answer["version"]

    def decrypt(self, key: str, ciphertext: bytes, aad: bytes, timeout: float) -> tuple[bytes, int]:
        body = {"ciphertext": _text(ciphertext), "aad": _text(aad)}
        answer = self._call("POST", f"/v1/keys/{key}:decrypt", timeout, body)
        return _bytes(answer, "plaintext"), answer["version"]

    def __repr__(self) -> str:
        return f"Client({self._host}:{self._port})"

    def _call(self, method: str, path: str, timeout: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n"
        head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        try:
            answer = self._exchange(head.encode() + content, time.monotonic() + timeout)
        except OSError as exc:
            raise SdkError("unavailable", f"{method} {path}: {exc.strerror or type(exc).__name__}") from None
        status, parsed = _parse(answer, f"{method} {path}")
        if status != 200:
            code = parsed.get("code") or ("unavailable" if status >= 500 else "bad_answer")
            raise SdkError(str(code), f"{method} {path}: {status}: {str(parsed.get('message'))[:200]}")
        return parsed

    def _exchange(self, request: bytes, deadline: float) -> bytes:
        with socket.create_connection((self._host, self._port), timeout=_left(deadline)) as plain:
            plain.settimeout(_left(deadline))
            sock = self._tls.wrap_socket(plain, server_hostname=self._host) if self._tls is not None else plain
            with sock:
                sock.sendall(request)
                answer = b""
                while len(answer) <= MAX_ANSWER:
                    sock.settimeout(_left(deadline))
                    chunk = sock.recv(65536)
                    if not chunk:
                        break
                    answer += chunk
        return answer


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parse(answer: bytes, what: str) -> tuple[int, dict[str, Any]]:
    head, _, content = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ", head)
    length = re.search(rb"^content-length: *([0-9]{1,6})\r?$", head, re.IGNORECASE | re.MULTILINE)
    if status is None or length is None or len(content) != int(length[1]):
        raise SdkError("unavailable", f"{what}: the answer is not complete, or not HTTP")
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise SdkError("bad_answer", f"{what}: {int(status[1])} without JSON: is there a proxy in between?")
    return int(status[1]), parsed


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(answer: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(answer[name], validate=True)
    except (KeyError, TypeError, ValueError):
        raise SdkError("bad_answer", f"an answer without {name} in base64") from None
