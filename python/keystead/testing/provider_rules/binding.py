"""KS-R040 to 049: a wrap opens only with the context that it was made with."""

from __future__ import annotations

from keystead.errors import InvalidCiphertext
from keystead.provider import WrapContext
from keystead.testing.case import Case, must_refuse, needs_capability, new_context, new_kek, soon, unwraps, wrapped
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Tier

_FIX = (
    "Pass `context.aad` as additional authenticated data, or `context.mapping` as the encryption context, to both "
    "calls; or declare binds_context=False."
)


@BOOK.rule(
    40,
    Tier.BRONZE,
    "A wrap does not open with the kek_id of another local KEK.",
    why="Whoever can write to etcd could put one key's wrap into another key's record, and choose what a plugin opens.",
    fix=_FIX,
    needs="capabilities.binds_context",
)
def bound_to_the_kek(case: Case) -> None:
    needs_capability(case, "binds_context")
    provider, context = case.opened(), new_context()
    made = wrapped(provider, new_kek(), context)
    changed = bytes([context.kek_id[0] ^ 1]) + context.kek_id[1:]
    for other in (WrapContext(changed, context.cluster), new_context(context.cluster)):
        must_refuse(
            "unwrap with another kek_id",
            lambda other=other: provider.unwrap(made.blob, other, made.version, soon()),  # type: ignore[misc]
            InvalidCiphertext,
        )


@BOOK.rule(
    41,
    Tier.BRONZE,
    "A wrap does not open with the label of another cluster.",
    why="Two clusters that share a remote key could read each other's Secrets from a stolen backup.",
    fix=_FIX,
    needs="capabilities.binds_context",
)
def bound_to_the_cluster(case: Case) -> None:
    needs_capability(case, "binds_context")
    provider, context = case.opened(), new_context("prod-eu-1")
    made = wrapped(provider, new_kek(), context)
    for label in ("prod-eu-2", "prod-eu-", "prod-eu-11", "Prod-eu-1", ""):
        other = WrapContext(context.kek_id, label)
        must_refuse(
            f"unwrap with the cluster {label!r} instead of 'prod-eu-1'",
            lambda other=other: provider.unwrap(made.blob, other, made.version, soon()),  # type: ignore[misc]
            InvalidCiphertext,
        )


@BOOK.rule(
    42,
    Tier.BRONZE,
    "Every context works: an empty label, the longest one, and any kek_id.",
    why="A label that one KMS refuses shows up when the cluster starts, on the day that the key is needed.",
    fix="Use `context.aad` or `context.mapping` as they are.",
)
def any_context_works(case: Case) -> None:
    provider = case.opened()
    for label in ("", "a", "a" * 63, "prod-eu-1.example.com"):
        for kek_id in (bytes(32), b"\xff" * 32, b"\n" * 32):
            kek, context = new_kek(), WrapContext(kek_id, label)
            unwraps(provider, wrapped(provider, kek, context), kek, context)
