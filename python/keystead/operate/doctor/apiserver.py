"""kube-apiserver's side: its EncryptionConfiguration by `config lint`'s own rules, and its manifest."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from keystead.config import ConfigInvalid, Configuration, Problem, read_file
from keystead.config.encryption import judge
from keystead.operate.doctor.book import Finding, Level, found
from keystead.operate.doctor.files import located
from keystead.operate.doctor.manifest import Pod

START_SECONDS = 75
"""How long an API server needs whose plugin is late: 71 s were measured (docs/operate/late-or-absent-plugin.md)."""
KMS_V1_OFF = 29
V2_FROM = 29
UNSAFE_DELETE = 37
_PLACES = (
    (r"\.kms\.endpoint$", 61),
    (r"\.kms\.name$", 62),
    (r"\.kms\.timeout$", 63),
    (r"\.kms\.apiVersion$", 67),
    (r"\.providers\[0\]$", 64),
    (r"\.providers\[\d+\]$", 65),
    (r"\.resources\[\d+\]$", 66),
)
"""Where a problem of the file is, and the check that it belongs to; all others are of its form."""


def encryption(path: Path, config: Configuration | None) -> Iterator[Finding]:
    """Judge the file, and who may read it."""
    try:
        judged = judge(read_file(path), str(path), config)
        problems, warnings = judged.problems, judged.warnings
        mode = path.stat().st_mode
    except ConfigInvalid as exc:
        yield from (found(60, "fail", str(path), located(problem)) for problem in exc.problems)
        return
    for level, several in (("fail", problems), ("warn", warnings)):
        for problem in several:
            yield found(_number(problem), "fail" if level == "fail" else "warn", str(path), located(problem))
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield found(68, "fail", str(path), f"mode {stat.S_IMODE(mode):04o}")


def _number(problem: Problem) -> int:
    if not problem.path and "uses the endpoint" in problem.message:
        return 61
    if "does not serve KMS" in problem.message:
        return 67
    place = next((number for pattern, number in _PLACES if re.search(pattern, problem.path)), 60)
    if place in (64, 65) and "should" in problem.message:
        return 60
    return place


def minor_version(text: str) -> int | None:
    """The y of 1.y in v1.36.3, 1.36 and the like."""
    match = re.match(r"v?1\.(\d{1,3})(\D|$)", text)
    return int(match[1]) if match else None


def manifest(pod: Pod, path: Path, encryption_file: Path | None, config: Configuration | None) -> Iterator[Finding]:
    """What the API server's own manifest says: mounts, flags, probes."""
    subject = str(path)
    named = pod.flag("encryption-provider-config")
    if named is None:
        yield found(71, "fail", subject, "no --encryption-provider-config")
    else:
        mount = pod.mount_of(Path(named))
        if mount is None:
            yield found(71, "fail", subject, f"{named} is not mounted")
        elif encryption_file is not None and not _is(pod, Path(named), encryption_file):
            yield found(71, "fail", subject, f"--encryption-provider-config is {named}, not {encryption_file}")
        if mount is not None and (mount.path == Path(named) or mount.sub_path):
            yield found(77, "warn", subject, f"{named} itself is mounted")
        if pod.flag("encryption-provider-config-automatic-reload") != "true":
            yield found(72, "warn", subject, "no --encryption-provider-config-automatic-reload=true")
    for endpoint in config.endpoints if config is not None else ():
        if endpoint.socket.path is not None:
            yield from _socket(pod, subject, endpoint.socket.path)
    probe = pod.container.get("startupProbe")
    if isinstance(probe, dict):
        seconds = int(probe.get("initialDelaySeconds", 0)) + int(probe.get("failureThreshold", 3)) * int(
            probe.get("periodSeconds", 10)
        )
        if seconds < START_SECONDS:
            yield found(76, "warn", subject, f"its startupProbe gives up after {seconds} s")


def _is(pod: Pod, inside: Path, outside: Path) -> bool:
    """Whether a path of the container is a file of the node; what is no hostPath cannot be compared."""
    mount = pod.mount_of(inside)
    if mount is None or mount.volume.path is None:
        return True
    return mount.volume.path / inside.relative_to(mount.path) == outside


def _socket(pod: Pod, subject: str, socket: Path) -> Iterator[Finding]:
    mount = pod.mount_of(socket)
    if mount is None:
        yield found(70, "fail", subject, f"{socket.parent} is not mounted")
    elif mount.path == socket or mount.volume.type == "Socket" or mount.volume.path == socket or mount.sub_path:
        yield found(70, "fail", subject, f"the socket {socket} itself is mounted")
    elif mount.volume.path is not None and mount.volume.path / socket.relative_to(mount.path) != socket:
        yield found(70, "fail", subject, f"{mount.path} is {mount.volume.path} of the node, where the socket is not")


def version(minor: int, gates: str | None, config: Configuration, uses_v1: bool) -> Iterator[Finding]:
    """What a version of Kubernetes demands."""
    subject = f"Kubernetes 1.{minor}"
    on = dict(pair.partition("=")[::2] for pair in (gates or "").split(","))
    if uses_v1 and minor >= KMS_V1_OFF and on.get("KMSv1") != "true":
        yield found(73, "fail", subject, "KMS v1 is used, and --feature-gates has no KMSv1=true")
    for endpoint in config.endpoints:
        if "v2" in endpoint.kms_versions:
            wanted = "v2" if minor >= V2_FROM else "v2beta1"
            level: Level = "fail" if wanted == "v2beta1" else "warn"
            if endpoint.status_version != wanted:
                yield found(74, level, f"endpoint {endpoint.name}", f"{endpoint.status_version} for {subject}")
    if minor >= UNSAFE_DELETE and on.get("AllowUnsafeMalformedObjectDeletion") != "false":
        yield found(75, "warn", subject, "AllowUnsafeMalformedObjectDeletion is on")
