"""All checks of one node in their order, once, or again and again until they pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keystead import errors
from keystead.config import ConfigInvalid, Configuration, Problem, lint_text, load_text, read_file
from keystead.host.state import StateDir
from keystead.operate.doctor import apiserver, bootstrap, files, form, listening, manifest, remote
from keystead.operate.doctor.book import CHECKS, Check, Finding, found
from keystead.operate.doctor.machine import Machine
from keystead.provider import Provider, ProviderConfig

PAUSE = 5.0
"""Seconds between two rounds of `--wait`."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is to be looked over."""

    config_file: Path | None
    """The configuration, or `None` with `config_text`."""
    config_text: str | None = None
    form: form.Form | None = None
    manifest: Path | None = None
    """The plugin's own; the form's usual place without it."""
    encryption: Path | None = None
    apiserver: Path | None = None
    """kube-apiserver's manifest, if it has one."""
    kubernetes: str | None = None
    """The API server's version, where no manifest tells it."""
    machine: Machine = field(default_factory=Machine)


@dataclass(frozen=True, slots=True)
class Helpers:
    """What belongs to other parts of the program."""

    provider_class: Callable[[str], type[Provider[Any]]]
    directory_refused: listening.Refusal
    path_refused: listening.Refusal


@dataclass(frozen=True, slots=True)
class Result:
    """One round."""

    findings: tuple[Finding, ...]
    looked_at: tuple[Check, ...]
    """All checks that had something to look at, in the book's order."""

    def of(self, level: str) -> list[Finding]:
        """The findings of one level."""
        return [one for one in self.findings if one.level == level]

    @property
    def passed(self) -> list[Check]:
        """The checks without a finding."""
        bad = {one.check.id for one in self.findings}
        return [check for check in self.looked_at if check.id not in bad]


def once(node: Node, helpers: Helpers) -> Result:
    """Look at everything that there is. Never raises for what it finds."""
    round_ = _Round(node, helpers)
    findings = sorted(round_.run(), key=lambda one: one.check.id)
    return Result(tuple(findings), tuple(check for check in CHECKS.values() if check.id in round_.covered))


def until_well(
    node: Node,
    helpers: Helpers,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Look again until nothing fails and nothing is unknown, or the time is over."""
    ends = clock() + seconds
    while True:
        result = once(node, helpers)
        left = ends - clock()
        if left <= 0 or not (result.of("fail") or result.of("unknown")):
            return result
        sleep(min(PAUSE, left))


class _Round:
    def __init__(self, node: Node, helpers: Helpers) -> None:
        self._node = node
        self._helpers = helpers
        self.covered: set[str] = set()

    def run(self) -> Iterator[Finding]:
        node, machine = self._node, self._node.machine
        config, problems, warnings = self._configuration()
        yield from self._covering((1, 2, 3, 6), files.configuration(node.config_file, problems, warnings, machine))
        yield from self._covering((10,), files.clock(machine))
        server = self._apiserver()
        services = self._services(server)
        yield from self._covering((52,), bootstrap.names(machine, services))
        if config is not None:
            yield from self._of_configuration(config, services)
        yield from self._of_apiserver(server, config)
        if node.form is not None:
            yield from self._of_form(node.form, config)

    def _covering(self, numbers: Iterable[int], findings: Iterable[Finding]) -> Iterable[Finding]:
        self.covered.update(f"KS-D{number:03}" for number in numbers)
        return findings

    def _configuration(self) -> tuple[Configuration | None, list[Problem], list[Problem]]:
        node, lookup = self._node, self._helpers.provider_class
        name = str(node.config_file) if node.config_file is not None else "KEYSTEAD_CONFIG_INLINE"
        try:
            text = read_file(node.config_file) if node.config_file is not None else node.config_text or ""
            return load_text(text, name, lookup=lookup), [], lint_text(text, name, lookup=lookup)
        except ConfigInvalid as exc:
            return None, exc.problems, []

    def _of_configuration(self, config: Configuration, services: bootstrap.Networks) -> Iterator[Finding]:
        helpers, machine = self._helpers, self._node.machine
        if config.state_dir is not None:
            yield from self._covering((7, 8, 9, 11), files.state(config, machine))
        for endpoint in config.endpoints:
            if endpoint.socket.path is not None:
                live = listening.is_live(endpoint.socket.path)
                yield from self._covering(
                    (20, 21, 23) if live else (20, 21),
                    listening.endpoint(endpoint, helpers.directory_refused, helpers.path_refused),
                )
        if config.admin_socket is not None and listening.is_live(config.admin_socket):
            yield from self._covering((24,), listening.running(config))
        if config.observability.http.address:
            yield from self._covering((22,), listening.port(config, machine))
        for key in config.keys:
            yield from self._covering((4, 5, 6), files.of_key(key))
            yield from self._covering((50, 51), bootstrap.of_key(key, services))
        yield from self._covering(range(30, 43), self._keys(config))

    def _keys(self, config: Configuration) -> Iterator[Finding]:
        trials = [(key, _trial(key, config)) for key in config.keys]
        used = [(key, trial) for key, trial in trials if trial is not None]
        if not used:
            return
        with ThreadPoolExecutor(len(used), thread_name_prefix="doctor") as pool:
            for several in pool.map(lambda pair: self._key(*pair), used):
                yield from several

    def _key(self, key: ProviderConfig, trial: remote.Trial) -> list[Finding]:
        provider_class = self._helpers.provider_class(key.provider)
        return list(remote.of_key(key, provider_class, trial, self._node.machine.now()))

    def _apiserver(self) -> manifest.Pod | None:
        path = self._node.apiserver
        if path is None:
            return None
        try:
            return manifest.read(path, "kube-apiserver")
        except manifest.Unreadable:
            return None

    def _services(self, server: manifest.Pod | None) -> bootstrap.Networks:
        given = server.flag("service-cluster-ip-range") if server is not None else None
        try:
            return bootstrap.networks(given or bootstrap.KUBEADM_SERVICES)
        except ValueError:
            return bootstrap.networks(bootstrap.KUBEADM_SERVICES)

    def _of_apiserver(self, server: manifest.Pod | None, config: Configuration | None) -> Iterator[Finding]:
        node = self._node
        encryption = node.encryption
        if encryption is not None:
            yield from self._covering(range(60, 69), apiserver.encryption(encryption, config))
        if node.apiserver is not None:
            if server is None:
                self._covering((71,), ())
                yield found(71, "unknown", str(node.apiserver), "is no manifest of kube-apiserver that can be read")
            else:
                yield from self._covering(
                    (70, 71, 72, 76, 77), apiserver.manifest(server, node.apiserver, encryption, config)
                )
        minor = apiserver.minor_version(node.kubernetes or (server.image_tag if server is not None else ""))
        if minor is not None and config is not None:
            gates = server.flag("feature-gates") if server is not None else None
            uses_v1 = any("v1beta1" in endpoint.kms_versions for endpoint in config.endpoints)
            yield from self._covering((73, 74, 75), apiserver.version(minor, gates, config, uses_v1))

    def _of_form(self, chosen: form.Form, config: Configuration | None) -> Iterator[Finding]:
        path = self._node.manifest or form.DEFAULT.get(chosen)
        self._covering((80,), ())
        if path is None:
            yield found(80, "unknown", chosen, "name its manifest with --manifest")
            return
        try:
            if chosen == "systemd":
                yield from self._covering((83, 86, 87, 90), form.unit(path.read_text(), path, config))
            else:
                pod = manifest.read(path, "keystead")
                numbers = (81, 84, 85, 87, 88, 89) if chosen == "sidecar" else (81, 82, 83, 84, 85, 87, 88, 89)
                yield from self._covering(numbers, form.pod(chosen, pod, path, config, self._node.config_file))
        except manifest.Unreadable as exc:
            yield found(80, "fail", str(path), str(exc))
        except (OSError, UnicodeDecodeError) as exc:
            yield found(80, "fail", str(path), getattr(exc, "strerror", None) or "is not text")


def _trial(key: ProviderConfig, config: Configuration) -> remote.Trial | None:
    """What a key has to be able to do, over all endpoints; `None` if none has it."""
    parts = [
        (endpoint, member) for endpoint in config.endpoints for member in endpoint.members if member.key == key.name
    ]
    if not parts:
        return None
    records = []
    for endpoint, _ in parts:
        if config.state_dir is not None:
            try:
                stored = StateDir(config.state_dir / endpoint.name).read()
            except (OSError, errors.KeysteadError):
                continue
            if stored is not None:
                records.append(stored.record)
    return remote.Trial(
        wraps=any(member.stage == "active" for _, member in parts),
        unwraps=any(member.role == "online" for _, member in parts),
        records=records,
        cluster=config.cluster,
    )
