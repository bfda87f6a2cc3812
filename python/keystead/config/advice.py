"""What is allowed in a configuration and still deserves a second look: the warnings of `keystead config lint`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from keystead.config.models import Configuration, EndpointConfig, ProviderLookup
from keystead.config.relations import LOCAL, Finding
from keystead.provider import ProviderConfig

SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # the places to warn of
GROUP_WRITE = 0o020
"""Connecting to a socket needs write permission."""


def findings(configuration: Configuration, lookup: ProviderLookup) -> Iterator[Finding]:
    """Yield the place and the text of each warning."""
    if configuration.state_dir is None:
        yield (
            ("stateDir",),
            "is not set: each start makes a new local KEK, for which all active keys must answer",
        )
    used = {member.key for endpoint in configuration.endpoints for member in endpoint.members}
    for index, key in enumerate(configuration.keys):
        if key.name not in used:
            yield ("keys", index), f"{key.name} is a member of no endpoint and is not opened"
        elif (reader := reads(key)) is not None:
            yield (
                ("keys", index, "compat"),
                f"{key.name} also decrypts what {reader} wrote, which nothing binds to this cluster: take it away once "
                "keystead inventory finds nothing of another plugin",
            )
        elif key.provider == LOCAL:
            yield (
                ("keys", index, "provider"),
                f"{LOCAL} keeps {key.name} in a file of this node, which protects nothing from whoever reads the disk: "
                "for development and tests",
            )
        elif notice := _notice(key, lookup):
            yield ("keys", index), notice
    for index, endpoint in enumerate(configuration.endpoints):
        for location, message in _endpoint(endpoint):
            yield ("endpoints", index, *location), message


def _notice(key: ProviderConfig, lookup: ProviderLookup) -> str | None:
    """What `serve` logs about this key at its start, which it does not open here."""
    try:
        return lookup(key.provider)(key).notice
    except Exception:  # noqa: BLE001  a vendor may raise anything, and no advice is no fault of the configuration
        return None


def _endpoint(endpoint: EndpointConfig) -> Iterator[Finding]:
    path = endpoint.socket.path
    if path is None:
        yield ("socket",), "is abstract: every process in this network namespace can connect, and so decrypt"
    elif any(PurePath(shared) in path.parents for shared in SHARED):
        yield (
            ("socket",),
            "is in a directory where every user may create files; use one of its own, such as /run/keystead",
        )
    if endpoint.socket_group is not None and not endpoint.socket_mode & GROUP_WRITE:
        yield ("socketGroup",), 'cannot connect with this socketMode; give the group access with "0660"'
    if "v1beta1" in endpoint.kms_versions:
        yield (
            ("kmsVersions",),
            "has v1beta1, which Kubernetes deprecates: rotation is invisible there, and every object costs a call",
        )
    active = [member.key for member in endpoint.members if member.stage == "active" and member.role == "online"]
    if len(active) > 1:
        yield (
            ("members",),
            f"any one of {', '.join(active)} opens everything that is written: as safe as the weakest of them",
        )


def reads(key: ProviderConfig) -> str | None:
    """The other KMS plugin whose ciphertexts a key reads too. A provider that can do that has the field `compat`."""
    reader: object = getattr(getattr(key, "compat", None), "reader", None)
    return reader if isinstance(reader, str) else None
