"""What came of a run against a plugin's socket: for people, for programs, and for CI as JUnit's XML."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from keystead.testing.plugin_rules import BOOK
from keystead.testing.report import message
from keystead.testing.rules import Outcome, Tier, Verdict, reached

MARKS = {
    Verdict.PASSED: "ok  ",
    Verdict.BROKEN: "FAIL",
    Verdict.NOT_APPLICABLE: "n/a ",
    Verdict.NOT_SHOWN: "skip",
    Verdict.EXEMPT: "skip",
}


def line(outcome: Outcome) -> str:
    """Return the line of one rule."""
    reason = f"  ({outcome.reason})" if outcome.reason else ""
    return f"{MARKS[outcome.verdict]}  {outcome.id}  {outcome.seconds:6.2f} s  {outcome.title}{reason}"


def explanation(outcome: Outcome, endpoint: str, apis: Sequence[str]) -> str:
    """Return what a broken rule says besides."""
    rule = BOOK.find(outcome.id)
    api = "".join(f" --api {one}" for one in apis)
    lines = {
        "expected": outcome.expected,
        "got": outcome.got,
        "why": rule.why,
        "fix": rule.fix,
        "docs": f"{BOOK.page}#{rule.anchor}, or: keystead provider rules {rule.id}",
        "reproduce": f"keystead conformance --endpoint {shlex.quote(endpoint)}{api} --rule {rule.id}",
    }
    return message(rule, lines).partition("\n")[2]


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the last line."""
    counts = {verdict: sum(one.verdict is verdict for one in outcomes) for verdict in Verdict}
    counted = ", ".join(f"{number} {verdict.value}" for verdict, number in counts.items() if number)
    tier = tier_of(outcomes)
    if len(outcomes) < len(BOOK.rules):
        return f"{counted}; no tier, for {len(outcomes)} of {len(BOOK.rules)} rules were tried"
    missing = ""
    if tier is not Tier.GOLD:
        following = Tier((tier or 0) + 1)
        short = [one.id for one in outcomes if one.tier <= following and not one.verdict.kept]
        missing = f"; for {following.label}: {', '.join(short)}"
    return f"{tier.label if tier else 'no tier'} ({counted}){missing}"


def tier_of(outcomes: Sequence[Outcome]) -> Tier | None:
    """Return the tier that was shown; none unless every rule was tried."""
    return reached(outcomes, BOOK.rules)


def as_json(endpoint: str, apis: Sequence[str], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return all that is known, for a program."""
    tier = tier_of(outcomes)
    return {
        "endpoint": endpoint,
        "apis": list(apis),
        "tier": tier.label if tier else None,
        "complete": len(outcomes) == len(BOOK.rules),
        "rules": [
            {
                "rule": one.id,
                "title": one.title,
                "tier": one.tier.label,
                "verdict": one.verdict.value,
                "seconds": round(one.seconds, 3),
                "expected": one.expected,
                "got": one.got,
                "reason": one.reason,
            }
            for one in outcomes
        ],
    }


def as_junit(endpoint: str, apis: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    """Return JUnit's XML: a test case for each rule."""
    broken = sum(one.verdict is Verdict.BROKEN for one in outcomes)
    left_out = sum(one.verdict not in (Verdict.BROKEN, Verdict.PASSED) for one in outcomes)
    suite = ET.Element("testsuite", name=f"keystead conformance {endpoint}", tests=str(len(outcomes)))
    suite.attrib |= {"failures": str(broken), "skipped": str(left_out), "errors": "0"}
    for one in outcomes:
        case = ET.SubElement(
            suite, "testcase", classname="keystead.conformance", name=one.id, time=f"{one.seconds:.3f}"
        )
        if one.verdict is Verdict.BROKEN:
            failure = ET.SubElement(case, "failure", message=_legal(f"{one.title} got {one.got}"))
            failure.text = _legal(explanation(one, endpoint, apis))
        elif one.verdict is not Verdict.PASSED:
            ET.SubElement(case, "skipped", message=_legal(f"{one.verdict.value}: {one.reason}"))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _legal(text: str) -> str:
    """Leave out what XML cannot hold: a plugin's message may have anything."""
    return "".join(one for one in text if one in "\t\n" or (" " <= one < "\ud800") or one >= "\ue000")
