"""What a quality file claims is held against all suites of a provider together."""

from __future__ import annotations

from keystead.testing.provider_rules import BOOK
from keystead.testing.report import Run, claims_not_shown
from keystead.testing.rules import Tier


def run(suite: str, provider: str, *, missing: str = "") -> Run:
    """A whole run of every rule, which claims Silver."""
    verdicts = {rule.id: "not shown" if rule.id == missing else "passed" for rule in BOOK.rules}
    outcomes = {name: {"rule": name, "verdict": verdict} for name, verdict in verdicts.items()}
    return Run(suite, provider, 1, "Silver", outcomes)


SILVER = next(rule.id for rule in BOOK.rules if rule.tier is Tier.SILVER)


def test_one_transport_may_show_what_another_cannot() -> None:
    assert claims_not_shown([run("grpc", "kms", missing=SILVER), run("rest", "kms")]) == set()


def test_a_claim_that_no_suite_shows_is_named_whatever_other_providers_show() -> None:
    runs = [run("grpc", "kms", missing=SILVER), run("rest", "kms", missing=SILVER), run("one", "other")]
    assert claims_not_shown(runs) == {"kms"}
