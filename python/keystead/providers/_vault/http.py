"""HTTP to the configured servers, by hvac's adapter over a session of our own.

Importing this module imports the SDK. The session differs from hvac's own in that it follows no redirect, which would
send the token to whoever the redirect names, reads no environment variable and no file that is not configured, and
ends when the deadline is over whatever the server does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from hvac.adapters import RawAdapter

from keystead.provider import Unavailable
from keystead.providers._bounded import FAILURES, reason, time_out
from keystead.providers._sessions import BoundedAdapter
from keystead.providers._vault.answers import Answer, refusal, scrub
from keystead.providers._vault.config import TlsConfig, origin

SECRET_FIELDS = frozenset({"plaintext", "ciphertext", "associated_data", "role_id", "secret_id", "jwt"})
UNTRUSTED = "check tls.caFile, tls.serverName and the server's certificate"
NO_TLS = "check that the server speaks TLS, and tls.certFile if it asks"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Transport:
    """Asks one of the servers, and another if that one cannot answer. Safe to use from many threads."""

    def __init__(
        self, servers: tuple[str, ...], namespace: str | None, tls: TlsConfig | None, proxy: str | None = None
    ) -> None:
        self._session = _session(len(servers), tls, proxy)
        self._adapters = {
            server: RawAdapter(base_uri=server, session=self._session, allow_redirects=False) for server in servers
        }
        self._namespace = namespace
        self._first = servers[0]

    def request(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | None = None,
        in_namespace: bool = True,
    ) -> Answer:
        """Return the first answer that another server would not better, be it a success or a refusal.

        Raises `Unavailable` if there is none before the deadline.
        """
        headers = {}
        if token is not None:
            headers["X-Vault-Token"] = token
        if in_namespace and self._namespace is not None:
            headers["X-Vault-Namespace"] = self._namespace
        untried = [self._first, *(server for server in self._adapters if server != self._first)]
        failures: list[str] = []
        while untried:
            server = untried.pop(0)
            left = deadline - time.monotonic()
            if left <= 0:
                failures.append(f"{method} {path}: no time left to ask {server}")
                break
            # A server that hangs must leave time for the next.
            outcome = self._ask(server, method, path, headers, body, left / (len(untried) + 1))
            if isinstance(outcome, Answer):
                self._first = server
                return outcome
            if outcome in untried:
                untried.remove(outcome)
                untried.insert(0, outcome)
            elif outcome in self._adapters:
                failures.append(f"{method} {path}: {server} redirects to {outcome}, which was asked before")
            else:
                failures.append(outcome)
        raise Unavailable("; ".join(failures))

    def forget_connections(self) -> None:
        """Let new calls make new connections, which read the files of the client certificate again."""
        for adapter in self._session.adapters.values():
            if isinstance(adapter, BoundedAdapter):
                adapter.forget_connections()

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _ask(
        self,
        server: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        seconds: float,
    ) -> Answer | str:
        """Return the answer, the configured server that it redirects to, or why there is no usable answer."""
        asked = f"{method} {path} at {server}"
        send = self._adapters[server].post if method == "POST" else self._adapters[server].get
        arguments: dict[str, Any] = {} if body is None else {"json": body}
        try:
            response: requests.Response = send(
                f"/v1/{path}", headers=dict(headers), timeout=time_out(seconds), raise_exception=False, **arguments
            )
        except FAILURES as exc:
            return f"{asked}: {reason(exc, seconds, untrusted=UNTRUSTED, no_tls=NO_TLS)}"
        if response.status_code in _REDIRECTS:
            target = _origin(response.headers.get("Location", ""), server)
            if target in self._adapters:
                return target
            return f"{asked}: redirects to {target or 'nowhere'}, which is not among the configured addresses"
        answer = _answer(asked, response, list(_secrets(headers.get("X-Vault-Token"), body)))
        error = refusal(answer)
        return str(error) if isinstance(error, Unavailable) else answer


def _secrets(token: str | None, body: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what a request carried that no message may show, should the server repeat it."""
    if token is not None:
        yield from (token, token.rpartition(".")[2])
    for field, value in (body or {}).items():
        if field in SECRET_FIELDS:
            yield str(value)


def _answer(asked: str, response: requests.Response, secrets: list[str]) -> Answer:
    try:
        body = response.json() if response.content else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return Answer(asked, response.status_code, None, scrub(response.text, secrets))
    problems = body.get("errors")
    text = " ".join(str(problem) for problem in problems) if isinstance(problems, list) else ""
    return Answer(asked, response.status_code, body, scrub(text, secrets))


def _origin(location: str, server: str) -> str | None:
    """Return where a redirect leads; `None` if that cannot be read."""
    try:
        parts = urlsplit(location)
        if not parts.netloc:
            return server if location.startswith("/") else None
        return origin(parts.scheme, parts.hostname or "", parts.port)
    except ValueError:
        return None


def _session(servers: int, tls: TlsConfig | None, proxy: str | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # neither proxies nor CAs nor ~/.netrc by way of the environment
    session.headers["User-Agent"] = "keystead"
    session.headers["Accept-Encoding"] = "identity"
    if proxy is not None:
        session.proxies = {"https": proxy}
    pool_options: dict[str, Any] = {}
    if tls is not None:
        session.verify = str(tls.caFile) if tls.caFile is not None else True
        if tls.certFile is not None and tls.keyFile is not None:
            session.cert = (str(tls.certFile), str(tls.keyFile))
        if tls.serverName is not None:
            pool_options["server_hostname"] = tls.serverName  # sent, and checked against the certificate
    pools = BoundedAdapter(servers, pool_options)
    session.mount("http://", pools)
    session.mount("https://", pools)
    return session
