"""Access tokens of Microsoft Entra ID: got before a call and within its time, and replaced while they are still good.

They are asked for over HTTP, without azure-identity: that retries by itself, for longer than a call has, and it looks
for credentials in places that the configuration does not name.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

from keystead.provider import Misbehaved, ProviderError, Throttled, Unauthenticated, Unavailable
from keystead_azure.config import Auth, ClientSecret, ManagedIdentity
from keystead_azure.http import Answer, Http

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
YOUNG = 1.0
"""A token of this age in seconds that is refused is kept: while all are refused, each call would ask for another."""
MAX_FILE = 1 << 16
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its time, on the clock of `Tokens`."""

    text: str = field(repr=False)
    since: float
    until: float

    @property
    def due(self) -> float:
        """When to replace it: early enough for an outage of the service that gives them."""
        return self.since + (self.until - self.since) / 2


class Tokens:
    """Holds one token for all threads. `get` answers with a token and the seconds that it lives."""

    def __init__(self, get: Callable[[float], tuple[str, float]], clock: Callable[[], float] = time.monotonic) -> None:
        self._get = get
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._failed = False

    def current(self, deadline: float) -> Token:
        """Return a token that is good, and ask for one first if there is none. One thread asks, others wait."""
        token = self._token
        if token is not None and self._clock() < token.until:
            return token
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Unavailable("no token yet: another call still waits for one")
        try:
            token = self._token
            if token is None or self._clock() >= token.until:
                token = self._replace(deadline)
            return token
        finally:
            self._lock.release()

    def keep_alive(self, deadline: float) -> None:
        """Replace a token past half its life."""
        token = self.current(deadline)
        if self._clock() < token.due or not self._lock.acquire(blocking=False):
            return
        try:
            self._replace(deadline)
        except ProviderError:
            self._failed = True
            raise
        finally:
            self._lock.release()

    def refused(self, token: Token) -> bool:
        """Forget a token that the service does not accept. Return whether another may be accepted."""
        if self._clock() - token.since < YOUNG:
            return False
        if self._token is token:
            self._token = None
        return True

    @property
    def expiry(self) -> float | None:
        """Unix time at which the token ends, if the last try to replace it failed."""
        token = self._token
        return time.time() + token.until - self._clock() if token is not None and self._failed else None

    def _replace(self, deadline: float) -> Token:
        since = self._clock()
        text, seconds = self._get(deadline)
        # Nothing else fits in a header, and an error about it, raised elsewhere, would show the text.
        if not re.fullmatch(r"[!-~]{1,16384}", text) or seconds <= 0:
            raise Misbehaved("the answer to the request for a token has no token")
        self._failed = False
        self._token = Token(text, since, since + seconds)
        return self._token


class Entra:
    """Asks for tokens, as a virtual machine or as an application."""

    def __init__(self, auth: Auth, resource: str, ca_file: Path | None) -> None:
        self._auth = auth
        self._resource = resource
        self._http = Http(auth.address, ca_file if auth.address.startswith("https:") else None)

    def __repr__(self) -> str:
        return f"Entra({self._auth.method})"

    def get(self, deadline: float) -> tuple[str, float]:
        """Return a token, and the seconds that it lives."""
        auth = self._auth
        if isinstance(auth, ManagedIdentity):
            return self._of_the_machine(auth, deadline)
        secret = _secret(auth.secretFile if isinstance(auth, ClientSecret) else auth.tokenFile)
        form = {"grant_type": "client_credentials", "client_id": auth.clientID, "scope": f"{self._resource}/.default"}
        if isinstance(auth, ClientSecret):
            form["client_secret"] = secret
        else:
            form |= {"client_assertion_type": ASSERTION, "client_assertion": secret}
        path = f"/{quote(auth.tenantID, safe='')}/oauth2/v2.0/token"
        return _grant(self._http.ask("POST", path, deadline, FORM, urlencode(form).encode()), auth, secret)

    def _of_the_machine(self, auth: ManagedIdentity, deadline: float) -> tuple[str, float]:
        query = {"api-version": "2018-02-01", "resource": self._resource}
        if auth.clientID is not None:
            query["client_id"] = auth.clientID
        path = f"/metadata/identity/oauth2/token?{urlencode(query)}"
        return _grant(self._http.ask("GET", path, deadline, {"Metadata": "true"}), auth)


def _grant(answer: Answer, auth: Auth, secret: str = "") -> tuple[str, float]:
    asked = f"token by {auth.method} from {auth.address}: HTTP {answer.status}"
    body = answer.body or {}
    if answer.status == 200:
        try:
            return str(body["access_token"]), float(body["expires_in"])
        except (KeyError, TypeError, ValueError):
            raise Misbehaved(f"{asked} without a token") from None
    said = f"{body.get('error', '')}: {body.get('error_description', '')}"
    said = " ".join((said.replace(secret, "[removed]") if secret else said).split())[:300]
    if answer.status == 429:
        raise Throttled(f"{asked}: {said}")
    if answer.status >= 500 or answer.status in (404, 408, 410) or answer.body is None:
        raise Unavailable(f"{asked}: {said}")
    raise Unauthenticated(f"{asked}: {said}")


def _secret(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE).decode().strip()
    except UnicodeDecodeError:
        raise Unauthenticated(f"{file} is not text") from None
    except OSError as exc:
        raise Unauthenticated(f"cannot read {file}: {exc.strerror}") from None
