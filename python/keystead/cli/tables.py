"""Tables and times for people, in the manner of kubectl."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from keystead.cli.terminal import printable

GAP = "  "


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as they need to be. What comes from elsewhere cannot move the cursor."""
    lines = [[*head], *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def show(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table of anything that has a text."""
    for line in table(head, [[str(cell) for cell in row] for row in rows]):
        click.echo(line)


def span(seconds: float) -> str:
    """The two largest units: 45s, 12m3s, 3h12m, 5d4h. A span below zero is one of a clock that was set: 0s."""
    left = max(0, int(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        if parts and (len(parts) == 2 or (unit == "h" and parts[0].endswith("d"))):
            break
    return "".join(parts[:2]) or "0s"


def ago(moment: float | None, now: float) -> str:
    """How long ago a Unix second was."""
    return "-" if moment is None else span(now - moment)
