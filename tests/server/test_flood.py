"""Clients that misbehave: silent, impatient, speaking something else, or sending rubbish without end."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator

import pytest
from grpc import StatusCode

from support.process import Files, Process
from support.serving import V1_SERVICE, V2_SERVICE, Client, decrypt_request, seal_cold, shared_key, short_directory


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with short_directory() as directory:
        files = Files(directory, provider="fake")
        files.write()
        yield files


@pytest.fixture(scope="module")
def process(files: Files) -> Iterator[Process]:
    """One plugin that has to survive all of them, one after the other."""
    with files.run() as process:
        process.until_ok()
        yield process


def connected(process: Process) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(process.address.removeprefix("unix:"))
    return caller


def still_serves(process: Process) -> None:
    """A new connection and the old one both get right answers."""
    fresh = Client(process.address)
    for client in (fresh, process.client):
        assert client.status().healthz == "ok"
        assert client.decrypt(client.seal(b"seed")) == b"seed"
    fresh.close()


def test_200_silent_connections_disturb_nobody(process: Process) -> None:
    with contextlib.ExitStack() as callers:
        for _ in range(200):
            callers.enter_context(connected(process))
        still_serves(process)
    still_serves(process)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP 1"),
        pytest.param(bytes.fromhex("160301020001000001fc0303") + bytes(500), id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096, id="HTTP 2 with broken frames"),
        pytest.param(b"\x00" * 65536, id="zeros"),
        pytest.param(random.Random(7).randbytes(65536), id="noise"),
    ],
)
def test_words_of_another_protocol_disturb_nobody(process: Process, words: bytes) -> None:
    for _ in range(20):
        with connected(process) as caller, contextlib.suppress(OSError):
            caller.settimeout(0.2)
            caller.sendall(words)
            while caller.recv(65536):
                pass
    still_serves(process)


def test_300_calls_that_are_cancelled_at_once_leave_nothing_behind(process: Process, files: Files) -> None:
    files.pace(unwrap=1.0)
    cold = [decrypt_request(sealed) for sealed in seal_cold(shared_key(), 30)]
    calls = []
    for index in range(300):
        calls.append(process.client.start(f"{V2_SERVICE}/Decrypt", cold[index % len(cold)]))
        if len(calls) == 10:
            time.sleep(0.002)
            for call in calls:
                call.cancel()
            calls.clear()
    assert process.client.status(timeout=1.0).healthz == "ok"
    still_serves(process)
    # What was begun for them ends by itself, and the next try is answered.
    process.until_event("kek.unwrapped")
    files.pace(unwrap=0)
    for call in [process.client.start(f"{V2_SERVICE}/Decrypt", request) for request in cold]:
        assert call.result()


MALFORMED = [b"\x0a", b"\x0a\x7fabc", b"\xff" * 12, b"\x12\x02\xc3\x28", b"\x0b", b"\x0a\x05wrong\x22\x00"]


def send_malformed(process: Process, count: int) -> None:
    methods = [f"{service}/{method}" for service in (V2_SERVICE, V1_SERVICE) for method in ("Encrypt", "Decrypt")]
    for start in range(0, count, 100):
        calls = [
            process.client.start(methods[index % 4], MALFORMED[index % len(MALFORMED)], timeout=30.0)
            for index in range(start, start + 100)
        ]
        for call in calls:
            assert call.exception() is not None
            assert call.code() is StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_malformed_messages_do_not_cost_memory(process: Process, count: int) -> None:
    # A grpcio server with protobuf deserializers keeps about 19 KB of each, which would be 38 MB of 2000.
    send_malformed(process, 1_000)
    before = process.resident_bytes()
    send_malformed(process, count)
    grown = process.resident_bytes() - before
    print(f"\n{count} malformed messages: {before / 2**20:.1f} MiB, grew by {grown / 2**20:.2f} MiB")
    assert grown < 6 * 2**20
    still_serves(process)
