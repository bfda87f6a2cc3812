"""Signature version 4, checked after its description, to see that requests arrive as they were signed."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

UNKNOWN = ("UnrecognizedClientException", "The security token included in the request is invalid.")


def wrong(
    headers: Mapping[str, str], body: bytes, known: Mapping[str, tuple[str, str | None]], region: str, service: str
) -> tuple[str, str] | None:
    """Return the code and text of what is wrong with a request's signature; `None` if it is right.

    `headers` have lower-case names. `known` maps access key ids to a secret key and a session token.
    """
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
        r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
        headers.get("authorization", ""),
    )
    if match is None:
        return "MissingAuthenticationTokenException", "Missing Authentication Token"
    access, day, *scope, signed, signature = match.groups()
    secret, token = known.get(access, ("", ""))
    if not secret or headers.get("x-amz-security-token") != token:
        return UNKNOWN
    names = [f"{name}:{headers[name].strip()}" for name in signed.split(";")]
    canonical = "\n".join(["POST", "/", "", *names, "", signed, hashlib.sha256(body).hexdigest()])
    path = "/".join([day, *scope, "aws4_request"])
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], path, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (*path.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    if scope != [region, service] or key.hex() != signature:
        return "InvalidSignatureException", f"The Canonical String should have been {canonical}"
    return None
