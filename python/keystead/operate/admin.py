"""Asks a running plugin for its status document, over its admin socket; and reads such documents from elsewhere."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

API_VERSION = "status.keystead.dev/v1alpha1"
TIMEOUT = 5.0
MAX_DOCUMENT = 16 * 1024 * 1024


class CannotTell(Exception):
    """Nothing could be learnt; the text says why, and what to do."""


def ask(path: Path, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Fetch the status of the plugin behind an admin socket. Raises `CannotTell`."""
    connection = _OverUnix(path, timeout)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        body = answer.read(MAX_DOCUMENT + 1)
    except FileNotFoundError:
        raise CannotTell(f"{path} does not exist: no plugin runs with this admin socket; try --admin") from None
    except PermissionError:
        raise CannotTell(f"{path} may be opened by the plugin's user alone: run this as that user") from None
    except (OSError, http.client.HTTPException) as exc:
        raise CannotTell(f"no plugin answers on {path}: {exc}") from exc
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise CannotTell(f"{path} answered {answer.status}: this is not the admin socket of a plugin")
    return document(body.decode(errors="replace"), str(path))


def document(text: str, name: str) -> dict[str, Any]:
    """Parse a status document. Raises `CannotTell` for anything else; `name` stands in front of the text."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise CannotTell(f"{name}: not JSON; save what `keystead status -o json` prints") from None
    if not isinstance(parsed, Mapping) or parsed.get("kind") != "Status":
        raise CannotTell(f"{name}: not a status; save what `keystead status -o json` prints")
    if parsed.get("apiVersion") != API_VERSION:
        said = str(parsed.get("apiVersion"))[:64]
        raise CannotTell(f"{name}: has apiVersion {said!r}, this keystead reads {API_VERSION}; use the newer one")
    return dict(parsed)


def fetch(url: str, timeout: float = TIMEOUT) -> str:
    """Get a text over HTTP. Raises `CannotTell`."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310  the scheme was checked
            body: bytes = answer.read(MAX_DOCUMENT + 1)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise CannotTell(f"{url}: {exc}") from None
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise CannotTell(f"{url}: {exc}") from exc
    return body.decode(errors="replace")


class _OverUnix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
