"""What the tests of this directory share."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from keystead.provider import WrapContext
from keystead.providers.gcp_kms import GcpKmsProvider
from providers.gcp.fake import FakeKms
from providers.gcp.metadata import refusing

CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))

Make = Callable[..., GcpKmsProvider]
"""Builds a provider for a fake; other fields are the configuration's."""


@dataclass
class Served:
    """A fake with its address, by one of the transports."""

    kms: FakeKms
    endpoint: str
    transport: str
    ca_file: Path


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def service_account(file: Path, email: str) -> Path:
    """Write the key file of a service account, which signs its tokens itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    about = {"type": "service_account", "private_key": text, "private_key_id": "1", "client_email": email}
    file.write_text(json.dumps({**about, "token_uri": f"http://{refusing()}/token"}))
    return file


def claims(authorization: str) -> dict[str, object]:
    """What a signed token says, from the header of a call."""
    part = authorization.removeprefix("Bearer ").split(".")[1]
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded
