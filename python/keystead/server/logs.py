"""Log lines: one event with key-value pairs, as JSON or for a terminal, on standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
from io import TextIOBase
from typing import Any, Literal, TextIO

import structlog

CALLS_VERBOSITY = 4
"""From this verbosity on, every RPC is logged, as kube-apiserver logs its own side from 6 on."""


class _Form:
    """How lines look and which are shown; a reload may change both under loggers that exist."""

    verbosity = 0
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()

    def filter(self, _logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if method == "debug" and self.verbosity < CALLS_VERBOSITY:
            raise structlog.DropEvent
        return event

    def render(self, logger: object, method: str, event: structlog.typing.EventDict) -> Any:
        return self.renderer(logger, method, event)


_form = _Form()


def configure(form: Literal["json", "console", "auto"], verbosity: int) -> None:
    """Set up structlog for the process, or change it. `auto` means console on a terminal and JSON elsewhere."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    _form.renderer = structlog.dev.ConsoleRenderer(colors=False) if console else structlog.processors.JSONRenderer()
    _form.verbosity = verbosity
    structlog.configure(
        processors=[
            _form.filter,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            # Tracebacks without local variables: a frame may hold key bytes.
            structlog.processors.format_exc_info,
            _form.render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(_Lossy(sys.stderr)),  # type: ignore[arg-type]  # it only writes
        cache_logger_on_first_use=True,
    )
    # SDKs log to the standard library, and at DEBUG botocore prints plaintext keys. So nothing below WARNING passes,
    # whatever level anybody gives to a logger or to the root, before or after.
    logging.disable(logging.INFO)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


class _Lossy(TextIOBase):
    """A stream that drops what cannot be written: a log collector that is gone must not fail calls or end threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
