"""The token: how it is got, renewed and replaced, without a thread and without failing a call that need not fail.

A token past half its life is renewed after a call, when the answer is already there, by one caller at a time. One
that is dead is replaced before the call, or after the server refused it.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from keystead.provider import PermissionDenied, ProviderError, Throttled, Unauthenticated, Unavailable
from keystead.providers._vault.answers import Answer, refusal
from keystead.providers._vault.config import AppRoleAuth, AuthConfig, CertAuth, JwtAuth, KubernetesAuth, TokenAuth

RENEW_SECONDS = 1.0
"""The longest that a call whose answer is there already waits for a renewal."""
RENEW_PAUSE = 1.0
"""Seconds between attempts to renew that fail, at least."""
POLICY_PAUSE = 60.0
"""A policy that was just attached to a role reaches only new tokens, so one that may too little is replaced, but not
more often than this."""
_MAX_SECRET = 1 << 16


class Server(Protocol):
    """What of `http.Transport` is needed here."""

    def request(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer: ...

    def forget_connections(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """A token and how long it lives. Times are counted from before it was asked for, so it never looks younger."""

    token: str = field(repr=False)
    since: float
    ttl: float
    first_ttl: float
    renewable: bool

    def is_over(self, now: float) -> bool:
        return now >= self.since + self.ttl

    def is_due(self, now: float) -> bool:
        return now >= self.since + self.ttl / 2

    @property
    def is_shrinking(self) -> bool:
        """Near its maximum the server grants less and less: time for a new one."""
        return self.ttl < self.first_ttl / 3


class Credentials:
    """Calls the server with a token that works. Safe to use from many threads."""

    def __init__(self, auth: AuthConfig, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._auth = auth
        self._server = server
        self._clock = clock
        self._lease: Lease | None = None
        self._logging_in = threading.Lock()
        self._attempts = 0
        self._last_failure: tuple[type[ProviderError], str] | None = None
        self._renew_after = -math.inf
        self._renewal_failure: tuple[type[ProviderError], str] | None = None
        self._denied: Lease | None = None
        self._denied_at = -math.inf

    def request(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        body: Mapping[str, Any] | None = None,
        optional: bool = False,
    ) -> Answer:
        """Return the answer to a call with our token, which is a success. Raises what `refusal` makes of another.

        `optional` says that a policy may well deny this for good, so that it is no reason for a new token.
        """
        lease = self._valid(deadline)
        answer = self._server.request(method, path, deadline, token=lease.token, body=body)
        error = refusal(answer)
        if isinstance(error, PermissionDenied):
            lease = self._instead_of(lease, error, deadline, optional=optional)
            answer = self._server.request(method, path, deadline, token=lease.token, body=body)
            error = refusal(answer)
            if isinstance(error, PermissionDenied):
                self._denied, self._denied_at = lease, self._clock()
        self._renew_if_due(deadline)
        if error is not None:
            raise error
        return answer

    def keep_alive(self, deadline: float) -> None:
        """Get a token if there is none that works, and renew the one there is if that is due."""
        self._valid(deadline)
        self._renew_if_due(deadline)
        if self._renewal_failure is not None:
            failure, text = self._renewal_failure
            raise failure(text)

    @property
    def expiry(self) -> float | None:
        """Unix time at which the token ends, if somebody has to act before: nothing here prolongs its life."""
        lease = self._lease
        if lease is None or lease.ttl == math.inf:
            return None
        is_given = isinstance(self._auth, TokenAuth) and not lease.renewable
        if not is_given and not lease.is_shrinking and self._renewal_failure is None:
            return None
        return time.time() + lease.since + lease.ttl - self._clock()

    def _valid(self, deadline: float) -> Lease:
        lease = self._lease
        if lease is not None and not lease.is_over(self._clock()):
            return lease
        return self._log_in(lease, deadline)

    def _instead_of(self, lease: Lease, denied: PermissionDenied, deadline: float, *, optional: bool) -> Lease:
        """Return a token to try after the server refused this one; raise if there is no better one.

        A dead token and a policy look the same, so the token is asked about itself. It cannot always answer: a token
        without the default policy may not look itself up. That is why a new one is tried before giving up.
        """
        if self._lease is not lease:
            return self._valid(deadline)
        now = self._clock()
        alive = self._lookup(lease.token, deadline).ok
        tried = self._denied is lease and now < self._denied_at + POLICY_PAUSE
        if tried or (alive and (optional or now < lease.since + POLICY_PAUSE)):
            raise denied
        try:
            return self._log_in(lease, deadline)
        except ProviderError:
            if alive:
                raise denied from None
            raise

    def _log_in(self, stale: Lease | None, deadline: float) -> Lease:
        """Replace `stale`. Of many callers one logs in, and the others get what it got, be it a failure."""
        seen = self._attempts
        if not self._logging_in.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Unavailable("another call is still logging in, or renewing the token")
        try:
            if self._lease is not None and self._lease is not stale:
                return self._lease
            if self._attempts != seen and self._last_failure is not None:
                failure, text = self._last_failure
                raise failure(text)
            try:
                self._lease = self._new_lease(stale, deadline)
            except ProviderError as exc:
                self._last_failure = type(exc), str(exc)
                raise
            finally:
                # Not before: a caller that comes meanwhile is to see that an attempt ended while it waited.
                self._attempts += 1
            self._last_failure = self._renewal_failure = None
            return self._lease
        finally:
            self._logging_in.release()

    def _renew_if_due(self, deadline: float) -> None:
        """Renew or replace a token past half its life. A failure costs nothing yet: the token still works."""
        lease, now = self._lease, self._clock()
        if lease is None or not lease.is_due(now) or now < self._renew_after:
            return
        if not self._logging_in.acquire(blocking=False):
            return
        try:
            if self._lease is lease:
                self._renewal_failure = None
                self._lease = self._renewed(lease, min(deadline, time.monotonic() + RENEW_SECONDS))
        except ProviderError as exc:
            self._renewal_failure = type(exc), str(exc)
            left = lease.since + lease.ttl - self._clock()
            self._renew_after = self._clock() + max(RENEW_PAUSE, left / 8)
        finally:
            self._logging_in.release()

    def _renewed(self, lease: Lease, deadline: float) -> Lease:
        if not lease.renewable or self._file_has_another(lease):
            return self._new_lease(lease, deadline)
        now = self._clock()
        answer = self._server.request("POST", "auth/token/renew-self", deadline, token=lease.token, body={})
        error = refusal(answer)
        if isinstance(error, Throttled):
            raise error
        if error is not None:
            return self._new_lease(lease, deadline)
        renewed = replace(self._granted(answer, now, ends=True), first_ttl=lease.first_ttl)
        if not renewed.is_shrinking or isinstance(self._auth, TokenAuth):
            return renewed
        try:
            return self._new_lease(lease, deadline)
        except ProviderError as exc:
            self._renewal_failure = type(exc), str(exc)
            return renewed

    def _file_has_another(self, lease: Lease) -> bool:
        try:
            return isinstance(self._auth, TokenAuth) and read_secret(self._auth.tokenFile) != lease.token
        except Unauthenticated:
            return False  # a file that is missing for a moment must not keep a good token from being renewed

    def _new_lease(self, stale: Lease | None, deadline: float) -> Lease:
        if isinstance(self._auth, TokenAuth):
            return self._from_file(self._auth.tokenFile, stale, deadline)
        now = self._clock()
        if isinstance(self._auth, CertAuth):
            self._server.forget_connections()
        path = f"auth/{self._auth.mount or self._auth.method}/login"
        answer = self._server.request("POST", path, deadline, body=_login(self._auth))
        error = refusal(answer)
        if isinstance(error, Throttled):
            raise error
        if error is not None:
            raise Unauthenticated(f"login by {self._auth.method}: {error}")
        return self._granted(answer, now, ends=False)

    def _from_file(self, file: Path, stale: Lease | None, deadline: float) -> Lease:
        now = self._clock()
        token = read_secret(file)
        answer = self._lookup(token, deadline)
        if answer.ok:
            about = answer.section("data")
            ttl = _seconds(about.get("ttl"), answer, ends=about.get("expire_time") is not None)
            return Lease(token, now, ttl, ttl, renewable=about.get("renewable") is True)
        if stale is None or stale.token != token:
            # It may be alive and only not allowed to look itself up; the call that follows will tell.
            return Lease(token, now, math.inf, math.inf, renewable=False)
        raise Unauthenticated(
            f"the token in {file} is not accepted: expired, revoked or used up; put a new one there ({answer.request})"
        )

    def _lookup(self, token: str, deadline: float) -> Answer:
        answer = self._server.request("GET", "auth/token/lookup-self", deadline, token=token)
        error = refusal(answer)
        if error is None or isinstance(error, PermissionDenied):
            return answer
        raise error

    def _granted(self, answer: Answer, since: float, *, ends: bool) -> Lease:
        auth = answer.section("auth")
        token = auth.get("client_token")
        if not isinstance(token, str) or not _is_secret(token):
            if auth.get("mfa_requirement"):
                raise Unauthenticated(f"{answer.request}: the login asks for a second factor, which a service has not")
            raise answer.misbehaved("without a token")
        ttl = _seconds(auth.get("lease_duration"), answer, ends=ends)
        return Lease(token, since, ttl, ttl, renewable=auth.get("renewable") is True)


def _seconds(value: object, answer: Answer, *, ends: bool) -> float:
    """Return the seconds that a token lives. 0 is less than one for a token that is known to end, else for ever."""
    if type(value) is not int or value < 0:
        raise answer.misbehaved("without the token's time to live")
    return float(value) if value or ends else math.inf


def _login(auth: AppRoleAuth | JwtAuth | CertAuth | KubernetesAuth) -> dict[str, str]:
    if isinstance(auth, AppRoleAuth):
        return {"role_id": read_secret(auth.roleIDFile), "secret_id": read_secret(auth.secretIDFile)}
    if isinstance(auth, CertAuth):
        return {} if auth.role is None else {"name": auth.role}
    return {"role": auth.role, "jwt": read_secret(auth.jwtFile)}


def read_secret(file: Path) -> str:
    """Return the one line of a secret's file. Raises `Unauthenticated`, whose text has nothing of the content."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_SECRET + 1)
    except OSError as exc:
        raise Unauthenticated(f"cannot read {file}: {exc.strerror}") from None
    text = content.decode("ascii", "replace").strip()
    if not _is_secret(text) or len(content) > _MAX_SECRET:
        raise Unauthenticated(f"{file} should hold one secret of printable ASCII, and holds {len(content)} bytes")
    return text


def _is_secret(text: str) -> bool:
    """Nothing else fits in a header: an error about it, raised elsewhere, would show the text."""
    return re.fullmatch(r"[!-~]+", text) is not None
