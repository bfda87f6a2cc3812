"""What nodes said of their keys, from files that `keystead status -o json` was saved to."""

from __future__ import annotations

import json
import time
from pathlib import Path

from keystead.operate.remote_keys import NodeKeys, node_keys

API_VERSION = "status.keystead.dev/v1alpha1"


class CannotTell(Exception):
    """A file is no status of a node; the message says why."""


def load(path: Path, now: float | None = None) -> NodeKeys:
    """Read one node. Raises `CannotTell`."""
    try:
        status = json.loads(path.read_bytes())
        if (status["apiVersion"], status["kind"]) != (API_VERSION, "Status"):
            raise CannotTell(f"{path}: is no status of {API_VERSION}")
        return node_keys(status, time.time() if now is None else now)
    except OSError as exc:
        raise CannotTell(f"{path}: {exc.strerror}") from exc
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise CannotTell(f"{path}: is not what keystead status -o json prints: {type(exc).__name__} {exc}") from exc
