"""What fields of a configuration demand of each other.

These checks read the raw values and pass over what has the wrong form, so that one mistake elsewhere does not hide
them: all problems are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from keystead.config.models import Configuration, ProviderLookup
from keystead.config.problems import Location
from keystead.suggest import did_you_mean

Finding = tuple[Location, str]

LOCAL = "local"
"""The one provider whose keys are not shared with other clusters."""


def findings(tree: Any) -> Iterator[Finding]:
    """Yield the place and the text of each broken relation."""
    yield from _blanks(tree, ())
    if not isinstance(tree, dict):
        return
    keys = list(_mappings(tree, "keys"))
    endpoints = list(_mappings(tree, "endpoints"))
    yield from _cluster(tree, keys)
    yield from _unique((("acceptClusters", index), text) for index, text in _texts(tree, "acceptClusters"))
    yield from _unique((("keys", index, "name"), key.get("name")) for index, key in keys)
    yield from _unique((("endpoints", index, "name"), endpoint.get("name")) for index, endpoint in endpoints)
    yield from _unique((("endpoints", index, "socket"), endpoint.get("socket")) for index, endpoint in endpoints)
    observability = tree.get("observability")
    admin = observability.get("admin") if isinstance(observability, dict) else None
    if admin and admin in [endpoint.get("socket") for _, endpoint in endpoints]:
        yield ("observability", "admin"), "is the socket of an endpoint; give another one"
    names = [key["name"] for _, key in keys if isinstance(key.get("name"), str)]
    for index, endpoint in endpoints:
        for location, message in _endpoint(endpoint, names):
            yield ("endpoints", index, *location), message


def _blanks(tree: Any, location: Location) -> Iterator[Finding]:
    """A field without a value looks set to whoever reads the file, and is not."""
    if tree is None:
        yield location, "has no value; give one, or take the field away"
    elif isinstance(tree, dict | list):
        for part, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _blanks(child, (*location, part))


def _cluster(tree: dict[str, Any], keys: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    remote = [key for _, key in keys if isinstance(key.get("provider"), str) and key["provider"] != LOCAL]
    if remote and tree.get("cluster", "") == "":
        yield (
            ("cluster",),
            "should be set: it is bound into every record, so that nobody can move one here from another "
            f"cluster with the same remote key; only a configuration whose keys are all {LOCAL} may go without",
        )


def _endpoint(endpoint: dict[str, Any], names: list[str]) -> Iterator[Finding]:
    versions = list(_texts(endpoint, "kmsVersions"))
    yield from _unique((("kmsVersions", index), text) for index, text in versions)
    if versions and "v2" not in dict(versions).values() and "statusVersion" in endpoint:
        yield ("statusVersion",), "has no effect without v2 in kmsVersions; take it away"
    socket = endpoint.get("socket")
    if isinstance(socket, str) and socket.startswith("unix:///@"):
        for field in ("socketMode", "socketGroup"):
            if field in endpoint:
                yield (field,), "has no effect on an abstract socket, which has no permissions; take it away"
    members = list(_mappings(endpoint, "members"))
    yield from _unique((("members", index, "key"), member.get("key")) for index, member in members)
    for index, member in members:
        key = member.get("key")
        if isinstance(key, str) and key not in names:
            yield ("members", index, "key"), f"no entry of keys has the name {key[:64]!r}{did_you_mean(key, names)}"
        if member.get("role") == "recovery" and member.get("stage") == "decrypt":
            yield (
                ("members", index, "stage"),
                "should be active for a recovery key: nothing here ever decrypts with it; take it away if nothing new "
                "is to be wrapped under it",
            )
    active = [member for _, member in members if member.get("stage") != "decrypt"]
    if members and not active:
        yield ("members",), "none has the stage active, so that nothing could be encrypted"
    elif members and all(member.get("role") == "recovery" for member in active):
        yield ("members",), "none is both active and online, so that nothing could be decrypted but by hand"


def public_wraps(configuration: Configuration, lookup: ProviderLookup) -> Iterator[Finding]:
    """Yield each online member whose provider lets anybody wrap."""
    providers = {key.name: key.provider for key in configuration.keys}
    for index, endpoint in enumerate(configuration.endpoints):
        for number, member in enumerate(endpoint.members):
            provider = providers[member.key]
            if member.role == "online" and not lookup(provider).capabilities.authenticated_wrap:
                yield (
                    ("endpoints", index, "members", number),
                    f"should have the role recovery: {provider} wraps with a public key, so whoever can write to etcd "
                    "could plant a local KEK that he knows, and this plugin would accept it",
                )


def _unique(values: Iterable[tuple[Location, Any]]) -> Iterator[Finding]:
    seen: set[str] = set()
    for location, value in values:
        if not isinstance(value, str):
            continue
        if value in seen:
            yield location, f"{value[:64]!r} is given twice"
        seen.add(value)


def _mappings(tree: dict[str, Any], field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    items = tree.get(field)
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield index, item


def _texts(tree: dict[str, Any], field: str) -> Iterator[tuple[int, str]]:
    items = tree.get(field)
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, str):
            yield index, item
