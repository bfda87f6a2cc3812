"""Tries keys before anything depends on them: what a reload does with new keys beside those in use."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from keystead import errors
from keystead.host.guard import Guard
from keystead.host.mint import round_trip
from keystead.host.verdict import is_transient


class Unproven(errors.KeysteadError):
    """Keys that cannot do their part; the text has a sentence for each."""

    def __init__(self, failures: Collection[errors.KeysteadError]) -> None:
        self.reasons = [str(failure) for failure in failures]
        self.hopeless = any(isinstance(failure, errors.ConfigError | errors.Misbehaved) for failure in failures)
        """Whether trying again is of no use, whatever is mended on the other side."""
        self.transient = all(is_transient(failure) for failure in failures)
        """Whether the remotes are merely away."""
        super().__init__("; ".join(self.reasons))


def prove(active: Collection[Guard], others: Collection[Guard], cluster: str, deadline: float) -> None:
    """Wrap and unwrap a throwaway value under each active key, and open the others, all at the same time.

    A key that only decrypts is opened and no more, for it may lack the right to wrap. Ends at `deadline`, a point of
    the monotonic clock. Raises `Unproven`.
    """
    trials: list[Callable[[], object]] = [partial(round_trip, guard, cluster, deadline) for guard in active]
    trials += [partial(guard.open, deadline) for guard in others]
    if not trials:
        return
    with ThreadPoolExecutor(len(trials), thread_name_prefix="prove") as pool:
        failures = [error for error in pool.map(_error_of, trials) if error is not None]
    if failures:
        raise Unproven(failures)


def _error_of(trial: Callable[[], object]) -> errors.KeysteadError | None:
    try:
        trial()
    except errors.KeysteadError as exc:
        return exc
    return None
