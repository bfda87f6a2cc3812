"""Finds out about several nodes at once, each from its file or address."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keystead.operate import admin, exposition, nodes
from keystead.operate.admin import CannotTell
from keystead.operate.nodes import Node


def load_all(sources: Sequence[str]) -> tuple[list[Node], list[str]]:
    """The nodes that could be read, in order, and why the others could not."""
    with ThreadPoolExecutor(max_workers=min(32, len(sources)) or 1) as pool:
        found = list(pool.map(_load, sources))
    return [one for one in found if isinstance(one, Node)], [str(one) for one in found if isinstance(one, CannotTell)]


def load(source: str) -> Node:
    """Read a node from a file, from the address of its metrics, or from an admin socket. Raises `CannotTell`."""
    if source.startswith(("http://", "https://")):
        return exposition.node(admin.fetch(source), source)
    if source.startswith("unix://"):
        return nodes.of_document(admin.ask(Path(source.removeprefix("unix://"))), source)
    try:
        text = Path(source).read_text(errors="replace")
    except OSError as exc:
        raise CannotTell(f"{source}: {exc.strerror}") from None
    return nodes.of_document(admin.document(text, source), source)


def _load(source: str) -> Node | CannotTell:
    try:
        return load(source)
    except CannotTell as exc:
        return exc
