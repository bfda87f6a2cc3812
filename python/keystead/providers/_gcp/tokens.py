"""Access tokens: got before a call and within its time, and replaced after a call while they are still good.

The SDK would get them inside a call, from a thread per call, and its answer to a metadata server that is away is to
retry for 15 seconds and more, also while the old token is good. Its option for a refresh in the background falls back
to that after the first failure. So a token is asked for here, and handed to the SDK as a header.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from google.auth import aws, identity_pool
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account

from keystead.provider import ConfigError, Misbehaved, ProviderError, Throttled, Unauthenticated, Unavailable
from keystead.providers._bounded import FAILURES
from keystead.providers._gcp.answers import scrub
from keystead.providers._gcp.http import Session, overloaded, reason

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
METADATA_ADDRESS = "169.254.169.254"
"""By number: the name server of a machine in Google's cloud is the metadata server itself."""
METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
EARLY_SECONDS = 225.0
"""How long before its end a token is replaced. The metadata server repeats one until five minutes before its end."""
EARLY_PAUSE = 15.0
EARLY_LIMIT = 1.0
"""The most that a call which already has its answer waits for a new token."""
REFUSED_SECONDS = 5.0
"""A token is kept for at least this long, though it is refused: while all are, each call would ask for another one, and
to sign one takes a twentieth of a second in which no other thread runs."""
YOUNG_SECONDS = 30.0
"""A token of this age is not replaced because it is refused: the next would be refused too."""
_MAX_FILE = 1 << 16


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its time, on the clock of `Tokens`."""

    text: str = field(repr=False)
    since: float
    until: float

    @property
    def early(self) -> float:
        """The time from which it should be replaced."""
        return self.until - min(EARLY_SECONDS, (self.until - self.since) / 2)


Grant = tuple[str, float]
"""A token's text and the seconds that it lives."""


class Tokens:
    """Holds one token for all threads."""

    def __init__(self, get: Callable[[float], Grant], clock: Callable[[], float] = time.monotonic) -> None:
        self._get = get
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._not_early_before = -math.inf
        self._failure: tuple[type[ProviderError], str] | None = None

    def current(self, deadline: float) -> Token:
        """Return a token that is good, and ask for one first if there is none. One thread asks, others wait."""
        token = self._token
        if token is not None and self._clock() < token.until:
            return token
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Unavailable("no token yet: another call still waits for one")
        try:
            token = self._token
            if token is not None and self._clock() < token.until:
                return token
            return self._replace(deadline)
        finally:
            self._lock.release()

    def renew_early(self, deadline: float) -> None:
        """Replace a token that is near its end. Call it when the answer is there; no failure matters yet."""
        token = self._token
        now = self._clock()
        if token is None or now < max(token.early, self._not_early_before) or not self._lock.acquire(blocking=False):
            return
        try:
            if self._token is token:
                self._not_early_before = now + EARLY_PAUSE
                self._replace(min(deadline, time.monotonic() + EARLY_LIMIT))
        except ProviderError as exc:
            self._failure = type(exc), str(exc)
        finally:
            self._lock.release()

    def keep_alive(self, deadline: float) -> None:
        """Get a token if there is none, and replace one that is near its end."""
        self.current(deadline)
        self.renew_early(deadline)
        if self._failure is not None:
            failure, text = self._failure
            raise failure(text)

    @property
    def expiry(self) -> float | None:
        """Unix time at which the token ends, if the last try to replace it failed, so that somebody has to act."""
        token = self._token
        if token is None or self._failure is None:
            return None
        return time.time() + token.until - self._clock()

    def refused(self, token: Token) -> bool:
        """Forget a token that the service does not accept. Return whether another may be accepted."""
        age = self._clock() - token.since
        if self._token is token and age > REFUSED_SECONDS:
            self._token = None
        return age > YOUNG_SECONDS

    def _replace(self, deadline: float) -> Token:
        since = self._clock()
        text, seconds = self._get(deadline)
        # Nothing else fits in a header, and an error about it, raised elsewhere, would show the text.
        if not re.fullmatch(r"[!-~]{1,16384}", text) or not seconds > 0:
            raise Misbehaved("the answer to the request for a token has no token")
        self._failure = None
        self._token = Token(text, since, since + seconds)
        return self._token


def source(credentials_file: Path | None, session: Session) -> Callable[[float], Grant]:
    """Return what gets a token, from the configured file or as a machine in Google's cloud does."""
    file = credentials_file
    if file is None and (named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")):
        file = Path(named)
    if file is None:
        return lambda deadline: from_metadata(session, deadline)
    return lambda deadline: from_file(file, session, deadline)


def from_metadata(session: Session, deadline: float) -> Grant:
    """Ask the metadata server of the machine or pod for a token of its service account."""
    host = os.environ.get("GCE_METADATA_HOST") or METADATA_ADDRESS
    url = f"http://{host}{METADATA_PATH}"
    answer = _Requests(session, deadline).ask("GET", url, headers={"Metadata-Flavor": "Google"})
    asked = f"token from the metadata server at {host}"
    if answer.headers.get("Metadata-Flavor") != "Google":
        raise Unavailable(f"{asked}: HTTP {answer.status}, and something else answers there")
    if answer.status != 200:
        text = scrub(answer.data.decode("utf-8", "replace"))
        raise Unauthenticated(f"{asked}: HTTP {answer.status}: {text} (give the machine or pod a service account)")
    try:
        content = json.loads(answer.data)
        return str(content["access_token"]), float(content["expires_in"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Misbehaved(f"{asked}: the answer has no token") from None


def from_file(file: Path, session: Session, deadline: float) -> Grant:
    """Get a token with the credentials of a file, which is read each time so that it may be replaced."""
    info = _read(file)
    kind = info.get("type")
    try:
        credentials = _credentials(file, info)
        credentials.refresh(_Requests(session, deadline))
        until = credentials.expiry.replace(tzinfo=datetime.UTC)
        return str(credentials.token), (until - datetime.datetime.now(datetime.UTC)).total_seconds()
    except GoogleAuthError as exc:
        said = scrub(" ".join(str(part) for part in exc.args))
        raise Unauthenticated(f"token with {file} ({kind}): {said}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as exc:
        raise Unauthenticated(
            f"token with {file} ({kind}): the file, or the answer to it, is not usable: {type(exc).__name__}"
        ) from None


def _credentials(file: Path, info: Mapping[str, Any]) -> Any:
    kind = info.get("type")
    if kind == "service_account":
        # It signs a token for itself, without asking anybody.
        return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            info, scopes=[SCOPE], always_use_jwt_access=True
        )
    origin = info.get("credential_source")
    if kind == "external_account" and isinstance(origin, dict):
        if str(origin.get("environment_id", "")).startswith("aws"):
            return aws.Credentials.from_info(info, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        if "file" in origin:
            _content(Path(str(origin["file"])))  # the SDK would not say why it cannot read it
        if "file" in origin or "url" in origin:
            return identity_pool.Credentials.from_info(info, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        raise ConfigError(f"{file}: credential_source should be a file, a url or aws; it may run no program")
    raise ConfigError(f"{file}: type should be service_account or external_account")


def _read(file: Path) -> dict[str, Any]:
    content = _content(file)
    try:
        info = json.loads(content)
    except (ValueError, RecursionError):
        info = None
    if not isinstance(info, dict):
        raise Unauthenticated(f"{file} should hold one JSON object of credentials, and holds {len(content)} bytes")
    return info


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_FILE + 1)
    except OSError as exc:
        raise Unauthenticated(f"cannot read {file}: {exc.strerror}") from None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What google.auth expects of an answer."""

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


class _Requests:
    """Makes the requests of one token, all before one deadline; the callable that google.auth asks for.

    What says nothing about the credentials is raised as an error of ours, which google.auth lets pass: it would
    otherwise sleep and repeat.
    """

    def __init__(self, session: Session, deadline: float) -> None:
        self._session = session
        self._deadline = deadline

    def __call__(self, url: str, method: str = "GET", body: Any = None, headers: Any = None, **_: Any) -> _Answer:
        return self.ask(method, url, headers=headers, body=body)

    def ask(self, method: str, url: str, *, headers: Mapping[str, str] | None, body: Any = None) -> _Answer:
        asked = f"token: {method} {urlsplit(url).netloc}{urlsplit(url).path}"
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise Unavailable(f"{asked}: no time left")
        try:
            response: requests.Response = self._session.request(
                method, url, data=body, headers=headers, timeout=seconds
            )
        except FAILURES as exc:
            raise Unavailable(f"{asked}: {reason(exc, seconds)}") from None
        problem: Unavailable | Throttled | None = overloaded(asked, response.status_code)
        if problem is not None:
            raise problem
        return _Answer(response.status_code, response.headers, response.content)
