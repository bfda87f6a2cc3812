"""Remote keys as records and nodes name them, and as an operator does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keystead import registry
from keystead._core import ROLE_ONLINE, Record

_SCHEME = re.compile(r"[a-z0-9-]{1,32}")


class UnknownKey(Exception):
    """Nothing that was looked at names this key, which may be a typing error; the message lists what is named."""


@dataclass(frozen=True, slots=True, order=True)
class RemoteKey:
    """One remote key; what records call it."""

    scheme: str
    ref: str

    def __str__(self) -> str:
        return f"{self.scheme} {self.ref}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key, or one version of it."""

    key: RemoteKey
    version: str | None

    def __str__(self) -> str:
        return f"{self.key} version {self.version}" if self.version is not None else str(self.key)

    def covers(self, key: RemoteKey, version: str) -> bool:
        """Whether this wrap is gone when what is wanted is."""
        return key == self.key and self.version in (None, version)


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """What one node says of its keys."""

    name: str
    age: float
    """Seconds since it said so."""
    endpoints: tuple[EndpointKeys, ...]


@dataclass(frozen=True, slots=True)
class EndpointKeys:
    """The keys of one endpoint on one node."""

    name: str
    members: Mapping[RemoteKey, Member]
    unknown: tuple[str, ...]
    """Names of members whose ref this node does not know, because it could not open them."""
    in_use: tuple[tuple[RemoteKey, str], ...]
    """Online wraps of the record that it encrypts under: key and version."""
    has_record: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A configured key."""

    name: str
    active: bool
    online: bool
    up: bool
    reads: str | None
    """Another KMS plugin whose ciphertexts it reads too."""


@dataclass(slots=True)
class Named:
    """Every key that records or nodes name."""

    keys: set[RemoteKey] = field(default_factory=set)
    names: dict[str, set[RemoteKey]] = field(default_factory=dict)
    """Names in the configurations of nodes, where two nodes may mean two keys."""

    def add_node(self, node: NodeKeys) -> None:
        for endpoint in node.endpoints:
            for key, member in endpoint.members.items():
                self.keys.add(key)
                self.names.setdefault(member.name, set()).add(key)

    def find(self, text: str) -> Wanted:
        """Resolve what an operator typed: a configured name, a ref, or `scheme:ref`, each with `@version` or without.

        Raises `UnknownKey`.
        """
        for name, version in _readings(text):
            found = self.names.get(name, set()) | {
                key for key in self.keys if name in (key.ref, f"{key.scheme}:{key.ref}")
            }
            if len(found) > 1:
                several = ", ".join(f"{key.scheme}:{key.ref}" for key in sorted(found))
                raise UnknownKey(f"{name} may be each of {several}: write one of these")
            if found:
                return Wanted(found.pop(), version)
        installed = {provider.name for provider in registry.names()}
        for name, version in _readings(text):
            # Spelled out, a key may be one that nothing names any more, which is what one hopes for.
            scheme, colon, ref = name.partition(":")
            if colon and ref and scheme in installed and _SCHEME.fullmatch(scheme):
                return Wanted(RemoteKey(scheme, ref), version)
        known = ", ".join(sorted({*self.names, *(f"{key.scheme}:{key.ref}" for key in self.keys)})) or "none"
        raise UnknownKey(f"no record and no node names a key {text}; named are: {known}")


def online_wraps(record: Record) -> Iterator[tuple[RemoteKey, str]]:
    """Return the key and the version of each wrap that a running plugin can use."""
    for wrap in record.wraps:
        if wrap.role == ROLE_ONLINE:
            yield RemoteKey(wrap.scheme, wrap.ref), wrap.version


def node_keys(status: Mapping[str, Any], now: float) -> NodeKeys:
    """Read what `keystead status -o json` printed. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    return NodeKeys(str(status["node"]), now - float(status["time"]), tuple(map(_endpoint, status["endpoints"])))


def _endpoint(one: Mapping[str, Any]) -> EndpointKeys:
    members = {
        RemoteKey(str(key["provider"]), str(key["ref"])): Member(
            str(key["name"]), key["stage"] == "active", key["role"] == "online", bool(key["up"]), key.get("reads")
        )
        for key in one["keys"]
        if key["ref"] is not None
    }
    record = one["record"]
    in_use = tuple(
        (RemoteKey(str(wrap["scheme"]), str(wrap["ref"])), str(wrap["version"]))
        for wrap in (record["wraps"] if record is not None else ())
        if wrap["role"] == "online"
    )
    unknown = tuple(str(key["name"]) for key in one["keys"] if key["ref"] is None)
    return EndpointKeys(str(one["name"]), members, unknown, in_use, record is not None)


def _readings(text: str) -> Collection[tuple[str, str | None]]:
    """Return the ways to read it: as a whole first, for a ref may have an @ in it."""
    name, at, version = text.rpartition("@")
    return [(text, None), (name, version)] if at and name else [(text, None)]
