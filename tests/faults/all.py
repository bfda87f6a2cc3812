"""All remotes together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from faults.aws import Aws
from faults.gcp import Gcp
from faults.remotes import RemoteOnALine
from faults.vault import Vault


@contextlib.contextmanager
def remotes(directory: Path) -> Iterator[dict[str, RemoteOnALine]]:
    """Run one of each, by the name of its provider, until the end of the block."""
    with contextlib.ExitStack() as stack:
        made: list[RemoteOnALine] = []
        for kind in (Aws, Gcp, Vault):
            remote = kind(directory)
            stack.callback(remote.stack.close)
            made.append(remote)
        yield {remote.name: remote for remote in made}
