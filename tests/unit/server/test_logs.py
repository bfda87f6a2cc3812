"""Log lines: their form, their level, and what libraries may add."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from keystead.server import logs


@contextlib.contextmanager
def configured(form: Literal["json", "console", "auto"], verbosity: int) -> Iterator[io.StringIO]:
    """Set logging up as `serve` does in a fresh process, and yield what it writes to."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level, stderr = root.handlers, root.level, sys.stderr
    root.handlers, sys.stderr = [], stream
    try:
        logs.configure(form, verbosity)
        yield stream
    finally:
        root.handlers, sys.stderr = handlers, stderr
        root.setLevel(level)
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()


def test_a_json_line_has_a_time_a_level_and_the_event() -> None:
    with configured("json", 2) as stream:
        structlog.get_logger("any").warning("key.notice", key="lab")
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {"event": "key.notice", "key": "lab", "level": "warning"}


def test_auto_is_json_where_nobody_watches() -> None:
    with configured("auto", 2) as stream:
        structlog.get_logger("any").info("server.started")
    assert json.loads(stream.getvalue())["event"] == "server.started"


def test_a_console_line_cannot_be_forged_by_a_value() -> None:
    with configured("console", 2) as stream:
        structlog.get_logger("any").info("rpc", uid="x\n2026-01-01 [error] forged\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (3, False), (4, True), (10, True)])
def test_calls_are_shown_from_verbosity_4_on(verbosity: int, shown: bool) -> None:
    with configured("json", verbosity) as stream:
        structlog.get_logger("any").debug("rpc")
    assert ("rpc" in stream.getvalue()) is shown


def test_a_traceback_has_no_local_variables() -> None:
    def fail(secret: str) -> None:
        local = secret.upper()
        raise RuntimeError(f"{len(local)} characters")

    with configured("json", 10) as stream:
        try:
            fail("canary-31")
        except RuntimeError:
            structlog.get_logger("any").exception("endpoint.tend_failed")
    assert "9 characters" in stream.getvalue()
    # The call in the traceback is a line of this file, which has the lower-case word; the value never stands there.
    assert "CANARY-31" not in stream.getvalue()


@pytest.mark.parametrize("name", ["botocore.endpoint", "urllib3.connectionpool", "hvac", "google.auth", "any.library"])
def test_libraries_say_nothing_below_a_warning_at_any_verbosity_and_level(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured("json", 10) as stream:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
        monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
        logging.getLogger(name).debug("canary-32")
        logging.getLogger(name).info("canary-32")
        logging.getLogger("any.library").warning("worth knowing")
    # Whether a warning of an SDK passes is for its provider to say: some answer for keys in memory.
    assert stream.getvalue() == "WARNING any.library: worth knowing\n"


def test_a_stream_that_cannot_be_written_is_no_reason_to_fail() -> None:
    with configured("json", 2) as stream:
        stream.close()
        structlog.get_logger("any").error("rpc")
        assert stream.closed
