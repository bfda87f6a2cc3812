"""Makes a local KEK: wrapped under every active key, and unwrapped through each online one before anybody uses it.

A recovery key wraps and is not asked to unwrap: its other half is in a safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keystead import errors
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, Wrap
from keystead.host.guard import Guard
from keystead.host.members import Members
from keystead.provider import WrapContext

Versions = Mapping[str, str | None]
"""The version to wrap under by the name of the key; `None` leaves it to the remote, a missing one asks for it first."""


def mint(
    members: Members, cluster: str, versions: Versions, wall_clock: Callable[[], float], deadline: float
) -> tuple[Record, Kek]:
    """Return a new KEK and its record. All active keys must answer: there is no partial record.

    Raises the `ProviderError` of the first key that fails, `Misbehaved` if one returns another key than it was given,
    `ConfigError` if the record would break a limit of the format, and `Unsafe` without randomness.
    """
    kek = Kek.generate()
    context = WrapContext(kek.kek_id, cluster)
    wraps = []
    for member in members.all:
        if member.active:
            version = versions.get(member.guard.name, ...)
            if version is ...:
                version = member.guard.current_version(deadline)
            make = wrap if member.online else wrap_only
            wraps.append(make(member.guard, kek, context, version, deadline))
    try:
        return kek.encode_record(int(wall_clock()), cluster, wraps), kek
    except ValueError as exc:
        raise errors.ConfigError(f"the active members do not fit into one record: {exc}") from None


def wrap(guard: Guard, kek: Kek, context: WrapContext, version: str | None, deadline: float) -> Wrap:
    """Wrap, and prove by an unwrap that it can be undone. Raises as `mint` does."""
    made = wrap_only(guard, kek, context, version, deadline, ROLE_ONLINE)
    prove(guard, kek, context, made, deadline)
    return made


def wrap_only(
    guard: Guard, kek: Kek, context: WrapContext, version: str | None, deadline: float, role: int = ROLE_RECOVERY
) -> Wrap:
    """Wrap. Raises as `mint` does."""
    ref = guard.open(deadline)
    answer = guard.wrap(kek.reveal(), context, version, deadline)
    return Wrap(guard.scheme, ref, answer.version, role, answer.blob)


def prove(guard: Guard, kek: Kek, context: WrapContext, made: Wrap, deadline: float) -> None:
    """Unwrap what was wrapped a moment ago, and compare. Raises as `mint` does."""
    if not kek.equals(guard.unwrap(made, context, deadline)):
        raise errors.Misbehaved(f"key {guard.name}: unwrap returned another key than was wrapped a moment ago")


def round_trip(guard: Guard, cluster: str, deadline: float) -> None:
    """Wrap and unwrap a throw-away value, which proves both rights at once. Raises as `mint` does."""
    kek = Kek.generate()
    wrap(guard, kek, WrapContext(kek.kek_id, cluster), guard.current_version(deadline), deadline)
