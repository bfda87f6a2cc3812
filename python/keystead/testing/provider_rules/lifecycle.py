"""KS-R010 to 019: opening, naming the remote key, and closing."""

from __future__ import annotations

import contextlib

from keystead.errors import ProviderError, Unavailable
from keystead.testing.audit import watching
from keystead.testing.case import (
    BACK,
    Attempt,
    Case,
    attempt,
    must_answer,
    must_end_in_time,
    new_context,
    new_kek,
    recovers,
    soon,
    until_it_passes,
    unwraps,
    wrapped,
)
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, NotShown, Tier

MAX_REF = 512
_YEAR_2001 = 1e9


@BOOK.rule(
    10,
    Tier.BRONZE,
    "`open` returns a ref of 1 to 512 printable ASCII characters without spaces.",
    why="The ref is part of every record. The host refuses the key, and nothing is encrypted under it.",
    fix="Return the identifier by which the KMS itself knows the key.",
    unwraps=False,
)
def ref_is_well_formed(case: Case) -> None:
    provider = case.new()
    ref: object = must_answer("open", lambda: provider.open(soon()))
    if not isinstance(ref, str) or not 1 <= len(ref) <= MAX_REF or not all("!" <= one <= "~" for one in ref):
        raise Broken(f"a str of 1 to {MAX_REF} printable ASCII characters", repr(ref)[:120])


@BOOK.rule(
    11,
    Tier.BRONZE,
    "Every instance returns the same ref, and so does a second `open`.",
    why="A record is matched with a key by its ref. If it changes with a restart or a node, records that exist are "
    "unreadable there, and every Secret with them.",
    fix="Build the ref from what names the remote key for ever, never from a session, a time, a host or a counter.",
    unwraps=False,
)
def ref_is_stable(case: Case) -> None:
    first = case.new()
    refs = [must_answer("open", lambda: first.open(soon())) for _ in range(2)]
    for _ in range(2):
        other = case.new()
        refs.append(must_answer("open", lambda other=other: other.open(soon())))  # type: ignore[misc]
    if len(set(refs)) != 1:
        raise Broken("one ref", " and ".join(sorted({repr(ref) for ref in refs}))[:200])


@BOOK.rule(
    12,
    Tier.BRONZE,
    "The ref names neither the address of the remote nor a credential.",
    why="After the KMS moves to another address, or a token is renewed, records that exist would match no key.",
    fix="Leave address, region and credentials out of the ref.",
    unwraps=False,
)
def ref_survives_a_move(case: Case) -> None:
    provider = case.new()
    ref = must_answer("open", lambda: provider.open(soon()))
    try:
        proxy = case.proxy()
    except NotShown:
        proxy = None
    if proxy is not None and str(proxy.port) in ref:
        raise Broken("a ref without the address", f"{ref[:120]!r}, which has the port {proxy.port}")
    if any(secret and secret in ref for secret in case.sandbox.secrets()):
        raise Broken("a ref without credentials", "one that holds a secret of the sandbox")


@BOOK.rule(
    13,
    Tier.BRONZE,
    "`open` can be called again, and what it opened goes on working.",
    why="The host opens until it succeeds, and again after a reload.",
    fix="Let `open` replace what an earlier call made.",
)
def opens_again(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    must_answer("the second open", lambda: provider.open(soon()))
    unwraps(provider, made, kek, context, "unwrap after a second open")


@BOOK.rule(
    14,
    Tier.SILVER,
    "After an `open` that failed because the remote was away, the same instance opens.",
    why="At a cold start of the data centre the KMS comes later than the control plane. An instance that stays broken "
    "keeps that node's API server from reading Secrets until somebody restarts the plugin.",
    fix="Keep nothing of a failed `open` that a later one trips over.",
    needs="the fault proxy",
)
def opens_after_a_failure(case: Case) -> None:
    provider, kek, context = case.new(), new_kek(), new_context()
    with case.proxy().refused():
        done = attempt(lambda: provider.open(soon(2)))
        if done.error is not None and not isinstance(done.error, Unavailable):
            raise Broken("open raises Unavailable while the remote refuses connections", str(done))
    done = until_it_passes(lambda: provider.open(soon()), Unavailable)
    if done.error is not None:
        raise Broken(f"open to succeed within {BACK:g} s after the remote is back", str(done))
    unwraps(provider, wrapped(provider, kek, context), kek, context)


@BOOK.rule(
    15,
    Tier.SILVER,
    "`open` ends within its deadline while nothing comes back.",
    why="The thread that opens also tends the key. While it hangs, the key is neither probed nor used.",
    fix="Give the SDK what is left of the deadline, also for its login and for looking for credentials.",
    needs="the fault proxy",
    unwraps=False,
)
def opening_is_bounded(case: Case) -> None:
    with case.proxy().black_hole():
        provider = case.new()
        done = attempt(lambda: provider.open(soon(1)))
        if done.error is None and done.seconds <= 1:
            return  # it does not ask the remote
        must_end_in_time("open, while nothing comes back", provider.open, Unavailable)


@BOOK.rule(
    16,
    Tier.BRONZE,
    "`close` can be called twice, and on an instance that was never opened.",
    why="A reload closes keys that are half open. An exception there leaves the others open, and their connections.",
    fix="Let `close` check what there is to close.",
    unwraps=False,
)
def closes_always(case: Case) -> None:
    for name, provider in (("on an instance that was never opened", case.new()), ("after open", case.opened())):
        for time in ("first", "second"):
            done = attempt(provider.close)
            if done.error is not None:
                raise Broken(f"the {time} close {name} to do nothing bad", str(done))


@BOOK.rule(
    17,
    Tier.SILVER,
    "A call after `close` raises an error of Keystead, or still works.",
    why="A reload closes a key while Decrypts are on their way. An AttributeError there is shown to operators as a "
    "provider that misbehaves, and pages somebody.",
    fix="Raise `Unavailable` if the client is gone.",
    unwraps=False,
)
def refuses_when_closed(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    provider.close()
    for what, done in (
        ("unwrap", attempt(lambda: provider.unwrap(made.blob, context, made.version, soon(2)))),
        ("wrap", attempt(lambda: provider.wrap(kek, context, None, soon(2)))),
        ("current_version", attempt(lambda: provider.current_version(soon(2)))),
    ):
        if not _is_known(done):
            raise Broken(f"{what} after close raises a class of keystead.errors", str(done))


@BOOK.rule(
    18,
    Tier.SILVER,
    "`keep_alive` does its work or raises an error of Keystead, within its deadline, and disturbs nothing.",
    why="It is called every minute, also for keys that nothing else calls for weeks. What it raises without a class is "
    "shown as a broken adapter, and a call that never ends takes the thread that tends the key.",
    fix="Renew credentials that end by themselves, within the deadline; if there are none, do not write this method.",
)
def keeps_alive(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for _ in range(2):
        must_answer("keep_alive", lambda: provider.keep_alive(soon()))
    with contextlib.suppress(NotShown), case.proxy().black_hole():
        for _ in range(2):
            done = attempt(lambda: provider.keep_alive(soon(1)))
            if not _is_known(done):
                raise Broken("keep_alive, while nothing comes back, raises a class of keystead.errors", str(done))
            if done.seconds <= 1.1:
                break
        else:
            raise Broken("keep_alive ends within its deadline of 1 s", str(done))
    recovers(provider, made, kek, context, "unwrap afterwards")


@BOOK.rule(
    19,
    Tier.BRONZE,
    "`credential_expiry` is None or a Unix time, at any moment of an instance's life, and asks nobody.",
    why="It becomes a metric that is read at every scrape. An exception there takes all metrics away, and the alert "
    "that credentials end tomorrow with them.",
    fix="Keep the time in memory when credentials are renewed.",
    unwraps=False,
)
def expiry_is_known(case: Case) -> None:
    provider = case.new()
    moments = (
        ("before open", lambda: None),
        ("after open", lambda: provider.open(soon())),
        ("after close", provider.close),
    )
    for name, pass_on in moments:
        must_answer(name, pass_on)
        with watching() as seen:
            done = attempt(lambda: provider.credential_expiry)
        if done.error is not None or seen:
            raise Broken(f"credential_expiry {name} is answered from memory", "; ".join(seen) or str(done))
        if done.answer is not None and (type(done.answer) not in (int, float) or done.answer < _YEAR_2001):
            raise Broken(f"credential_expiry {name} is None or a Unix time", repr(done.answer)[:60])


def _is_known(done: Attempt) -> bool:
    return done.error is None or (isinstance(done.error, ProviderError) and type(done.error) is not ProviderError)
