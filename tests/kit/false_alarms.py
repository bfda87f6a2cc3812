"""Tries every rule on a sound provider, many times, and counts alarms: `PYTHONPATH=tests python -m kit.false_alarms`.

Each run is a process of its own, several at once, so that the machine is busy as that of a vendor's CI may be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from keystead.testing import FakeKmsProvider
from keystead.testing.provider_rules import BOOK
from keystead.testing.rules import Outcome, Verdict
from kit.bench import trial


def run(number: int) -> list[Outcome]:
    """Try every rule once, each with a service of its own."""
    outcomes = []
    for rule in BOOK.rules:
        with tempfile.TemporaryDirectory(prefix="keystead-kit-") as directory:
            outcomes.append(trial(rule.id, FakeKmsProvider, Path(directory)))
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kit.false_alarms", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args()
    counts: Counter[Verdict] = Counter()
    alarms: list[Outcome] = []
    start = time.monotonic()
    with ProcessPoolExecutor(given.at_once) as pool:
        for number, outcomes in enumerate(pool.map(run, range(given.runs)), 1):
            counts.update(one.verdict for one in outcomes)
            new = [one for one in outcomes if one.verdict is Verdict.BROKEN]
            alarms += new
            passed = time.monotonic() - start
            print(f"{number:4} runs after {passed:6.0f} s: {len(alarms)} alarms", flush=True)
            for one in new:
                print(f"ALARM {one.id}: expected {one.expected}, got {one.got}", flush=True)
    print(", ".join(f"{count} {verdict.value}" for verdict, count in counts.items()))
    sys.exit(bool(alarms))


if __name__ == "__main__":
    main()
