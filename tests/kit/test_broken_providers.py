"""Each rule catches a provider that breaks it. `-s` shows the table.

That no rule is broken by the sound provider, from which each of these is made, is shown by test_fake_kms.py, and over
many runs by false_alarms.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from keystead.testing.provider_rules import BOOK
from keystead.testing.rules import Outcome, Verdict

from .bench import trial
from .broken_providers import BROKEN, Broken

ELSEWHERE = {
    "KS-R002": "test_published.py, for it is about installed distributions",
    "KS-R007": "test_published.py, for it is about installed distributions",
    "KS-R009": "test_published.py, for it is about a file",
    "KS-R095": "test_published.py, for it is about a file",
}
"""Rules whose breach is no matter of the class, and where they are shown to be caught."""

TABLE: list[tuple[type[Broken], Outcome]] = []


@pytest.mark.parametrize("provider_type", BROKEN, ids=lambda kind: f"{kind.breaks}-{kind.__name__}")
def test_a_broken_provider_is_caught_by_the_rule_for_it(provider_type: type[Broken], tmp_path: Path) -> None:
    outcome = trial(provider_type.breaks, provider_type, tmp_path)
    assert outcome.verdict is Verdict.BROKEN, f"{provider_type.__doc__}: {outcome}"
    TABLE.append((provider_type, outcome))
    for kind in provider_type.kept if hasattr(provider_type, "kept") and isinstance(provider_type.kept, list) else ():
        kind.close()


def test_every_rule_has_a_provider_that_breaks_it() -> None:
    assert len(BROKEN) >= 30
    assert len({kind.__name__ for kind in BROKEN}) == len(BROKEN)
    broken = {kind.breaks for kind in BROKEN}
    assert broken | ELSEWHERE.keys() == {rule.id for rule in BOOK.rules}
    print(f"\n{len(TABLE)} broken providers, each caught by the rule for it:")
    for kind, outcome in TABLE:
        print(f"  {outcome.id}  {kind.__name__:<24} {kind.__doc__:<72} {outcome.seconds:6.2f} s")
