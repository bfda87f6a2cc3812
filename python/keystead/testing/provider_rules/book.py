"""The book that the rules for providers are entered into."""

from __future__ import annotations

from typing import Final

from keystead.testing.case import Case
from keystead.testing.rules import RuleBook

BOOK: Final[RuleBook[Case]] = RuleBook("KS-R", "docs/vendors/rules.md")
