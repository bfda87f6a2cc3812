"""Whether kube-apiserver's EncryptionConfiguration fits this configuration: the mistakes that are found too late.

kube-apiserver checks the form of the file itself. What it cannot see is what its own reading makes of a socket, which
provider stands first, and what listens behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keystead.config.document import read
from keystead.config.models import Configuration, EndpointConfig
from keystead.config.problems import Location, Problem
from keystead.config.relations import Finding
from keystead.config.values import Socket, parse_duration
from keystead.suggest import did_you_mean

API_VERSION = "apiserver.config.k8s.io/v1"
KIND = "EncryptionConfiguration"
ANSWER_TIME = 2.8
"""Seconds below which a timeout cuts calls off: the plugin answers within 2.5 s and leaves 0.3 s for the way."""

_TOP = ("apiVersion", "kind", "resources")
_ENTRY = ("resources", "providers")
_PROVIDERS = ("aesgcm", "aescbc", "secretbox", "identity", "kms")
_KMS = ("apiVersion", "name", "cachesize", "endpoint", "timeout")
_WIRE = {"v1": "v1beta1", "v2": "v2"}
"""The name in the file, and the version of the API that is spoken."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found: what cannot work, and what deserves a second look."""

    problems: list[Problem]
    warnings: list[Problem]


def judge(text: str, name: str, configuration: Configuration | None) -> Judged:
    """Check the file against a configuration, or alone without one. Raises `ConfigInvalid` for what is not YAML."""
    document = read(text, name)
    checker = _Checker(configuration)
    problems = [document.problem(where, message) for where, message in checker.errors(document.tree)]
    problems += [document.problem(where, message, at_key=True) for where, message in checker.unknown]
    warnings = [document.problem(where, message) for where, message in checker.warnings]
    return Judged(_sorted(problems), _sorted(warnings))


def _sorted(found: list[Problem]) -> list[Problem]:
    return sorted(found, key=lambda one: (one.line, one.column))


class _Checker:
    def __init__(self, configuration: Configuration | None) -> None:
        self._endpoints = {} if configuration is None else {_address(one): one for one in configuration.endpoints}
        self._alone = configuration is None
        self._names: dict[str, Location] = {}
        self._used: set[str] = set()
        self.warnings: list[Finding] = []
        self.unknown: list[Finding] = []
        """Fields that do not exist, which are shown where their names stand and not their values."""

    def errors(self, tree: Any) -> Iterator[Finding]:
        """Yield what cannot work; what deserves a second look gathers in `warnings`."""
        if not isinstance(tree, dict):
            yield (), "should be a mapping of fields"
            return
        self._unknown(tree, _TOP, ())
        for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            if tree.get(field) != wanted:
                yield (field,), f"should be {wanted}"
        entries = tree.get("resources")
        if not isinstance(entries, list) or not entries:
            yield ("resources",), "should be a list of resources with their providers"
            return
        for index, entry in enumerate(entries):
            yield from self._entry(entry, ("resources", index))
        for address, endpoint in self._endpoints.items():
            if address not in self._used:
                self._warn((), f"no entry uses the endpoint {endpoint.name}, {endpoint.socket.uri}")

    def _entry(self, entry: Any, here: Location) -> Iterator[Finding]:
        if not isinstance(entry, dict):
            yield here, "should be a mapping of fields"
            return
        self._unknown(entry, _ENTRY, here)
        resources = entry.get("resources")
        if not isinstance(resources, list) or not resources:
            yield (*here, "resources"), "should be a list such as [secrets]"
        for index, resource in enumerate(resources if isinstance(resources, list) else ()):
            if resource in ("*.*", "*."):
                self._warn(
                    (*here, "resources", index),
                    "has what the API server needs for its own start: with a plugin that is late it ends and starts "
                    "anew, again and again; list the resources that matter instead",
                )
        providers = entry.get("providers")
        if not isinstance(providers, list) or not providers:
            yield (*here, "providers"), "should be a list of providers"
            return
        kinds = []
        for index, provider in enumerate(providers):
            kinds.append(_kind(provider))
            yield from self._provider(provider, (*here, "providers", index))
        self._order(kinds, (*here, "providers"))

    def _order(self, kinds: list[str | None], here: Location) -> None:
        """The first provider writes, all of them read."""
        if "kms" not in kinds:
            return
        first = kinds[0]
        if first == "identity":
            self._warn(
                (*here, 0),
                "is first, so new objects are written in plaintext; right only until every API server knows kms",
            )
        elif first != "kms":
            self._warn((*here, 0), f"is first, so new objects are written with {first} and not with kms")
        elif "identity" in kinds:
            self._warn(
                (*here, kinds.index("identity")),
                "is left, so plaintext that somebody puts into etcd is accepted; take it away when all is rewritten",
            )

    def _provider(self, provider: Any, here: Location) -> Iterator[Finding]:
        if not isinstance(provider, dict) or len(provider) != 1:
            yield here, f"should have exactly one of {', '.join(_PROVIDERS)}"
            return
        self._unknown(provider, _PROVIDERS, here)
        if "kms" in provider:
            yield from self._kms(provider["kms"], (*here, "kms"))

    def _kms(self, kms: Any, here: Location) -> Iterator[Finding]:
        if not isinstance(kms, dict):
            yield here, "should be a mapping of fields"
            return
        self._unknown(kms, _KMS, here)
        version = kms.get("apiVersion", "v1")
        if not isinstance(version, str) or version not in _WIRE:
            yield (*here, "apiVersion"), "should be v2"
            version = "v2"
        elif version == "v1":
            how = "is KMS v1" if "apiVersion" in kms else "is not set, and that means KMS v1"
            self._warn(
                (*here, "apiVersion"),
                f"{how}: deprecated, and off since Kubernetes 1.29 without --feature-gates=KMSv1=true; write v2",
            )
        yield from self._name(kms.get("name"), version, (*here, "name"))
        yield from _cachesize(kms, version, here)
        yield from self._timeout(kms.get("timeout", "3s"), (*here, "timeout"))
        yield from self._endpoint(kms.get("endpoint"), version, (*here, "endpoint"))

    def _name(self, name: Any, version: str, here: Location) -> Iterator[Finding]:
        if not isinstance(name, str) or not name:
            yield here, "should be a name; it is part of what is stored, so choose it once"
        elif version == "v2" and ":" in name:
            yield here, "has a ':', which kube-apiserver refuses: the name ends with one in what is stored"
        elif name in self._names:
            yield here, f"{name[:64]!r} is the name of another kms provider too; give each its own"
        else:
            self._names[name] = here

    def _timeout(self, timeout: Any, here: Location) -> Iterator[Finding]:
        try:
            seconds = parse_duration(timeout)
        except ValueError as exc:
            yield here, str(exc)
            return
        if seconds <= 0:
            yield here, "should be more than 0"
        elif seconds < ANSWER_TIME:
            self._warn(
                here, f"is short: the plugin answers within 2.5 s, and a call that is cut off at {timeout} fails"
            )

    def _endpoint(self, endpoint: Any, version: str, here: Location) -> Iterator[Finding]:
        try:
            socket = Socket.parse(_three_slashes(endpoint))
        except ValueError as exc:
            yield here, str(exc)
            return
        address = _path(socket)
        served = self._endpoints.get(address)
        if served is None:
            if not self._alone:
                guess = did_you_mean(address, self._endpoints)
                self._warn(
                    here, f"no endpoint of this configuration listens there{guess}; right only for another plugin"
                )
            return
        self._used.add(address)
        if _WIRE[version] not in served.kms_versions:
            spoken = ", ".join(served.kms_versions)
            yield here, f"the endpoint {served.name} does not serve KMS {version}: its kmsVersions are {spoken}"

    def _unknown(self, fields: dict[str, Any], known: tuple[str, ...], here: Location) -> None:
        for field in fields:
            if field not in known:
                message = f"unknown field{did_you_mean(field, known)}; kube-apiserver refuses the file"
                self.unknown.append(((*here, field), message))

    def _warn(self, where: Location, message: str) -> None:
        self.warnings.append((where, message))


def _cachesize(kms: dict[str, Any], version: str, here: Location) -> Iterator[Finding]:
    if "cachesize" not in kms:
        return
    if version == "v2":
        yield (*here, "cachesize"), "is refused with v2, which has no such cache; take it away"
    elif kms["cachesize"] == 0:
        yield (*here, "cachesize"), "cannot be 0; a negative number turns the cache off"


def _three_slashes(endpoint: Any) -> Any:
    """kube-apiserver takes unix:/run/x for unix:///run/x."""
    if isinstance(endpoint, str) and endpoint.startswith("unix:/") and not endpoint.startswith("unix://"):
        return f"unix://{endpoint.removeprefix('unix:')}"
    return endpoint


def _kind(provider: Any) -> str | None:
    return next(iter(provider)) if isinstance(provider, dict) and len(provider) == 1 else None


def _address(endpoint: EndpointConfig) -> str:
    return _path(endpoint.socket)


def _path(socket: Socket) -> str:
    return f"@{socket.abstract}" if socket.path is None else str(socket.path)
