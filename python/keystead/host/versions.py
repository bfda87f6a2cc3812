"""Which version of a remote key a new wrap should use, and for how long it has been seen. Pure.

Replicas of a KMS lag behind each other, and some change their primary version only within minutes to hours. So a new
version counts only when it was named without contradiction for a while, and never goes back: a lower number is a
replica that lags or a key that was made anew, and adopting it would bring an old key_id back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sightings:
    """What a remote named as its current version, last. A value: `after` makes the next one. Monotonic seconds."""

    version: str | None = None
    """`None` if it has not told any."""
    first: float = 0.0
    last: float = 0.0
    blind: bool = False
    """Whether it was asked and the credentials may not look."""

    def after(self, version: str | None, now: float) -> Sightings:
        """Take one answer."""
        if version is None:
            return Sightings(blind=True)
        return Sightings(version, self.first if version == self.version else now, now)

    def settled(self, delay: float) -> str | None:
        """Return the version if every answer over at least `delay` seconds named it."""
        return self.version if self.version is not None and self.last - self.first >= delay else None


def is_newer(version: str, than: str) -> bool:
    """Whether both begin with a number, and that of the first one is higher."""
    one, other = _number(version), _number(than)
    return one is not None and other is not None and one > other


def _number(version: str) -> int | None:
    """Return what orders a version: a decimal number that is all of it or ends at a hyphen; `None` if there is none."""
    number = version.partition("-")[0]
    return int(number) if number.isdecimal() else None


def version_to_use(
    in_record: str | None, seen: Sightings, delay: float, *, new_epoch: bool = False, at_once: bool = False
) -> str | None:
    """Return the version that a wrap made now should name; `None` leaves it to the remote.

    `in_record` is that of the record in use, `None` if the key is not in it: then what was seen last is as good as
    any. Versions without a number, or with the same one, cannot be compared, so they change only with a new epoch.
    `at_once` waits for no delay.
    """
    if in_record is None:
        return seen.version
    if seen.blind:
        return None
    settled = seen.settled(0.0 if at_once else delay)
    if settled is None:
        return in_record
    older = is_newer(in_record, settled)
    return settled if is_newer(settled, in_record) or (new_epoch and not older) else in_record
