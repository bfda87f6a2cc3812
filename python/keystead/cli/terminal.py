"""Text from etcd or from another program, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Write whatever could move the cursor, start a line or turn the direction of writing as an escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
