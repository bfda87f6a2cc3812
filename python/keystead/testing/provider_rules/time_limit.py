"""KS-R070 to 075: a call ends when its deadline says so, whatever the remote does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from keystead.errors import Unavailable
from keystead.provider import Provider, WrapContext, Wrapped
from keystead.testing.case import (
    Case,
    Pace,
    attempt,
    must_end_in_time,
    new_context,
    new_kek,
    recovers,
    soon,
    unwraps,
    wrapped,
)
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, Tier

AT_ONCE = 0.5

_WHY = (
    "The host stops waiting at the deadline, but cannot stop the thread. A key has 16 threads for Decrypts; once they "
    "all hang in the SDK, that key unwraps nothing more, also when the remote is back."
)
_FIX = (
    "Give the SDK `deadline - time.monotonic()` as the limit of the whole call. A limit for each read is not enough: a "
    "remote that sends a byte now and then never reaches it."
)


@BOOK.rule(
    70,
    Tier.BRONZE,
    "A call whose deadline is over raises Unavailable at once, or answers at once.",
    why="A negative or zero time means `for ever` to many SDKs, and the thread hangs.",
    fix="Raise Unavailable if nothing is left of the deadline.",
)
def deadline_is_over(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for what, call in _every_call(provider, made, kek, context):
        for late in (0.0, 1.0, 3600.0):
            with Pace() as pace:
                done = attempt(lambda call=call, late=late: call(time.monotonic() - late))  # type: ignore[misc]
            if done.error is not None and not isinstance(done.error, Unavailable):
                raise Broken(f"{what} with a deadline {late:g} s ago raises Unavailable", str(done))
            if done.seconds - pace.lost > AT_ONCE:
                raise Broken(f"{what} with a deadline {late:g} s ago ends within {AT_ONCE} s", str(done))
    unwraps(provider, made, kek, context, "unwrap afterwards, with time")


@BOOK.rule(
    71,
    Tier.SILVER,
    "While nothing comes back, a call raises Unavailable by its deadline.",
    why=_WHY,
    fix=_FIX,
    needs="the fault proxy",
)
def black_hole(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for what, call in _remote_calls(case, provider, made, kek, context):
        with proxy.black_hole():
            must_end_in_time(f"{what}, while nothing comes back", call, Unavailable)
    recovers(provider, made, kek, context, "unwrap once the network is back")


@BOOK.rule(
    72,
    Tier.SILVER,
    "While an answer comes byte by byte, a call raises Unavailable by its deadline.",
    why=_WHY,
    fix=_FIX,
    needs="the fault proxy",
)
def trickle(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for what, call in _remote_calls(case, provider, made, kek, context):
        with proxy.trickle():
            must_end_in_time(f"{what}, while bytes trickle", call, Unavailable)
    recovers(provider, made, kek, context, "unwrap once the network is back")


@BOOK.rule(
    73,
    Tier.SILVER,
    "A remote that takes a while, now more, now less, is waited for.",
    why="A KMS in another region answers in a few hundred milliseconds. An adapter with a shorter limit of its own "
    "makes a cluster that never starts.",
    fix="Set no limit but the deadline's, except a second or more for connecting.",
    needs="the fault proxy",
)
def latency(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    with proxy.latency(0.3, jitter=0.2):
        unwraps(provider, wrapped(provider, kek, context), kek, context, "unwrap over a slow network")


def _every_call(
    provider: Provider[Any], made: Wrapped, kek: bytes, context: WrapContext
) -> Iterator[tuple[str, Callable[[float], object]]]:
    yield "current_version", provider.current_version
    yield "wrap", lambda deadline: provider.wrap(kek, context, None, deadline)
    yield "unwrap", lambda deadline: provider.unwrap(made.blob, context, made.version, deadline)


def _remote_calls(
    case: Case, provider: Provider[Any], made: Wrapped, kek: bytes, context: WrapContext
) -> Iterator[tuple[str, Callable[[float], object]]]:
    """Yield the calls that ask the remote: those that capabilities say do, and `current_version` if it really does."""
    for what, call in _every_call(provider, made, kek, context):
        if what == "wrap" and not case.capabilities.authenticated_wrap:
            continue
        if what == "current_version":
            with case.proxy().refused():
                local = attempt(lambda call=call: call(soon(2))).error is None  # type: ignore[misc]
            recovers(provider, made, kek, context, "unwrap once the remote is back")
            if local:
                continue
        yield what, call
