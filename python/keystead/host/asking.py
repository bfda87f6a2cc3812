"""Asks keys in turn for one thing that each of them may bring; the next one while the first is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from keystead import errors
from keystead.host.guard import Guard
from keystead.host.verdict import combine

HEDGE_DELAY = 0.4
"""Seconds without an answer after which the next key is asked too. With two keys and the first one silent, a Decrypt
is answered well inside the API server's 3 s."""

T = TypeVar("T")
Secret = bytes | bytearray


async def ask(
    guards: Iterable[Guard],
    start: Callable[[Guard], Future[Secret]],
    accept: Callable[[Guard, Secret], T],
    deadline: float,
) -> T:
    """Return what `accept` makes of the first answer that it takes, at the deadline at the latest.

    Keys are asked in turn; the next one as soon as one fails, or when nobody has answered for `HEDGE_DELAY`. Raises
    what `combine` makes of all failures.
    """
    untried = list(guards)
    failures: list[errors.KeysteadError] = []
    pending: set[asyncio.Future[Secret]] = set()
    asked: dict[asyncio.Future[Secret], Guard] = {}
    try:
        while untried or pending:
            if untried:
                guard = untried.pop(0)
                try:
                    answering = asyncio.wrap_future(start(guard))
                except errors.Unavailable as exc:
                    # A key that a reload has just closed counts as one that failed.
                    failures.append(exc)
                    continue
                answering.add_done_callback(_heed)
                pending.add(answering)
                asked[answering] = guard
            patience = HEDGE_DELAY if untried else max(0.0, deadline - time.monotonic())
            done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                try:
                    return accept(asked[future], future.result())
                except errors.KeysteadError as exc:
                    failures.append(exc)
            if pending and not untried and time.monotonic() >= deadline:
                failures.append(errors.TimedOut("the remote KMS has not answered within the time limit of an unwrap"))
                break
    finally:
        for future in pending:
            # One that still waits in its key's line is not needed any more. One under way ends by itself.
            future.cancel()
    raise combine(failures)


def _heed(future: asyncio.Future[Secret]) -> None:
    """Look at how a call ended that may have come second: asyncio would report a failure that nobody looked at."""
    if not future.cancelled():
        future.exception()
