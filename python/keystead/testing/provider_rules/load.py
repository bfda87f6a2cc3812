"""KS-R085 to 089: many threads at once, and nothing that is left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keystead.provider import WrapContext
from keystead.testing.case import Case, attempt, is_key, new_context, new_kek, soon, unwraps, wrapped
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, NotShown, Tier

UNWRAPS = 500
THREADS = 64
RECORDS = 20
LONG = 60.0
REOPENED = 10
LEAKED = 5
"""Descriptors that may be left by ten times open and close: an SDK's own, made once."""
SETTLE = 5.0


@BOOK.rule(
    85,
    Tier.BRONZE,
    "500 unwraps from 64 threads at once each get their own key.",
    why="A starting API server asks for many seeds together. A client that mixes up two answers returns a wrong key; "
    "one that serialises them makes the start as slow as its sum.",
    fix="Share a client only if its SDK says that it is safe for threads; keep no state of a call on the instance.",
)
def many_at_once(case: Case) -> None:
    provider = case.opened()
    made = [(kek, context, wrapped(provider, kek, context)) for kek, context in _pairs(RECORDS)]

    def unwrap(number: int) -> str | None:
        kek, context, blob = made[number % RECORDS]
        done = attempt(lambda: provider.unwrap(blob.blob, context, blob.version, soon(LONG)))
        return None if done.error is None and is_key(done.answer, kek) else str(done)

    with ThreadPoolExecutor(THREADS) as pool:
        wrong = [what for what in pool.map(unwrap, range(UNWRAPS)) if what is not None]
    if wrong:
        raise Broken(f"{UNWRAPS} right keys", f"{len(wrong)} of them wrong or refused, such as {wrong[0]}")


@BOOK.rule(
    86,
    Tier.BRONZE,
    "Wraps, unwraps and looks at the version, all at the same time, do not disturb each other.",
    why="The host probes and mints while Decrypts are under way.",
    fix="As for KS-R085.",
)
def all_at_once(case: Case) -> None:
    provider = case.opened()

    def once(number: int) -> str | None:
        kek, context = new_kek(), new_context()
        if number % 3 == 0:
            done = attempt(lambda: provider.current_version(soon(LONG)))
            return None if done.error is None else f"current_version: {done}"
        done = attempt(lambda: provider.wrap(kek, context, None, soon(LONG)))
        if done.error is not None:
            return f"wrap: {done}"
        made = done.answer
        done = attempt(lambda: provider.unwrap(made.blob, context, made.version, soon(LONG)))
        return None if done.error is None and is_key(done.answer, kek) else f"unwrap: {done}"

    with ThreadPoolExecutor(16) as pool:
        wrong = [what for what in pool.map(once, range(96)) if what is not None]
    if wrong:
        raise Broken("96 right answers", f"{len(wrong)} of them wrong or refused, such as {wrong[0]}")


@BOOK.rule(
    87,
    Tier.BRONZE,
    "After `close` there is no thread that was not there before.",
    why="A thread that stays after a reload goes on with old credentials, and holds what should be forgotten.",
    fix="Start no thread. If the SDK does, end it in `close`.",
)
def no_thread_is_left(case: Case) -> None:
    _use_once(case)  # what an SDK makes once for the whole process is there after this
    before = set(threading.enumerate())
    _use_once(case)
    if not _until(lambda: not _own(before)):
        raise Broken("no other threads than before", ", ".join(sorted(one.name for one in _own(before))))


@BOOK.rule(
    88,
    Tier.SILVER,
    "Opening and closing ten times leaves no descriptors open.",
    why="Each reload opens keys again. A plugin that runs out of descriptors accepts no connection of its API server.",
    fix="Close the client in `close`, and what an earlier `open` made in `open`.",
)
def no_descriptor_is_left(case: Case) -> None:
    try:
        _descriptors()
    except OSError:
        raise NotShown("this system does not tell the open descriptors (/proc/self/fd)") from None
    _use_once(case)
    before = _descriptors()
    for _ in range(REOPENED):
        _use_once(case)
    if not _until(lambda: _descriptors() <= before + LEAKED):
        raise Broken(f"{before} open descriptors, as before", f"{_descriptors()} after {REOPENED} times open and close")


def _use_once(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    unwraps(provider, wrapped(provider, kek, context), kek, context)
    provider.close()


def _own(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that were not there, without those of the bench."""
    return [one for one in threading.enumerate() if one not in before and not one.name.startswith("fault-proxy")]


def _descriptors() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _until(condition: Callable[[], bool]) -> bool:
    """Wait for what the remote's side of a connection may end a moment later."""
    ends = time.monotonic() + SETTLE
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def _pairs(count: int) -> list[tuple[bytes, WrapContext]]:
    return [(new_kek(), new_context()) for _ in range(count)]
