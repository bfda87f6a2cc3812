"""Print what the models find, with the shortest story of each breach. `python -m tests.model --help`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

from . import rollout, versions
from .search import Outcome

NODES = (2, 3)


@dataclass(frozen=True)
class Row:
    """One way of doing it, and what was found for each number of nodes."""

    name: str
    outcomes: dict[int, Outcome]

    @property
    def safe(self) -> bool:
        return all(outcome.safe for outcome in self.outcomes.values())

    def __str__(self) -> str:
        """A row of a table in Markdown."""
        states = [str(self.outcomes[number].states) if number in self.outcomes else "" for number in NODES]
        return f"| {self.name} | {'safe' if self.safe else '**unsafe**'} | {' | '.join(states)} |"


def of_rollout(everything: bool = False) -> Iterator[Row]:
    """The ways to change the keys of a cluster."""
    for name, rules in rollout.variants().items():
        nodes = NODES if everything or name != rollout.ANY_ORDER else NODES[:1]
        yield Row(name, {number: rollout.explore(replace(rules, nodes=number)) for number in nodes})


def of_versions() -> Iterator[Row]:
    """The ways to follow the versions of a key."""
    for name, rules in versions.variants().items():
        yield Row(name, {number: versions.explore(replace(rules, nodes=number)) for number in NODES})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description="Print what the models find.")
    parser.add_argument("table", nargs="?", choices=("rollout", "versions"), help="only this one")
    parser.add_argument("--all", action="store_true", help="also the largest search, which takes many minutes")
    arguments = parser.parse_args()
    if arguments.table != "versions":
        show("Changing the keys of an endpoint", of_rollout(arguments.all))
    if arguments.table != "rollout":
        show("Versions of one key", of_versions())


def show(title: str, rows: Iterator[Row]) -> None:
    """Print a table in Markdown, then the story of each row that is not safe."""
    print(f"\n| {title} | found | states, 2 nodes | 3 nodes |\n|---|---|---|---|")
    unsafe = []
    for row in rows:
        print(row, flush=True)
        if not row.safe:
            unsafe.append(row)
    for row in unsafe:
        print(f"\n{row.name}:")
        for step in row.outcomes[NODES[0]].story:
            print(f"  {step}")


if __name__ == "__main__":
    main()
