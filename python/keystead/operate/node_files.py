"""What nodes say of their keys: by what `keystead status -o json` printed, or over an admin socket."""

from __future__ import annotations

import time
from pathlib import Path

from keystead.operate import admin
from keystead.operate.admin import CannotTell
from keystead.operate.remote_keys import NodeKeys, node_keys


def load(source: str, now: float | None = None) -> NodeKeys:
    """Read one node from a file or from `unix:///path` of its admin socket. Raises `CannotTell`."""
    if source.startswith(("http://", "https://")):
        raise CannotTell(f"{source}: metrics do not tell refs; save what keystead status -o json prints")
    if source.startswith("unix://"):
        status = admin.ask(Path(source.removeprefix("unix://")))
    else:
        try:
            text = Path(source).read_text(errors="replace")
        except OSError as exc:
            raise CannotTell(f"{source}: {exc.strerror}") from exc
        status = admin.document(text, source)
    try:
        return node_keys(status, time.time() if now is None else now)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise CannotTell(f"{source}: a status without {exc}: written by another release?") from exc
