"""The credentials of an EC2 instance's role, from its metadata service, version 2.

botocore's own client for it takes any failure for "no credentials" and keeps to no deadline.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from botocore.credentials import ReadOnlyCredentials

from keystead.provider import Unauthenticated, Unavailable
from keystead.providers._aws.credentials import Grant
from keystead.providers._aws.http import Transport

_ROLES = "latest/meta-data/iam/security-credentials/"
_HOP_LIMIT = "from a container without the host's network, the instance's hop limit must be 2"
EXTENSION_SECONDS = 300.0
"""What credentials that are over are used on for: AWS accepts them while the service cannot renew them."""


def from_instance(transport: Transport) -> Grant:
    """Return the credentials of the instance's role. To be called inside `until`, and never through a proxy."""
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise Unauthenticated(
            "there are none in the environment and in files, and AWS_EC2_METADATA_DISABLED switches off the instance "
            "metadata service"
        )
    address = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or (
        "http://[fd00:ec2::254]"
        if os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
        else "http://169.254.169.254"
    )
    try:
        return _role_credentials(transport, address)
    except Unavailable as exc:
        raise Unavailable(f"none in the environment and in files; instance metadata service: {exc}") from None


def _role_credentials(transport: Transport, address: str) -> Grant:
    token = _ask(transport, "PUT", f"{address}/latest/api/token", {"x-aws-ec2-metadata-token-ttl-seconds": "60"})
    if not re.fullmatch(r"[!-~]+", token):
        raise Unavailable("it answered without a token")
    headers = {"x-aws-ec2-metadata-token": token}
    role = _ask(transport, "GET", f"{address}/{_ROLES}", headers)
    if not re.fullmatch(r"[A-Za-z0-9+=,.@_-]{1,128}", role):
        raise Unauthenticated("the instance metadata service names no role of this instance")
    return _grant(_ask(transport, "GET", f"{address}/{_ROLES}{role}", headers), role)


def _ask(transport: Transport, method: str, url: str, headers: Mapping[str, str]) -> str:
    try:
        status, _, content = transport.request(method, url, headers)
    except Unavailable as exc:
        raise Unavailable(f"{exc} ({_HOP_LIMIT})" if method == "PUT" else str(exc)) from None
    asked = f"{method} {url.partition('/latest/')[2]}"
    if status == 404:
        raise Unauthenticated(f"the instance metadata service answers {asked} with 404: no role is attached")
    if status in (400, 401, 403, 405):
        raise Unauthenticated(f"the instance metadata service refuses {asked} with {status}")
    if status != 200:
        raise Unavailable(f"{asked}: HTTP {status}")
    return content.decode("ascii", "replace").strip()


def _grant(text: str, role: str) -> Grant:
    try:
        found: Any = json.loads(text)
        code = found.get("Code", "Success")
        if code != "Success":
            shown = code if isinstance(code, str) and re.fullmatch(r"[A-Za-z]{1,64}", code) else "a failure"
            raise Unauthenticated(f"the instance metadata service answers {shown} for role {role}")
        keys = ReadOnlyCredentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
        ends = datetime.datetime.fromisoformat(found["Expiration"]).timestamp() if "Expiration" in found else math.inf
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise Unavailable(f"credentials of role {role} that cannot be read ({type(exc).__name__})") from None
    return Grant(keys, max(ends, time.time() + EXTENSION_SECONDS))
