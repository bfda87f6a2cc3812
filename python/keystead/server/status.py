"""The status document: everything that `keystead status` shows, as JSON for the plugin's owner.

Its form is versioned, since nodes of one cluster may run different releases. Moments are Unix seconds, spans seconds.
It holds no secret: refs, versions, error texts and key_ids are public.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from keystead import __version__
from keystead.config import Configuration
from keystead.host.report import Report
from keystead.server.reload import Standing

API_VERSION = "status.keystead.dev/v1alpha1"
KIND = "Status"

_UPPER = {"id": "ID", "kek": "KEK"}
"""Parts of a name that are written in capitals after its first part, as in the configuration."""


def document(
    config: Configuration, reports: Mapping[str, Report], standing: Standing, started_at: float
) -> dict[str, Any]:
    """What this process has to say of itself now, in values that JSON can hold."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "node": socket.gethostname(),
        "time": time.time(),
        "version": __version__,
        "pid": os.getpid(),
        "startedAt": started_at,
        "cluster": config.cluster,
        "stateDir": str(config.state_dir) if config.state_dir is not None else None,
        "configuration": {
            "source": standing.source,
            "digest": standing.digest,
            "loadedAt": standing.loaded_at.timestamp(),
            "problems": list(standing.problems),
            "refusedAt": standing.refused_at.timestamp() if standing.refused_at is not None else None,
            "retrying": standing.retrying,
        },
        "endpoints": [
            {
                "socket": endpoint.socket.uri,
                "kmsVersions": list(endpoint.kms_versions),
                **_camel(asdict(reports[endpoint.name])),
            }
            for endpoint in config.endpoints
            if endpoint.name in reports
        ],
    }


def encode(status: Mapping[str, Any]) -> str:
    """As text, for people who look at it without a tool."""
    return json.dumps(status, indent=2, ensure_ascii=False) + "\n"


def _camel(value: Any) -> Any:
    """Turn the names of fields from `key_id` into `keyID`, all the way down."""
    if isinstance(value, dict):
        return {camel(name): _camel(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_camel(inner) for inner in value]
    return value


def camel(name: str) -> str:
    """The name of a field in the document."""
    first, *rest = name.split("_")
    return first + "".join(_UPPER.get(part, part.capitalize()) for part in rest)
