"""KS-R063: credentials that expire while the plugin runs."""

from __future__ import annotations

from keystead.errors import Unauthenticated
from keystead.testing.case import Case, must_refuse, new_context, new_kek, recovers, soon, wrapped
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Tier


@BOOK.rule(
    63,
    Tier.SILVER,
    "Expired credentials are Unauthenticated, and new ones work without another `open`.",
    why="A token that runs out at night takes the cluster's Secrets away. If new credentials need a restart of the "
    "plugin, that restart loses the keys in memory, which were all that still worked.",
    fix="Read credentials again from their file when the remote refuses them; map 401 to Unauthenticated.",
    needs="Sandbox.credentials_expired",
)
def credentials_expire(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    with case.sandbox.credentials_expired():
        must_refuse(
            "unwrap with expired credentials",
            lambda: provider.unwrap(made.blob, context, made.version, soon()),
            Unauthenticated,
        )
    # A provider may keep a token for some seconds although it is refused, so as not to ask for one with each call.
    recovers(provider, made, kek, context, "unwrap with new credentials, by the same instance", Unauthenticated)
