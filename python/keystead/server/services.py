"""The methods of both wire services over one endpoint, as functions from request bytes to answer bytes.

They know no gRPC, so any transport can host them. Messages stay raw bytes: the Rust core parses and writes them in
the same call that does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keystead import __version__
from keystead._core import encode_version
from keystead.host.endpoint import Endpoint
from keystead.server import health_service

Remaining = Callable[[], float | None]
"""Tells how many seconds the caller will still wait; `None` if it set no limit."""
Method = Callable[[bytes, Remaining], bytes]

V2 = "v2.KeyManagementService"
V1BETA1 = "v1beta1.KeyManagementService"
STATUS = f"/{V2}/Status"


def methods(endpoint: Endpoint, kms_versions: Sequence[str]) -> dict[str, Method]:
    """Full method names of the versions that the endpoint serves, with what answers them."""
    table: dict[str, Method] = {}
    if "v2" in kms_versions:
        table |= {
            STATUS: lambda _request, _remaining: endpoint.status(),
            f"/{V2}/Encrypt": lambda request, _remaining: endpoint.encrypt_v2(request),
            f"/{V2}/Decrypt": endpoint.decrypt_v2,
        }
    if "v1beta1" in kms_versions:
        version = encode_version("v1beta1", "keystead", __version__)
        table |= {
            f"/{V1BETA1}/Version": lambda _request, _remaining: version,
            f"/{V1BETA1}/Encrypt": lambda request, _remaining: endpoint.encrypt_v1(request),
            f"/{V1BETA1}/Decrypt": endpoint.decrypt_v1,
        }
    served = {V2 if version == "v2" else V1BETA1 for version in kms_versions}
    table[health_service.CHECK] = lambda request, _remaining: health_service.check(
        request, served, lambda: endpoint.snapshot.healthz == "ok"
    )
    return table
