"""What the suite says: the message of a broken rule, the summary of a run, and the same as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keystead.provider import Provider
from keystead.testing.provider_rules import BOOK
from keystead.testing.quality import KIT, Quality
from keystead.testing.rules import Outcome, Rule, RuleBook, Tier, Verdict, reached

WIDTH = 116
PREFIX = "keystead."


def explain(rule: Rule[Any], outcome: Outcome, provider: Provider[Any], node: str) -> str:
    """Return the message of a broken rule: what was expected, what came, why it matters, what to do."""
    kind = type(provider)
    lines = {
        "provider": f"{provider.config.provider} ({kind.__module__}.{kind.__qualname__}, api {kind.api})",
        "expected": outcome.expected,
        "got": outcome.got,
        "why": rule.why,
        "fix": rule.fix,
        "docs": f"{BOOK.page}#{rule.anchor}, or: keystead provider rules {rule.id}",
        "reproduce": f"pytest '{node}'",
    }
    return message(rule, lines)


def message(rule: Rule[Any], lines: Mapping[str, str]) -> str:
    """Lay out a title and labelled lines, without breaking a command that is to be copied."""
    laid = [f"{rule.id} broken: {rule.title}"]
    for label, text in lines.items():
        head = f"  {label:<10} "
        if label == "reproduce":
            laid.append(head + text)
        else:
            laid.append(textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(laid)


def note(record: Callable[[str, object], None], provider: Provider[Any], said: Quality, outcome: Outcome) -> None:
    """Put an outcome where pytest carries it into its report and into JUnit's."""
    entry = {
        "provider": provider.config.provider,
        "api": type(provider).api,
        "rule": outcome.id,
        "tier": outcome.tier.label,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "expected": outcome.expected,
        "got": outcome.got,
        "seconds": round(outcome.seconds, 3),
        "claimed": said.tier.label if said.tier else "",
    }
    for name, value in entry.items():
        record(PREFIX + name, value)


@dataclass
class Run:
    """All outcomes of one suite for one provider."""

    suite: str
    provider: str
    api: int
    claimed: str
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every rule had its turn."""
        return all(rule.id in self.outcomes for rule in BOOK.rules)

    @property
    def tier(self) -> Tier | None:
        """The tier that was shown."""
        return reached([_outcome(one) for one in self.outcomes.values()], BOOK.rules)

    @property
    def short_of_claim(self) -> bool:
        """Whether the quality file claims more than was shown, by a run of all rules."""
        return bool(self.claimed) and self.complete and (self.tier or 0) < Tier[self.claimed.upper()]

    def counts(self) -> dict[str, int]:
        """Return how often each verdict was given."""
        found = [one["verdict"] for one in self.outcomes.values()]
        return {verdict.value: found.count(verdict.value) for verdict in Verdict if verdict.value in found}

    def missing(self) -> tuple[Tier, list[str]] | None:
        """Return the next tier, and the ids of the rules that keep it from being reached."""
        next_tier = Tier((self.tier or 0) + 1) if (self.tier or 0) < Tier.GOLD else None
        if next_tier is None:
            return None
        kept = {one["rule"] for one in self.outcomes.values() if _outcome(one).verdict.kept}
        return next_tier, [rule.id for rule in BOOK.rules if rule.tier <= next_tier and rule.id not in kept]

    def as_json(self) -> dict[str, Any]:
        """Return all that is known, for a program."""
        return {
            "kit": KIT,
            "suite": self.suite,
            "provider": self.provider,
            "api": self.api,
            "claimed": self.claimed or None,
            "tier": self.tier.label if self.tier else None,
            "complete": self.complete,
            "counts": self.counts(),
            "rules": list(self.outcomes.values()),
        }

    def lines(self) -> list[str]:
        """Return the summary for people."""
        counted = ", ".join(f"{number} {verdict}" for verdict, number in self.counts().items())
        if not self.complete:
            return [f"{self.provider}: {counted}; no tier, for {len(self.outcomes)} of {len(BOOK.rules)} rules ran"]
        lines = [f"{self.provider}: {self.tier.label if self.tier else 'no tier'} ({counted})"]
        if (short := self.missing()) is not None:
            lines += textwrap.wrap(
                f"for {short[0].label}: {', '.join(short[1])}", WIDTH, initial_indent="  ", subsequent_indent="    "
            )
        if self.short_of_claim:
            lines.append(f"  the quality file claims {self.claimed}: this run has not shown it")
        return lines


def claims_not_shown(runs: Iterable[Run]) -> set[str]:
    """Return the providers whose claim none of their runs has shown: one transport may show what another cannot."""
    runs = list(runs)
    return {run.provider for run in runs} - {run.provider for run in runs if not run.short_of_claim}


def gather(runs: dict[str, Run], node: str, properties: Sequence[tuple[str, Any]]) -> None:
    """Add what one test's report carries, if it is one of the suite's."""
    found = {name.removeprefix(PREFIX): value for name, value in properties if name.startswith(PREFIX)}
    if "rule" not in found:
        return
    suite = node.rpartition("::")[0]
    run = runs.setdefault(suite, Run(suite, found["provider"], found["api"], found["claimed"]))
    run.outcomes[found["rule"]] = found


def table(book: RuleBook[Any]) -> str:
    """Return the page of the documentation about the rules: a table, and a section for each."""
    lines = [f"# {book.title}", "", *textwrap.wrap(book.intro, 120), "", "| id | tier | rule |", "|---|---|---|"]
    lines += [f"| [{rule.id}](#{rule.anchor}) | {rule.tier.label} | {rule.title} |" for rule in book.rules]
    lines += [
        "",
        f"There are {len(book.rules)}. This page is written from the code: `python -m keystead.testing.books`.",
    ]
    for rule in book.rules:
        lines += ["", f"### {rule.id}", ""]
        parts = [rule.title, f"*{rule.tier.label}.*"]
        parts += [f"*Tried with:* {rule.needs}."] if rule.needs else []
        lines += textwrap.wrap(" ".join(parts), 120)
        lines += ["", *textwrap.wrap(f"**Why.** {rule.why}", 120), "", *textwrap.wrap(f"**Fix.** {rule.fix}", 120)]
    return "\n".join(lines) + "\n"


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    rule = BOOK.find(entry["rule"])
    return Outcome(rule.id, rule.title, rule.tier, Verdict(entry["verdict"]))
