"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from keystead.cli.terminal import printable


def show(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a head, each column as wide as it must be, numbers to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(head), *cells]) for column in range(len(head))]
    numbers = [all(isinstance(row[column], int) for row in rows) for column in range(len(head))]
    for line in [list(head), *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numbers, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())
