"""What has to be known beside a backup of etcd to read it one day: which keys, in which versions. All is public."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keystead import __version__
from keystead._core import ROLE_RECOVERY, Record, StateFile
from keystead.config import Configuration, EndpointConfig
from keystead.errors import MalformedRequest
from keystead.host.report import key_id_hash
from keystead.operate.describe import time_text
from keystead.operate.inventory import lines, provider_text
from keystead.operate.store import SnapshotStore
from keystead.operate.survey import Survey

API_VERSION = "backup.keystead.dev/v1alpha1"


def manifest(now: datetime | None = None) -> dict[str, Any]:
    """Begin one."""
    made = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    return {"apiVersion": API_VERSION, "kind": "BackupManifest", "made": made, "keystead": __version__}


def of_configuration(config: Configuration) -> dict[str, Any]:
    """Describe a configuration, and what its state directory says is in use."""
    return {
        "cluster": config.cluster,
        "acceptClusters": list(config.accept_clusters),
        "configDigest": f"sha256:{config.digest}",
        "endpoints": [
            {
                "name": endpoint.name,
                "epoch": endpoint.epoch,
                "members": [
                    {
                        "key": member.key,
                        "provider": _provider_of(config, member.key),
                        "stage": member.stage,
                        "role": member.role,
                    }
                    for member in endpoint.members
                ],
                **_in_use(config, endpoint),
            }
            for endpoint in config.endpoints
        ],
    }


def of_snapshot(store: SnapshotStore, survey: Survey) -> dict[str, Any]:
    """Describe a snapshot: its hash, and every key that something in it is under."""
    with Path(store.name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    others: dict[str, int] = {}
    for row in survey.rows:
        if row.holder.record is None:
            name = provider_text(row.holder)
            others[name] = others.get(name, 0) + row.objects
    ours = [row for row in survey.rows if row.holder.record is not None]
    key_ids: dict[str, int] = {}
    for row in ours:
        key_ids[row.holder.key_id] = key_ids.get(row.holder.key_id, 0) + row.objects
    return {
        "file": Path(store.name).name,
        "sha256": digest,
        "revision": store.revision,
        "keys": [
            {
                "scheme": line.label[0],
                "ref": line.label[1],
                "version": None if line.label[2] == "-" else line.label[2],
                "role": line.label[3],
                "objects": line.objects,
            }
            for line in lines(ours, "key", time_text)
        ],
        "keyIDs": [
            {"keyID": key_id, "keyIDHash": key_id_hash(key_id), "objects": objects}
            for key_id, objects in sorted(key_ids.items())
        ],
        "notKeystead": dict(sorted(others.items())),
    }


def unreadable_states(config: Configuration) -> Iterator[str]:
    """Say of which endpoints the state cannot be read, and why."""
    for endpoint in config.endpoints:
        state = _state(config, endpoint)
        if isinstance(state, str):
            yield f"endpoint {endpoint.name}: {state}"


def _in_use(config: Configuration, endpoint: EndpointConfig) -> dict[str, Any]:
    state = _state(config, endpoint)
    if isinstance(state, str):
        return {"keyID": None, "keyIDHash": None, "localKEK": None, "wraps": None}
    return {
        "keyID": state.key_id,
        "keyIDHash": key_id_hash(state.key_id),
        "localKEK": state.record.kek_id.hex(),
        "wraps": _wraps(state.record),
    }


def _state(config: Configuration, endpoint: EndpointConfig) -> StateFile | str:
    if config.state_dir is None:
        return "there is no stateDir"
    path = Path(config.state_dir) / endpoint.name / "current"
    try:
        return StateFile.parse(path.read_bytes())
    except OSError as exc:
        return f"{path}: {exc.strerror}"
    except MalformedRequest as exc:
        return f"{path}: {exc}"


def _wraps(record: Record) -> list[dict[str, Any]]:
    return [
        {
            "scheme": wrap.scheme,
            "ref": wrap.ref,
            "version": wrap.version or None,
            "role": "recovery" if wrap.role == ROLE_RECOVERY else "online",
        }
        for wrap in record.wraps
    ]


def _provider_of(config: Configuration, key: str) -> str:
    return next(one.provider for one in config.keys if one.name == key)
