"""KS-R076 to 084: connections that break, are refused, or lead to somebody else."""

from __future__ import annotations

from keystead.errors import ConfigError, Unavailable
from keystead.testing.case import (
    Case,
    attempt,
    must_refuse,
    new_context,
    new_kek,
    recovers,
    soon,
    wrapped,
)
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, NotShown, Tier

AT_MOST = 2
"""Connections for one call: one, and one more if the first had gone stale."""

_CA = (
    "Whoever can take over an address or a name in the network would get every local KEK in clear, and could open all "
    "Secrets of a backup."
)


@BOOK.rule(
    76,
    Tier.SILVER,
    "A connection that is reset in the middle of an answer is Unavailable.",
    why="Half an answer that is taken for a whole one is a wrong key; an exception without a class is shown as a "
    "broken adapter.",
    fix="Catch what the SDK raises for a broken connection, and check that the answer is complete.",
    needs="the fault proxy",
)
def reset_mid_answer(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with proxy.reset_mid_answer():
        must_refuse(
            "unwrap, with a reset in the middle of the answer",
            lambda: provider.unwrap(made.blob, context, made.version, soon(3)),
            Unavailable,
        )
    recovers(provider, made, kek, context, "unwrap once the network is back")


@BOOK.rule(
    77,
    Tier.SILVER,
    "A refused connection is Unavailable, and a remote that is back is noticed within five seconds.",
    why="After an outage the API server's Decrypts come again and again; each that fails although the KMS is back "
    "makes the outage longer.",
    fix="Map connection errors to Unavailable. Limit the back-off of the SDK's connections to a second.",
    needs="the fault proxy",
)
def refused_and_back(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with proxy.refused():
        for _ in range(3):
            must_refuse(
                "unwrap, while connections are refused",
                lambda: provider.unwrap(made.blob, context, made.version, soon(2)),
                Unavailable,
            )
    recovers(provider, made, kek, context, "unwrap once the remote is back")


@BOOK.rule(
    78,
    Tier.SILVER,
    "A connection that the remote closed while it was idle does not make the next call fail.",
    why="Load balancers close idle connections. Calls are minutes apart here, so the first one after each pause would "
    "fail: the one that an API server waits for at its start.",
    fix="Use a client that notices a closed connection and opens another, or open one for each call.",
    needs="the fault proxy",
)
def stale_connection(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for _ in range(3):
        proxy.drop()
        # The host tries a call that failed in a passing way once more, so one failure is no loss.
        done = attempt(lambda: provider.unwrap(made.blob, context, made.version, soon(3)))
        if done.error is not None and not isinstance(done.error, Unavailable):
            raise Broken("unwrap over a new connection, or Unavailable once", str(done))
        if done.error is not None:
            recovers(provider, made, kek, context, "unwrap after an idle connection was closed")


@BOOK.rule(
    79,
    Tier.SILVER,
    "A call that fails is tried once by the adapter, and again by the host only.",
    why="Retries multiply: three nodes, five tries each, and the host's own make thirty calls of one, on a KMS that is "
    "overloaded already. They also use up the time for the next member.",
    fix="Switch off the SDK's retries.",
    needs="the fault proxy",
)
def no_retries(case: Case) -> None:
    proxy = case.proxy()
    provider, context = case.opened(), new_context()
    made = wrapped(provider, new_kek(), context)
    with proxy.reset_mid_answer():
        before = proxy.connections
        done = attempt(lambda: provider.unwrap(made.blob, context, made.version, soon(3)))
        tried = proxy.connections - before
    if done.error is None:
        raise Broken("an error, for every answer is cut", str(done))
    if tried > AT_MOST:
        raise Broken(f"{AT_MOST} connections at the most", f"{tried}")


@BOOK.rule(
    80,
    Tier.SILVER,
    "An expired certificate of the remote is Unavailable, and nothing is sent to it.",
    why=_CA + " The class says that it passes: a renewed certificate needs no other configuration.",
    fix="Verify certificates, with the configured CA; map the TLS errors of the SDK to Unavailable.",
    needs="the fault proxy with tls=True",
)
def expired_certificate(case: Case) -> None:
    proxy = case.proxy(tls=True)
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with proxy.expired_certificate():
        must_refuse(
            "unwrap, while the certificate is an expired one",
            lambda: provider.unwrap(made.blob, context, made.version, soon(3)),
            Unavailable,
        )
    recovers(provider, made, kek, context, "unwrap once the certificate is a good one")


@BOOK.rule(
    81,
    Tier.SILVER,
    "A certificate of an unknown CA is Unavailable or ConfigError, and nothing is sent to it.",
    why=_CA,
    fix="Verify certificates, with the configured CA; never offer a switch that turns this off.",
    needs="the fault proxy with tls=True",
)
def untrusted_certificate(case: Case) -> None:
    proxy = case.proxy(tls=True)
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with proxy.untrusted_certificate():
        must_refuse(
            "unwrap, while the certificate is of an unknown CA",
            lambda: provider.unwrap(made.blob, context, made.version, soon(3)),
            Unavailable,
            ConfigError,
        )
    recovers(provider, made, kek, context, "unwrap once the certificate is a good one")


@BOOK.rule(
    82,
    Tier.SILVER,
    "While no name can be resolved, a call raises Unavailable by its deadline.",
    why="The resolver of a control-plane node is often a pod of the cluster that cannot start without this plugin.",
    fix="Catch the errors of name resolution, and let the deadline hold for it, too.",
    needs="the fault proxy, and a client that resolves names in Python",
)
def names_do_not_resolve(case: Case) -> None:
    proxy = case.proxy()
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with proxy.no_names() as asked:
        done = attempt(lambda: provider.unwrap(made.blob, context, made.version, soon(2)))
    if asked.call_count == 0:
        raise NotShown("this client does not resolve names in Python")
    if not isinstance(done.error, Unavailable):
        raise Broken("unwrap, while no name can be resolved, raises Unavailable", str(done))
    recovers(provider, made, kek, context, "unwrap once names resolve again")
