"""What is wrong with one running plugin, from its status document, and which admin socket is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keystead.config import ConfigInvalid, read_file
from keystead.config.document import read
from keystead.config.models import default_admin_socket
from keystead.config.values import Socket, parse_admin
from keystead.operate.admin import CannotTell

SOON = 7 * 86400.0
"""Seconds before the end of a credential from which on it is a problem."""

Document = Mapping[str, Any]


def problems(status: Document) -> Iterator[str]:
    """Yield a sentence for each thing that somebody should look at."""
    for problem in status["configuration"]["problems"]:
        again = "; it is tried again" if status["configuration"]["retrying"] else ""
        yield f"the configuration file is not in use: {problem}{again}"
    for endpoint in status["endpoints"]:
        name = endpoint["name"]
        if endpoint["healthz"] != "ok":
            yield f"endpoint {name} is not healthy: {endpoint['healthz']}"
        if endpoint["refused"] is not None:
            yield f"endpoint {name} refuses its configuration: {endpoint['refused']}"
        if endpoint["overdue"] is not None:
            yield f"endpoint {name} has an old local KEK: {endpoint['overdue']}"
        record = endpoint["record"]
        if record is not None and record["persisted"] is False:
            yield f"endpoint {name}: the record in use is not on disk"
        for key in endpoint["keys"]:
            yield from _of_key(f"endpoint {name} key {key['name']}", key, status["time"])


def notes(status: Document) -> Iterator[str]:
    """Yield what is worth knowing, and no fault."""
    for endpoint in status["endpoints"]:
        if endpoint["activationUnproven"]:
            yield f"endpoint {endpoint['name']}: a key is active that this node never had as decrypt before"


def _of_key(where: str, key: Document, now: float) -> Iterator[str]:
    if key["error"] is not None:
        yield f"{where}: {key['error']}"
    for version in key.get("refusedVersions", ()):
        yield f"{where}: refuses its version {version}, which records may need: docs/operate/outage.md"
    expiry = key["credentialExpiry"]
    if expiry is not None and expiry - now < SOON:
        hours = (expiry - now) / 3600
        yield f"{where}: its credentials " + (f"end in {hours:.0f} h" if hours > 0 else "have ended")


def admin_socket(config: Path) -> Path:
    """Where the plugin of a configuration file has its admin socket. Raises `CannotTell`.

    The file is read as far as that takes and no further: one that is broken elsewhere is when status is needed most.
    """
    try:
        tree = read(read_file(config), str(config)).tree
        return _admin_socket(tree if isinstance(tree, dict) else {})
    except (ConfigInvalid, ValueError) as exc:
        raise CannotTell(f"{exc}; name the admin socket with --admin") from None


def _admin_socket(tree: Mapping[str, Any]) -> Path:
    observability = tree.get("observability")
    if isinstance(observability, dict) and "admin" in observability:
        chosen = parse_admin(observability["admin"])
        path = chosen.path if chosen is not None else None
    else:
        endpoints = tree.get("endpoints")
        sockets = (
            [one.get("socket") for one in endpoints if isinstance(one, dict)] if isinstance(endpoints, list) else []
        )
        path = default_admin_socket(Socket.parse(socket) for socket in sockets)
    if path is None:
        raise ValueError("this configuration has no admin socket")
    return path
