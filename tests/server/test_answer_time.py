"""A Decrypt on a hung remote KMS is answered in time for the API server to read why."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from support.serving import V2_SERVICE, Served, decrypt_request, seal_cold, served, shared_key


@pytest.fixture
def hung(directory: Path) -> Iterator[Served]:
    released = threading.Event()
    provider = shared_key()
    with served(directory, provider) as plugin:
        provider.blocked["unwrap"] = released
        yield plugin
        released.set()


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        pytest.param(10.0, 2.5, id="an API server with a patient timeout hears after 2.5 s"),
        pytest.param(3.0, 2.5, id="the default timeout leaves half a second"),
        pytest.param(1.5, 1.2, id="a short one leaves 0.3 s for the answer to travel"),
        pytest.param(0.5, 0.2, id="a very short one too"),
    ],
)
def test_a_decrypt_on_a_hung_remote_is_told_to_try_again(hung: Served, timeout: float, expected: float) -> None:
    (sealed,) = seal_cold(hung.provider, 1)
    started = time.monotonic()
    code, text = hung.client.refusal(f"{V2_SERVICE}/Decrypt", decrypt_request(sealed), timeout=timeout)
    seconds = time.monotonic() - started
    assert code is StatusCode.UNAVAILABLE  # and not DEADLINE_EXCEEDED, which says nothing
    assert "temporary" in text
    assert "do not delete objects" in text
    assert expected - 0.1 <= seconds < min(timeout, expected + 0.9)


def test_without_a_deadline_the_limit_is_2_5_s(hung: Served) -> None:
    (sealed,) = seal_cold(hung.provider, 1)
    started = time.monotonic()
    pending = hung.client.start(f"{V2_SERVICE}/Decrypt", decrypt_request(sealed), timeout=None)
    assert pending.exception() is not None
    assert pending.code() is StatusCode.UNAVAILABLE
    assert 2.4 <= time.monotonic() - started < 3.4


def test_a_hung_remote_delays_neither_status_nor_encrypt_nor_what_is_in_memory(hung: Served) -> None:
    (cold,) = seal_cold(hung.provider, 1)
    pending = hung.client.start(f"{V2_SERVICE}/Decrypt", decrypt_request(cold))
    sealed = hung.client.seal(b"hot")
    assert hung.client.decrypt(sealed) == b"hot"
    assert hung.client.status().healthz == "ok"
    assert not pending.done()
    assert pending.exception() is not None
