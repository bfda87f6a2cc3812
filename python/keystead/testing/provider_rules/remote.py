"""KS-R060 to 069: each thing that a remote says has its class of error, and passes when the remote recovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from keystead.errors import (
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    ProviderError,
    Throttled,
    Unavailable,
)
from keystead.provider import KEK_SIZE, Provider, WrapContext, Wrapped
from keystead.testing.case import Case, attempt, must_refuse, new_context, new_kek, recovers, soon, unwraps, wrapped
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, Tier


@BOOK.rule(
    60,
    Tier.SILVER,
    "A rate limit of the remote is Throttled.",
    why="It passes by itself, so the host asks again. A class that does not pass is remembered, and makes operators "
    "look for damage.",
    fix="Map 429, quota and throttling errors of the SDK to Throttled, and switch off the SDK's own retries.",
    needs="Sandbox.throttled",
)
def throttled(case: Case) -> None:
    _fails_and_recovers(case, case.sandbox.throttled, Throttled)


@BOOK.rule(
    61,
    Tier.SILVER,
    "An internal error of the remote, or a sealed one, is Unavailable.",
    why="It passes by itself. Called InvalidCiphertext, kube-apiserver would report healthy Secrets as corrupt, and "
    "somebody would delete them.",
    fix="Map 5xx, sealed and maintenance answers to Unavailable.",
    needs="Sandbox.out_of_order",
)
def out_of_order(case: Case) -> None:
    _fails_and_recovers(case, case.sandbox.out_of_order, Unavailable)


@BOOK.rule(
    64,
    Tier.GOLD,
    "A disabled key is KeyDisabled, and works again once it is enabled, without another `open`.",
    why="The message decides whether the operator enables the key or deletes Secrets.",
    fix="Map what the SDK raises for a disabled key to KeyDisabled; remember no refusal.",
    needs="Sandbox.key_disabled",
)
def key_disabled(case: Case) -> None:
    _fails_and_recovers(case, case.sandbox.key_disabled, KeyDisabled)


@BOOK.rule(
    65,
    Tier.GOLD,
    "A key that is gone is KeyNotFound, and works again once it is restored, without another `open`. A wrap may be "
    "PermissionDenied where the right to wrap does not include the right to make a key.",
    why="As KS-R064. Called Unavailable, the host would ask for ever, and nobody would learn of it.",
    fix="Map what the SDK raises for a missing key to KeyNotFound; never create a key.",
    needs="Sandbox.key_missing",
)
def key_missing(case: Case) -> None:
    _fails_and_recovers(case, case.sandbox.key_missing, KeyNotFound, KeyDisabled, of_wrap=PermissionDenied)


@BOOK.rule(
    62,
    Tier.SILVER,
    "A denied call is PermissionDenied.",
    why="The operator looks at policies for PermissionDenied, at credentials for Unauthenticated, and waits for "
    "Unavailable; a wrong class costs the hours of the outage.",
    fix="Map 403 and access-denied errors to PermissionDenied, and keep them apart from expired credentials.",
    needs="Sandbox.access_denied",
)
def access_denied(case: Case) -> None:
    _fails_and_recovers(case, case.sandbox.access_denied, PermissionDenied)


@BOOK.rule(
    66,
    Tier.SILVER,
    "A remote that answers an unwrap with a key of the wrong size gets no 32 bytes out of the adapter.",
    why="An adapter that pads or cuts makes a wrong key of a wrong answer, and the host cannot tell any more.",
    fix="Raise Misbehaved, or return the bytes as they came; the host checks their number.",
    needs="Sandbox.wrong_answers",
)
def wrong_answers(case: Case) -> None:
    provider, context = case.opened(), new_context()
    made = wrapped(provider, new_kek(), context)
    with case.sandbox.wrong_answers():
        done = attempt(lambda: provider.unwrap(made.blob, context, made.version, soon()))
    if done.error is None:
        if isinstance(done.answer, bytes | bytearray) and len(done.answer) == KEK_SIZE:
            raise Broken("no key of 32 bytes", "32 bytes, made of an answer of another size")
    elif not _is_one(done.error, ProviderError):
        raise Broken("a class of keystead.errors, such as Misbehaved", str(done))


@BOOK.rule(
    67,
    Tier.SILVER,
    "Bytes that are no answer of the remote are Unavailable or Misbehaved.",
    why="A captive proxy or a load balancer answers with a page of its own. An exception of a JSON parser there has no "
    "class, and the operator is told that the adapter is broken.",
    fix="Catch what parsing raises, where the SDK is called.",
    needs="the fault proxy",
)
def garbage_from_the_remote(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    answers = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Log in</html>\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\x00\x01\x02\x03 what is this\r\n\r\n",
    )
    for answer in answers:
        with proxy.garbage(answer):
            for what, call in _calls(case, provider, made, kek, context):
                done = attempt(lambda call=call: call(soon(3)))  # type: ignore[misc]
                if not _is_one(done.error, Unavailable, Misbehaved):
                    raise Broken(f"{what} raises Unavailable or Misbehaved for the answer {answer[:70]!r}", str(done))
    recovers(provider, made, kek, context, "unwrap once the remote answers again")


def _fails_and_recovers(
    case: Case,
    fault: Callable[[], AbstractContextManager[Any]],
    *classes: type[ProviderError],
    of_wrap: type[ProviderError] | None = None,
) -> None:
    """Every call that asks the remote raises one of `classes` during the fault; afterwards the instance works."""
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with fault():
        for what, call in _calls(case, provider, made, kek, context):
            allowed = (*classes, of_wrap) if what == "wrap" and of_wrap is not None else classes
            error = must_refuse(what, lambda call=call: call(soon()), *allowed)  # type: ignore[misc]
            if not str(error).strip():
                raise Broken(f"{what} says in words what happened", "an error without a text")
    unwraps(provider, made, kek, context, "unwrap afterwards, by the same instance")
    unwraps(provider, wrapped(provider, kek, context), kek, context, "unwrap of a wrap made afterwards")


def _calls(
    case: Case, provider: Provider[Any], made: Wrapped, kek: bytes, context: WrapContext
) -> Iterator[tuple[str, Callable[[float], object]]]:
    """Yield the calls that cannot be answered without the remote."""
    yield "unwrap", lambda deadline: provider.unwrap(made.blob, context, made.version, deadline)
    if case.capabilities.authenticated_wrap:
        yield "wrap", lambda deadline: provider.wrap(kek, context, None, deadline)


def _is_one(error: BaseException | None, *classes: type[ProviderError]) -> bool:
    return isinstance(error, classes) and type(error) is not ProviderError
