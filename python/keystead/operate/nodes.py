"""What one node says of itself, from its status document or from its metrics, in one form that can be compared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keystead._core import key_id_epoch
from keystead.host.report import key_id_hash
from keystead.operate.admin import CannotTell


@dataclass(frozen=True, slots=True)
class Key:
    """One member of an endpoint on one node."""

    name: str
    provider: str
    ref: str | None
    """`None` if it is not known, which metrics never tell."""
    stage: str
    role: str
    up: bool
    proven: bool
    """Whether this node has wrapped and unwrapped a value with it since its start, and it works still."""
    soak_left: float
    version: str | None
    """Its version in the record; `None` if it is not in it, or not known."""
    error: str | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint on one node."""

    name: str
    healthy: bool
    healthz: str
    configured_epoch: int
    epoch_in_use: int | None
    """That of the key_id; `None` if there is none yet."""
    key_id: str
    """Empty if it is not known."""
    key_id_hash: str
    """Empty if there is none yet."""
    refused: str | None
    overdue: str | None
    keys: Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Node:
    """One node."""

    name: str
    age: float
    """Seconds since it said this."""
    version: str
    cluster: str
    problems: tuple[str, ...]
    """Why its configuration file is not in use."""
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


def of_document(document: Mapping[str, Any], source: str, now: float | None = None) -> Node:
    """Read a status document. Raises `CannotTell` if it lacks what is compared."""
    try:
        return Node(
            name=str(document["node"]),
            age=(now if now is not None else time.time()) - float(document["time"]),
            version=str(document["version"]),
            cluster=str(document["cluster"]),
            problems=tuple(map(str, document["configuration"]["problems"])),
            endpoints={str(one["name"]): _endpoint(one) for one in document["endpoints"]},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise CannotTell(f"{source}: a status without {exc}: written by another release?") from exc


def _endpoint(one: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        name=str(one["name"]),
        healthy=one["healthz"] == "ok",
        healthz=str(one["healthz"]),
        configured_epoch=int(one["epoch"]),
        epoch_in_use=key_id_epoch(str(one["keyID"])) if one["keyID"] else None,
        key_id=str(one["keyID"]),
        key_id_hash=key_id_hash(str(one["keyID"])) if one["keyID"] else "",
        refused=one["refused"],
        overdue=one["overdue"],
        keys={str(key["name"]): _key(key) for key in one["keys"]},
    )


def _key(key: Mapping[str, Any]) -> Key:
    return Key(
        name=str(key["name"]),
        provider=str(key["provider"]),
        ref=key["ref"],
        stage=str(key["stage"]),
        role=str(key["role"]),
        up=bool(key["up"]),
        proven=key["provenAt"] is not None and bool(key["up"]),
        soak_left=float(key["soakLeft"]),
        version=key["version"],
        error=key["error"],
    )
