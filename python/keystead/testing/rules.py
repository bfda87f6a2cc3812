"""What a rule is, and what can come of it. Rules for providers and for plugin sockets have the same form.

A rule has an id for ever: one that is dropped leaves a gap, and one whose meaning changes gets a new id.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

CaseT = TypeVar("CaseT")


class Tier(enum.IntEnum):
    """How much is shown. Each tier holds all rules of those below it."""

    BRONZE = 1
    """Nothing is lost and nothing is wrong: what every cluster needs."""
    SILVER = 2
    """It also behaves while the remote, the network or the credentials do not."""
    GOLD = 3
    """It also went through the drills: rotation, disabled keys, documentation, a signed release."""

    @property
    def label(self) -> str:
        """The tier as a word."""
        return self.name.capitalize()


class Verdict(enum.Enum):
    """What came of one rule."""

    PASSED = "passed"
    BROKEN = "broken"
    NOT_APPLICABLE = "not applicable"
    """A declared capability says that the rule has no meaning here. Counts as kept."""
    EXEMPT = "exempt"
    """The quality file gives a reason to do without. Counts as kept, and is shown."""
    NOT_SHOWN = "not shown"
    """The test bench cannot bring about what the rule is about. Counts as not kept."""

    @property
    def kept(self) -> bool:
        """Whether a tier that holds the rule can be reached."""
        return self in (Verdict.PASSED, Verdict.NOT_APPLICABLE, Verdict.EXEMPT)


class Broken(Exception):
    """A rule does not hold: what it expects, and what happened instead."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class NotApplicable(Exception):
    """The rule has no meaning for this subject; the text says by which declaration."""


class NotShown(Exception):
    """The rule could not be tried; the text says what the bench would have to offer."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[CaseT]):
    """One thing that can be shown by trying it."""

    id: str
    title: str
    """A sentence that says what holds."""
    tier: Tier
    why: str
    """What a cluster suffers where it does not hold."""
    fix: str
    check: Callable[[CaseT], None]
    needs: str = ""
    """In words, what a bench must offer or a subject be for the rule to be tried; empty for nothing."""

    @property
    def slug(self) -> str:
        """The id and the name of the check, for names of tests."""
        return f"{self.id}-{self.check.__name__.replace('_', '-')}"

    @property
    def anchor(self) -> str:
        """The rule's place in docs/vendors/rules.md or docs/vendors/socket-rules.md."""
        return self.id.lower()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one rule for one subject."""

    id: str
    title: str
    tier: Tier
    verdict: Verdict
    seconds: float = 0.0
    expected: str = ""
    got: str = ""
    reason: str = ""
    """Why it was not tried."""


@dataclass
class RuleBook(Generic[CaseT]):
    """Rules of one kind of subject, in the order of their ids."""

    prefix: str
    page: str
    """The page of the documentation that explains them."""
    title: str = ""
    intro: str = ""
    rules: list[Rule[CaseT]] = field(default_factory=list)

    def rule(
        self, number: int, tier: Tier, title: str, *, why: str, fix: str, needs: str = ""
    ) -> Callable[[Callable[[CaseT], None]], Callable[[CaseT], None]]:
        """Enter a check as a rule."""

        def enter(check: Callable[[CaseT], None]) -> Callable[[CaseT], None]:
            made = Rule(f"{self.prefix}{number:03d}", title, tier, why, fix, check, needs)
            if any(one.id == made.id or one.slug == made.slug for one in self.rules):
                raise ValueError(f"{made.slug} is taken")
            self.rules.append(made)
            self.rules.sort(key=lambda one: one.id)
            return check

        return enter

    def find(self, rule_id: str) -> Rule[CaseT]:
        """Return a rule by its id. Raises `KeyError`."""
        for one in self.rules:
            if one.id == rule_id:
                return one
        raise KeyError(rule_id)


def judge(rule: Rule[CaseT], case: CaseT, exemption: str | None = None) -> Outcome:
    """Try one rule. An exception that is not about the rule is raised as it is: it is a fault of the bench."""
    if exemption is not None:
        return Outcome(rule.id, rule.title, rule.tier, Verdict.EXEMPT, reason=exemption)
    started = time.perf_counter()
    expected = got = reason = ""
    try:
        rule.check(case)
        verdict = Verdict.PASSED
    except Broken as exc:
        verdict, expected, got = Verdict.BROKEN, exc.expected, exc.got
    except NotApplicable as exc:
        verdict, reason = Verdict.NOT_APPLICABLE, str(exc)
    except NotShown as exc:
        verdict, reason = Verdict.NOT_SHOWN, str(exc)
    seconds = time.perf_counter() - started
    return Outcome(rule.id, rule.title, rule.tier, verdict, seconds, expected, got, reason)


def reached(outcomes: Iterable[Outcome], rules: Sequence[Rule[CaseT]]) -> Tier | None:
    """Return the highest tier all of whose rules are kept, or `None`. A rule without an outcome is not kept."""
    kept = {outcome.id for outcome in outcomes if outcome.verdict.kept}
    best = None
    for tier in Tier:
        if not all(one.id in kept for one in rules if one.tier <= tier):
            break
        best = tier
    return best
