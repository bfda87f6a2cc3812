"""One error out of several: what a Decrypt answers when every member of a record failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from keystead import errors

E = TypeVar("E", bound=errors.KeysteadError)

# The first of these that occurs is the answer when no failure may pass by itself: what an operator can mend comes
# before what nobody can.
_ORDER: tuple[tuple[type[errors.KeysteadError], ...], ...] = (
    (errors.PermissionDenied,),
    (errors.Unauthenticated,),
    (errors.NoConfiguredMember, errors.KeyNotFound, errors.KeyDisabled, errors.ConfigError),
    (errors.NotAuthentic, errors.InvalidCiphertext),
    (errors.Misbehaved,),
)


def is_transient(error: errors.KeysteadError) -> bool:
    """Whether the same call may succeed a little later with nothing mended."""
    if isinstance(error, errors.ProviderError):
        return error.transient
    return isinstance(error, errors.TimedOut | errors.Overloaded | errors.NotReady)


def bare(error: E) -> E:
    """Return an error to keep: without its traceback, whose frames would keep what they hold in memory.

    An error that is kept from probe to probe would hold the one before it, and so on for as long as a key fails.
    """
    return type(error)(*error.args)


def combine(failures: Sequence[errors.KeysteadError]) -> errors.KeysteadError:
    """Choose the class that tells the operator what to do, and keep every message. `failures` is not empty."""
    # A member that was opened only to find that the record does not name it has said nothing of this record.
    failures = [failure for failure in failures if not isinstance(failure, errors.NoConfiguredMember)] or failures
    text = "; ".join(dict.fromkeys(str(failure) for failure in failures))
    classes = {type(failure) for failure in failures}
    if len(classes) == 1:
        return classes.pop()(text)
    if any(is_transient(failure) for failure in failures):
        return errors.Unavailable(text)
    for group in _ORDER:
        for failure in failures:
            if isinstance(failure, group):
                return type(failure)(text)
    return errors.Misbehaved(text)
