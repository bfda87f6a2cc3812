"""How far long work has come, for somebody who sits at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

_PAUSE = 0.2
"""Seconds between two lines, and before the first: what is over by then needs none."""


class ProgressLine:
    """One line on standard error that is written over. Nothing if that is no terminal."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PAUSE
        self._shown = False

    def __call__(self, what: str, part: float) -> None:
        """Say what was done, and which part of it, from 0 to 1; a part below 0 is unknown."""
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next = now + _PAUSE
        self._shown = True
        share = f" {min(part, 1):4.0%}" if part >= 0 else ""
        click.echo(f"\r{what}{share}\033[K", nl=False, err=True)

    def wipe(self) -> None:
        """Leave nothing of it."""
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """Show progress within a block."""
    line = ProgressLine()
    try:
        yield line
    finally:
        line.wipe()
