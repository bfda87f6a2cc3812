"""The standard health service on a real socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from keystead.errors import MalformedRequest
from keystead.server.health_service import CHECK, NOT_SERVING, SERVICE_UNKNOWN, SERVING, check
from support.process import Files

V2 = "v2.KeyManagementService"


def asked(channel: grpc.Channel, service: str) -> int:
    """The status that a client reads: the request has field 1 as a string, the answer field 1 as an enum."""
    name = service.encode()
    request = bytes((0x0A, len(name))) + name if name else b""
    call: Callable[..., bytes] = channel.unary_unary(CHECK)
    answer = call(request, timeout=10)
    assert (len(answer), answer[0]) == (2, 0x08)
    return answer[1]


def test_the_process_serves_whatever_its_remote_does_and_a_service_while_status_is_ok(directory: Path) -> None:
    files = Files(directory, provider="fake")
    files.write()
    files.pace(open=60.0)
    with files.run() as process, grpc.insecure_channel(process.address) as channel:
        process.client.status(timeout=30)
        assert [asked(channel, name) for name in ("", V2, "nobody.Knows")] == [SERVING, NOT_SERVING, SERVICE_UNKNOWN]
    files.pace()
    with files.run() as process, grpc.insecure_channel(process.address) as channel:
        process.until_ok()
        assert [asked(channel, name) for name in ("", V2)] == [SERVING, SERVING]


@pytest.mark.parametrize("request_", [b"\x0a", b"\x0a\x05ab", b"\x12\x01a", b"\x0a\x01\xff", b"\x0a\x01ab"])
def test_what_is_no_request_is_malformed(request_: bytes) -> None:
    with pytest.raises(MalformedRequest):
        check(request_, {V2}, lambda: True)
