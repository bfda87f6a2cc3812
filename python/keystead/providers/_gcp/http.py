"""HTTP for tokens and for the REST transport: no redirects, nothing from the environment, an end for each request.

Importing this module imports the SDK's HTTP libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from keystead.provider import Throttled, Unavailable
from keystead.providers._bounded import reason as _reason
from keystead.providers._bounded import time_out
from keystead.providers._gcp.answers import UNTRUSTED
from keystead.providers._sessions import BoundedAdapter

NO_TLS = "check that the server at endpoint, or the proxy, speaks TLS"
_HOSTS = 4


class Session(requests.Session):
    """Like its base, but `timeout` is a number of seconds for the whole request."""

    def __init__(self, ca_file: Path | None, proxy: str | None) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = True if ca_file is None else str(ca_file)
        if proxy is not None:
            self.proxies = {"https": proxy}  # and not http, which is for the metadata server and its like
        adapter = BoundedAdapter(_HOSTS, {})
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def request(self, method: Any, url: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs["timeout"] = time_out(float(kwargs["timeout"]))
        kwargs["allow_redirects"] = False  # what is sent is secret, and meant for one host
        response = super().request(method, url, **kwargs)
        if response.is_redirect:
            raise requests.TooManyRedirects("redirects, which is not followed")
        return response


def reason(exc: BaseException, seconds: float) -> str:
    """Say in words why there is no answer."""
    if isinstance(exc, requests.TooManyRedirects):
        return str(exc)
    return _reason(exc, seconds, untrusted=UNTRUSTED, no_tls=NO_TLS)


def overloaded(asked: str, status: int) -> Unavailable | Throttled | None:
    """Return the error of an answer that says nothing about the request; `None` for others."""
    if status == 429:
        return Throttled(f"{asked}: HTTP 429")
    if status == 408 or status >= 500:
        return Unavailable(f"{asked}: HTTP {status}")
    return None
