"""How the plugin itself is run: a pod's manifest or a systemd unit, judged by what a cold start and an outage need."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from keystead.config import Configuration
from keystead.operate.doctor.book import Finding, found
from keystead.operate.doctor.files import named_files
from keystead.operate.doctor.manifest import Pod

Form = Literal["static-pod", "systemd", "sidecar", "daemonset"]
FORMS: tuple[Form, ...] = ("static-pod", "systemd", "sidecar", "daemonset")
DEFAULT: Mapping[Form, Path] = {
    "static-pod": Path("/etc/kubernetes/manifests/keystead.yaml"),
    "systemd": Path("/etc/systemd/system/keystead.service"),
}
CRITICAL = frozenset({"system-node-critical", "system-cluster-critical"})
FROM_API = frozenset({"secret", "configMap", "projected", "persistentVolumeClaim", "csi", "ephemeral", "downwardAPI"})
LATER = re.compile(r"\b(kubelet|k3s|rke2-server)\.service\b")
INVALID_CONFIGURATION = "78"


def pod(form: Form, one: Pod, path: Path, config: Configuration | None, config_file: Path | None) -> Iterator[Finding]:
    """A manifest of any of the three forms."""
    subject = str(path)
    yield from _needs_of_api(form, one, subject)
    if form != "sidecar":
        if (
            one.spec.get("hostNetwork") is not True
            or one.spec.get("dnsPolicy", "ClusterFirst") == "ClusterFirstWithHostNet"
        ):
            yield found(82, "warn", subject, "hostNetwork is not true, or dnsPolicy asks the cluster's DNS")
        if one.spec.get("priorityClassName") not in CRITICAL:
            yield found(83, "warn", subject, f"priorityClassName is {one.spec.get('priorityClassName') or 'not set'}")
    yield from _probes(one, subject)
    policy = one.container.get("imagePullPolicy")
    if policy == "Always" or (one.image_tag in ("", "latest") and "@" not in str(one.container.get("image"))):
        yield found(
            88, "warn", subject, f"image {one.container.get('image')} with imagePullPolicy {policy or 'not set'}"
        )
    if config is not None:
        yield from _sees(form, one, subject, config, config_file)
        user = one.user()
        if user is not None:
            yield from _may_read(user, user, subject, config)
    if form == "daemonset" or one.kind == "DaemonSet":
        yield found(89, "warn", subject, "a DaemonSet")


def _needs_of_api(form: Form, one: Pod, subject: str) -> Iterator[Finding]:
    needs = [f"volume {volume.name} is a {volume.kind}" for volume in one.volumes() if volume.kind in FROM_API]
    if form != "sidecar":
        needs += ["imagePullSecrets"] if one.spec.get("imagePullSecrets") else []
        if one.spec.get("serviceAccountName") or one.spec.get("serviceAccount"):
            needs.append("a service account")
    for variable in one.container.get("env") or ():
        source = variable.get("valueFrom") or {}
        needs += [f"variable {variable.get('name')}" for kind in ("secretKeyRef", "configMapKeyRef") if kind in source]
    needs += ["envFrom"] if one.container.get("envFrom") else []
    for need in needs:
        yield found(81, "fail", subject, need)


def _probes(one: Pod, subject: str) -> Iterator[Finding]:
    for name in ("livenessProbe", "startupProbe"):
        probe: Any = one.container.get(name) or {}
        path = str((probe.get("httpGet") or {}).get("path", ""))
        words = " ".join(map(str, (probe.get("exec") or {}).get("command") or ()))
        if "readyz" in path or "readyz" in words or "self-test" in words or "status" in words.split():
            yield found(85, "fail", subject, f"{name} asks {path or words}")


def _sees(form: Form, one: Pod, subject: str, config: Configuration, config_file: Path | None) -> Iterator[Finding]:
    files = [path for key in config.keys for path in named_files(key).values()]
    if config_file is not None:
        files.append(config_file)
    for path in files:
        if one.mount_of(path) is None:
            yield found(84, "fail", subject, f"{path} is not mounted")
    if config.state_dir is not None:
        mount = one.mount_of(config.state_dir)
        if mount is None or mount.read_only:
            yield found(84, "fail", subject, f"{config.state_dir} is {'not mounted' if mount is None else 'read-only'}")
    for endpoint in config.endpoints:
        socket = endpoint.socket.path
        if socket is None:
            continue
        mount = one.mount_of(socket)
        if mount is None or mount.path == socket or mount.sub_path or mount.read_only:
            yield found(84, "fail", subject, f"{socket.parent} is not mounted as a directory that can be written")
        elif form != "sidecar" and mount.volume.kind != "hostPath":
            yield found(
                84, "fail", subject, f"{socket.parent} is a {mount.volume.kind}, which kube-apiserver cannot see"
            )


def unit(text: str, path: Path, config: Configuration | None) -> Iterator[Finding]:
    """A systemd unit."""
    subject = str(path)
    values = _values(text)
    if "keystead" not in values.get("ExecStart", ""):
        yield found(80, "fail", subject, "no ExecStart that runs keystead")
    if not LATER.search(values.get("Before", "")):
        yield found(86, "fail", subject, "not Before= kubelet.service, k3s.service or rke2-server.service")
    if values.get("Restart", "no") == "no":
        yield found(86, "fail", subject, "no Restart=")
    if INVALID_CONFIGURATION not in values.get("RestartPreventExitStatus", "").split():
        yield found(86, "warn", subject, "no RestartPreventExitStatus=78: it would restart for ever with a bad file")
    if not values.get("OOMScoreAdjust", "").startswith("-"):
        yield found(83, "warn", subject, "no OOMScoreAdjust below 0")
    if values.get("RuntimeDirectory") and values.get("RuntimeDirectoryPreserve", "no") != "yes":
        yield found(
            90, "fail", subject, f"RuntimeDirectoryPreserve is {values.get('RuntimeDirectoryPreserve', 'not set')}"
        )
    user = values.get("User")
    if config is not None and user not in (None, "root", "0"):
        try:
            entry = pwd.getpwnam(user) if not user.isdecimal() else pwd.getpwuid(int(user))
        except KeyError:
            yield found(87, "fail", subject, f"there is no user {user}")
            return
        group = values.get("Group")
        gid = grp.getgrnam(group).gr_gid if group and not group.isdecimal() else int(group or entry.pw_gid)
        yield from _may_read(entry.pw_uid, gid, subject, config)


def _values(text: str) -> dict[str, str]:
    """Assignments of a unit; those that are given several times are joined, as systemd joins lists."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith(("#", ";")):
            values[name.strip()] = f"{values.get(name.strip(), '')} {value.strip()}".strip()
    return values


def _may_read(uid: int, gid: int, subject: str, config: Configuration) -> Iterator[Finding]:
    if uid == 0:
        return
    for key in config.keys:
        for path in named_files(key).values():
            try:
                status = os.stat(path)  # noqa: PTH116  as the line below, by number
            except OSError:
                continue
            bit = stat.S_IRUSR if status.st_uid == uid else stat.S_IRGRP if status.st_gid == gid else stat.S_IROTH
            if not status.st_mode & bit:
                yield found(87, "fail", subject, f"user {uid} may not read {path}")
