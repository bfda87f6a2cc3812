"""Breadth-first search of everything that can happen, so that the first breach found has the shortest story."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

S = TypeVar("S")


@dataclass(frozen=True)
class Outcome:
    """What a search has found."""

    story: tuple[str, ...]
    """The events that lead to the first breach, then the breach; empty if there is none."""
    states: int
    """Different states that were looked at: all that can be reached, if there is no breach."""
    finished: bool
    """Whether a state was reached where the change is over. A model that never gets there is safe for no reason."""

    @property
    def safe(self) -> bool:
        """Whether nothing that can happen is a breach."""
        return not self.story


def search(
    initial: S,
    events: Callable[[S], Iterable[tuple[str, S]]],
    breach: Callable[[S], str | None],
    over: Callable[[S], bool],
    same: Callable[[S], Hashable],
) -> Outcome:
    """Follow every event from every state. States with an equal `same` differ in names only and are looked at once."""
    came_from: dict[Hashable, tuple[Hashable, str] | None] = {same(initial): None}
    waiting = deque([initial])
    finished = False
    while waiting:
        state = waiting.popleft()
        found = breach(state)
        if found is not None:
            return Outcome((*_story(came_from, same(state)), found), len(came_from), finished)
        finished = finished or over(state)
        for event, following in events(state):
            name = same(following)
            if name not in came_from:
                came_from[name] = (same(state), event)
                waiting.append(following)
    return Outcome((), len(came_from), finished)


def _story(came_from: dict[Hashable, tuple[Hashable, str] | None], name: Hashable) -> tuple[str, ...]:
    events: list[str] = []
    step = came_from[name]
    while step is not None:
        events.append(step[1])
        step = came_from[step[0]]
    return tuple(reversed(events))
