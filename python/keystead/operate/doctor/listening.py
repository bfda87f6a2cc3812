"""The socket of each endpoint, the port for metrics, and the plugin that runs already, if one does."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from keystead.config import Configuration, EndpointConfig
from keystead.operate.admin import CannotTell, ask
from keystead.operate.condition import problems
from keystead.operate.doctor.book import Finding, found
from keystead.operate.doctor.machine import Machine
from keystead.operate.self_test import CallFailed, SelfTest, Unreachable

Refusal = Callable[[Path], str | None]
"""Why `keystead serve` would refuse the directory, or the path, of a socket; `None` if it would not."""
TIMEOUT = 3.0


def endpoint(one: EndpointConfig, directory_refused: Refusal, path_refused: Refusal) -> Iterator[Finding]:
    """Whether the socket can be put in its place, and whether what answers there does so rightly."""
    subject = f"endpoint {one.name}"
    path = one.socket.path
    if path is not None:
        refused = directory_refused(path)
        if refused is not None:
            yield found(20, "fail", subject, refused)
            return
        refused = path_refused(path)
        if refused is not None:
            yield found(21, "fail", subject, refused)
            return
        if not is_live(path):
            return
        try:
            yield from _self_test(one, subject)
        except Unreachable as exc:
            yield found(23, "fail", subject, str(exc))
        except CallFailed as exc:
            yield found(23, "fail", subject, str(exc))


def _self_test(one: EndpointConfig, subject: str) -> Iterator[Finding]:
    test = SelfTest(one.socket.uri, TIMEOUT)
    try:
        for step in test.run_v2() if "v2" in one.kms_versions else test.run_v1():
            if not step.ok:
                yield found(23, "fail", subject, f"{step.name}: {step.seen}")
    finally:
        test.close()


def running(config: Configuration) -> Iterator[Finding]:
    """What a running plugin says of itself."""
    path = config.admin_socket
    if path is None or not is_live(path):
        return
    try:
        for problem in problems(ask(path)):
            yield found(24, "warn", "keystead status", problem)
    except CannotTell as exc:
        yield found(24, "unknown", "keystead status", str(exc))


def port(config: Configuration, machine: Machine) -> Iterator[Finding]:
    """Whether the HTTP listener gets its port, or has it."""
    address = config.observability.http.address
    if not address:
        return
    host, _, number = address.rpartition(":")
    refused = machine.can_bind(host.strip("[]"), int(number))
    if refused is not None and not _is_ours(host.strip("[]"), int(number), config.observability.http.tls is not None):
        yield found(22, "warn", address, refused)


def _is_ours(host: str, number: int, tls: bool) -> bool:
    # Whose certificate it is does not matter here: the question is which program listens.
    context = ssl._create_unverified_context() if tls else None  # noqa: S323, SLF001
    connection = (
        http.client.HTTPSConnection(host, number, timeout=1.0, context=context)
        if tls
        else http.client.HTTPConnection(host, number, timeout=1.0)
    )
    try:
        connection.request("GET", "/livez")
        return str(connection.getresponse().getheader("Server", "")).strip() == "keystead"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_live(path: Path) -> bool:
    """Whether somebody accepts connections there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode) or not os.access(path, os.W_OK):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(path)) == 0
