"""The book that the rules for providers are entered into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from keystead.testing.case import Case
from keystead.testing.rules import NotApplicable, RuleBook, Tier

Check = Callable[[Case], None]


class ProviderBook(RuleBook[Case]):
    """Leaves out for providers that only wrap what needs an unwrap."""

    def rule(
        self, number: int, tier: Tier, title: str, *, why: str, fix: str, needs: str = "", unwraps: bool = True
    ) -> Callable[[Check], Check]:
        """Enter a check as a rule. `unwraps` says whether it unwraps."""
        enter = super().rule(number, tier, title, why=why, fix=fix, needs=needs)

        def guarded(check: Check) -> Check:
            @functools.wraps(check)
            def checked(case: Case) -> None:
                if unwraps and not case.capabilities.unwraps:
                    raise NotApplicable("capabilities.unwraps is False")
                check(case)

            enter(checked)
            return check

        return guarded


BOOK: Final = ProviderBook(
    "KS-R",
    "docs/vendors/rules.md",
    "Rules for providers",
    "What `keystead.testing.ProviderSuite` tries. [Testing](testing.md) says how to run it, and what the tiers mean. "
    "A single rule: `pytest -k KS-R030`.",
)
