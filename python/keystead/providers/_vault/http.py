"""HTTP to the configured servers, by hvac's adapter over a session of our own.

Importing this module imports the SDK. The session differs from hvac's own in that it follows no redirect, which would
send the token to whoever the redirect names, reads no environment variable and no file that is not configured, and
ends when the deadline is over whatever the server does.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from keystead.provider import Unavailable
from keystead.providers._vault.answers import Answer, refusal, scrub
from keystead.providers._vault.config import TlsConfig, origin

CONNECT_SECONDS = 1.0
POOL_SIZE = 20
"""Connections that are kept open to each server: a few more than the calls that the host makes at once."""
MAX_ANSWER = 1 << 20
"""Bytes of an answer with its headers; a real one has less than 10 000."""
SECRET_FIELDS = frozenset({"plaintext", "ciphertext", "associated_data", "role_id", "secret_id", "jwt"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Transport:
    """Asks one of the servers, and another if that one cannot answer. Safe to use from many threads."""

    def __init__(self, servers: tuple[str, ...], namespace: str | None, tls: TlsConfig | None) -> None:
        self._session = _session(len(servers), tls)
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
            if isinstance(adapter, _Pools):
                adapter.poolmanager.clear()

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
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), total=seconds)
        send = self._adapters[server].post if method == "POST" else self._adapters[server].get
        arguments: dict[str, Any] = {} if body is None else {"json": body}
        try:
            response: requests.Response = send(
                f"/v1/{path}", headers=dict(headers), timeout=timeout, raise_exception=False, **arguments
            )
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError) as exc:
            return f"{asked}: {_reason(exc, seconds)}"
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


def _session(servers: int, tls: TlsConfig | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # neither proxies nor CAs nor ~/.netrc by way of the environment
    session.headers["User-Agent"] = "keystead"
    session.headers["Accept-Encoding"] = "identity"
    pool_options: dict[str, Any] = {}
    if tls is not None:
        session.verify = str(tls.caFile) if tls.caFile is not None else True
        if tls.certFile is not None and tls.keyFile is not None:
            session.cert = (str(tls.certFile), str(tls.keyFile))
        if tls.serverName is not None:
            pool_options["server_hostname"] = tls.serverName  # sent, and checked against the certificate
    pools = _Pools(servers, pool_options)
    session.mount("http://", pools)
    session.mount("https://", pools)
    return session


class _Pools(HTTPAdapter):
    """Pools of connections whose answers end in time. No retries: the host of a provider does those."""

    def __init__(self, servers: int, options: Mapping[str, Any]) -> None:
        self._options = options
        super().__init__(pool_connections=servers, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}


class _BoundedReader(io.RawIOBase):
    """Reads one answer from a socket, within a time and a size for the whole.

    A socket's own timeout is per read, so a server that sends a byte now and then would hold a call for ever.
    """

    def __init__(self, sock: Any, seconds: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + seconds
        self._room = MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self._room -= count or 0
        if self._room < 0:
            raise OSError(f"an answer of more than {MAX_ANSWER} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 has set the socket's timeout to what the call has left when it is about to read.
        seconds = sock.gettimeout()
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock, math.inf if seconds is None else seconds))


class _BoundedConnection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        """Leave to the TLS handshake what connecting has left of the time, instead of the whole time again."""
        seconds, start = self.timeout, time.monotonic()
        sock = super()._new_conn()
        if isinstance(seconds, int | float):
            sock.settimeout(max(0.001, start + seconds - time.monotonic()))
        return sock


class _BoundedTlsConnection(_BoundedConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTlsConnection


def _reason(exc: BaseException, seconds: float) -> str:
    """Say in words why there is no answer: the innermost cause, since the outer ones are about classes and pools."""
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}; check tls.caFile, tls.serverName and the server's certificate"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'failed'}; check that the server speaks TLS, and tls.certFile if it asks"
    # Before the time-outs: urllib3 derives its error for a refused connection from the one for a time-out.
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    if any(isinstance(cause, requests.ConnectTimeout) for cause in causes):
        return f"no connection within {min(CONNECT_SECONDS, seconds):.1f} s"
    if any(isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for cause in causes):
        return f"no complete answer within {seconds:.1f} s"
    for cause in causes:
        if type(cause) is OSError:
            return str(cause)
    return "the connection broke" if isinstance(exc, OSError) else f"not HTTP ({type(causes[-1]).__name__})"


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it holds or came from, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [exc]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
