"""The "did you mean" of messages about names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 64
"""Characters of a word that are compared. Names are shorter, and the comparison takes quadratic time."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the closest of `choices`, or nothing if none is close. Case does not count."""
    folded = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word[:LONGEST].lower(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
