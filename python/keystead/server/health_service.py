"""grpc.health.v1, the standard health service, on each endpoint's socket: its two messages have one field each.

`Check` of no service says that the process answers, whatever its remote does. `Check` of a KMS service says whether
Status is ok. `Watch` is not served: the plugin is asked by probes, which poll.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from keystead.errors import MalformedRequest

CHECK = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
"""HealthCheckResponse.ServingStatus."""
_SERVICE = 0x0A
"""Field 1 of HealthCheckRequest, a string."""
_STATUS = 0x08
"""Field 1 of HealthCheckResponse, an enum."""


def check(request: bytes, services: Collection[str], is_well: Callable[[], bool]) -> bytes:
    """Answer a HealthCheckRequest. Raises `MalformedRequest`."""
    service = _service(request)
    if not service:
        return _answer(SERVING)
    if service not in services:
        return _answer(SERVICE_UNKNOWN)
    return _answer(SERVING if is_well() else NOT_SERVING)


def _service(request: bytes) -> str:
    if not request:
        return ""
    # No service of ours has a name of 128 bytes, so its length is one byte.
    if len(request) < 2 or request[0] != _SERVICE or request[1] != len(request) - 2:
        raise MalformedRequest("no HealthCheckRequest of grpc.health.v1")
    try:
        return request[2:].decode()
    except UnicodeDecodeError:
        raise MalformedRequest("a HealthCheckRequest whose service is not UTF-8") from None


def _answer(status: int) -> bytes:
    return bytes((_STATUS, status))
