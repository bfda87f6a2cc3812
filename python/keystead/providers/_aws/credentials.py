"""The credentials: when they are got and when they are replaced, without a thread and without a needless failure.

Those past half their life are replaced after a call, when its answer is already there, by one caller at a time. They
are replaced before a call if they have ended or their file has changed, and once more after AWS refused them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from keystead.provider import ProviderError, Unauthenticated, Unavailable

RENEW_SECONDS = 1.0
"""The longest that a call whose answer is there already waits for new credentials."""
RENEW_PAUSE = 5.0
"""Seconds between attempts to renew that fail, at least."""
YOUNG_SECONDS = 30.0
"""Credentials that AWS refuses are not replaced if they are younger: what is wrong is elsewhere."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a source of credentials answers: botocore's frozen credentials, and the time of day when they end."""

    keys: Any = field(repr=False)
    ends: float = math.inf
    """`inf` if they have no end, or if it is not known."""
    renew_after: float = math.inf
    """Seconds until they are to be got anew, whatever the end."""


class Source(Protocol):
    """Where credentials come from."""

    def fetch(self, deadline: float) -> Grant:
        """Get credentials. Raises `ProviderError`, with a text that begins with "credentials: "."""

    def stamp(self) -> object:
        """Return something that is another after a file has changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """Credentials in use."""

    keys: Any = field(repr=False)
    since: float
    due: float
    ends: float
    stamp: object


class Credentials:
    """What botocore signs with. Safe to use from many threads."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._lease: Lease | None = None
        self._fetching = threading.Lock()
        self._attempts = 0
        self._last_failure: tuple[type[ProviderError], str] | None = None
        self._renew_after = -math.inf
        self._renewal_failure: tuple[type[ProviderError], str] | None = None

    def valid(self, deadline: float) -> Lease:
        """Return credentials that should work, so that `get_frozen_credentials` has some. Raises `ProviderError`."""
        lease, now = self._lease, self._clock()
        if lease is None or now >= lease.ends:
            return self._fetch(lease, deadline)
        if lease.stamp != self._source.stamp() and now >= self._renew_after:
            try:
                return self._fetch(lease, deadline)
            except ProviderError as exc:
                # A file that is being written may be half there; the old credentials have not ended.
                self._renewal_failure = type(exc), str(exc)
                self._renew_after = now + RENEW_PAUSE
        return lease

    def replaced(self, refused: Lease, deadline: float) -> bool:
        """Say whether there are other credentials to try, after AWS did not accept these. Raises `ProviderError`."""
        lease = self._lease
        if lease is not refused:
            return lease is not None
        if self._clock() < refused.since + YOUNG_SECONDS:
            return False
        return bool(self._fetch(refused, deadline).keys != refused.keys)

    def renew_if_due(self, deadline: float) -> None:
        """Replace credentials past half their life. A failure costs nothing yet: they still work."""
        lease, now = self._lease, self._clock()
        if lease is None or now < max(lease.due, self._renew_after) or not self._fetching.acquire(blocking=False):
            return
        try:
            if self._lease is lease:
                self._lease = self._new(min(deadline, time.monotonic() + RENEW_SECONDS))
        except ProviderError as exc:
            self._renewal_failure = type(exc), str(exc)
            left = lease.ends - self._clock()
            self._renew_after = self._clock() + max(RENEW_PAUSE, left / 8 if left < math.inf else 0)
        finally:
            self._fetching.release()

    def keep_alive(self, deadline: float) -> None:
        """Get credentials if there are none that work, and renew those there are if that is due."""
        self.valid(deadline)
        self.renew_if_due(deadline)
        if self._renewal_failure is not None:
            failure, text = self._renewal_failure
            raise failure(text)

    @property
    def expiry(self) -> float | None:
        """Unix time at which the credentials end, if their last renewal failed, so that somebody has to act before."""
        lease = self._lease
        if lease is None or lease.ends == math.inf or self._renewal_failure is None:
            return None
        return time.time() + lease.ends - self._clock()

    def get_frozen_credentials(self) -> Any:
        """Return what `valid` has got. botocore calls this to sign."""
        if self._lease is None:
            raise Unauthenticated("credentials: there are none yet")
        return self._lease.keys

    def get_deferred_property(self, name: str) -> Callable[[], None]:  # noqa: ARG002  # botocore's signature
        """Know no more about the account. botocore asks for services whose addresses have its number."""
        return lambda: None

    def secrets(self) -> list[str]:
        """Return what no message may show, should a server repeat it."""
        keys = self._lease.keys if self._lease is not None else None
        return [value for value in (getattr(keys, "secret_key", None), getattr(keys, "token", None)) if value]

    def _fetch(self, stale: Lease | None, deadline: float) -> Lease:
        """Replace `stale`. Of many callers one asks the source, and the others get what it got, be it a failure."""
        seen = self._attempts
        if not self._fetching.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Unavailable("credentials: another call is still getting them")
        try:
            if self._lease is not None and self._lease is not stale:
                return self._lease
            if self._attempts != seen and self._last_failure is not None:
                failure, text = self._last_failure
                raise failure(text)
            try:
                self._lease = self._new(deadline)
            except ProviderError as exc:
                self._last_failure = type(exc), str(exc)
                raise
            finally:
                # Not before: a caller that comes meanwhile is to see that an attempt ended while it waited.
                self._attempts += 1
            self._last_failure = None
            return self._lease
        finally:
            self._fetching.release()

    def _new(self, deadline: float) -> Lease:
        # The time and the stamp are taken before, so that what comes back never looks younger than it is.
        now, stamp = self._clock(), self._source.stamp()
        grant = self._source.fetch(deadline)
        self._renewal_failure = None
        due = now + min((grant.ends - now) / 2, grant.renew_after)
        return Lease(grant.keys, now, due, grant.ends, stamp)
