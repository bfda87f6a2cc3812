"""Makes a local KEK: wrapped under every active member, and unwrapped again through each before anybody uses it."""

from __future__ import annotations

from collections.abc import Callable

from keystead import errors
from keystead._core import ROLE_ONLINE, Kek, Record, Wrap
from keystead.host.guard import Guard
from keystead.host.members import Members
from keystead.provider import WrapContext


def mint(members: Members, cluster: str, wall_clock: Callable[[], float], deadline: float) -> tuple[Record, Kek]:
    """Return a new KEK and its record. All active members must be up: there is no partial record.

    Raises the `ProviderError` of the first member that fails, `Misbehaved` if one returns another key than it was
    given, `ConfigError` if the record would break a limit of the format, and `Unsafe` without randomness.
    """
    kek = Kek.generate()
    context = WrapContext(kek.kek_id, cluster)
    wraps = [_wrap(guard, kek, context, deadline) for guard in members.active]
    try:
        return kek.encode_record(int(wall_clock()), cluster, wraps), kek
    except ValueError as exc:
        raise errors.ConfigError(f"the active members do not fit into one record: {exc}") from None


def round_trip(guard: Guard, cluster: str, deadline: float) -> None:
    """Wrap and unwrap a throwaway value, which proves both rights at once. Raises as `mint` does."""
    kek = Kek.generate()
    _wrap(guard, kek, WrapContext(kek.kek_id, cluster), deadline)


def _wrap(guard: Guard, kek: Kek, context: WrapContext, deadline: float) -> Wrap:
    ref = guard.open(deadline)
    answer = guard.wrap(kek.reveal(), context, guard.current_version(deadline), deadline)
    wrap = Wrap(guard.scheme, ref, answer.version, ROLE_ONLINE, answer.blob)
    if not kek.equals(guard.unwrap(wrap, context, deadline)):
        raise errors.Misbehaved(f"key {guard.name}: unwrap returned another key than was wrapped a moment ago")
    return wrap
