"""What a fault costs: Status, Decrypts from memory, and Decrypts that need the remote, all at the same time."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from faults.plugin import COLD_DECRYPTS, PROVIDER_CALLS, Running, results
from faults.remotes import Remote
from support.serving import Client, Sealed

COLD = 8
"""Decrypts that need the remote, each for a local KEK of its own, at once."""
AT_LEAST = 50
"""Calls of Status, and of Decrypt from memory, during each fault."""
PAUSE = 0.005
"""Seconds between two of them."""


@dataclass(frozen=True)
class Call:
    """One call, as a client of the socket sees it."""

    seconds: float
    code: grpc.StatusCode = grpc.StatusCode.OK
    text: str = ""
    """The error's, or for Status what it said."""


@dataclass
class Measured:
    """One fault of one remote."""

    provider: str
    fault: str
    status: list[Call] = field(default_factory=list)
    hot: list[Call] = field(default_factory=list)
    cold: list[Call] = field(default_factory=list)
    others: list[Call] = field(default_factory=list)
    """Decrypts that need one of the other remotes meanwhile."""
    decrypts: Counter[str] = field(default_factory=Counter)
    """`keystead_cold_decrypt_seconds`, by its label `result`."""
    unwraps: Counter[str] = field(default_factory=Counter)
    """`keystead_provider_request_duration_seconds` for `unwrap`, by its label `result`."""
    back: float = 0.0
    """Seconds after the repair until a Decrypt that needs the remote succeeds."""


def measure(running: Running, remotes: Sequence[Remote], remote: Remote, fault: str) -> Measured:
    """Have the fault, call, and repair it."""
    measured = Measured(remote.name, fault)
    client = running.clients[remote.name]
    hot = client.seal(bytes(32))
    cold = remote.cold(COLD)
    elsewhere = [(running.clients[other.name], other.cold(1)[0]) for other in remotes if other is not remote]
    before, flights = running.metrics(), running.flights(remote.name)
    with remote.fault(fault):
        with (
            _repeating(lambda: _status(client), measured.status),
            _repeating(lambda: _decrypt(client, hot), measured.hot),
            ThreadPoolExecutor(COLD + len(elsewhere)) as pool,
        ):
            pending = [pool.submit(_decrypt, client, sealed) for sealed in cold]
            others = [pool.submit(_decrypt, *other) for other in elsewhere]
            measured.cold = [future.result() for future in pending]
            measured.others = [future.result() for future in others]
        # The unwraps themselves may go on, so that the API server's next try finds their result.
        running.until_flights(remote.name, flights + COLD)
        after = _settled(running, remote, before)
    repaired = time.monotonic()
    while _decrypt(client, remote.cold(1)[0]).code is not grpc.StatusCode.OK:
        assert time.monotonic() < repaired + 20, f"{remote.name} is still out of order after {fault}"
        time.sleep(0.1)
    measured.back = time.monotonic() - repaired
    measured.decrypts = results(after, COLD_DECRYPTS, endpoint=remote.name)
    measured.decrypts -= results(before, COLD_DECRYPTS, endpoint=remote.name)
    measured.unwraps = _unwraps(remote, after) - _unwraps(remote, before)
    return measured


def p50(calls: list[Call]) -> float:
    """Seconds of the median call."""
    return statistics.median(call.seconds for call in calls)


def longest(calls: list[Call]) -> float:
    """Seconds of the longest call."""
    return max(call.seconds for call in calls)


def _settled(running: Running, remote: Remote, before: str) -> str:
    """Scrape once each unwrap has been counted, the last of them a moment after the Decrypt that gave it up."""
    wanted = _unwraps(remote, before).total() + COLD
    ends = time.monotonic() + 5
    while _unwraps(remote, after := running.metrics()).total() < wanted:
        assert time.monotonic() < ends, "an unwrap is not in the metrics"
        time.sleep(0.05)
    return after


def _unwraps(remote: Remote, exposition: str) -> Counter[str]:
    return results(exposition, PROVIDER_CALLS, key=remote.name, operation="unwrap")


@contextmanager
def _repeating(call: Callable[[], Call], calls: list[Call]) -> Iterator[None]:
    """Make the call over and over in a thread, during the block and until there are enough."""
    over = threading.Event()

    def repeat() -> None:
        while not (over.is_set() and len(calls) >= AT_LEAST):
            calls.append(call())
            time.sleep(PAUSE)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _status(client: Client) -> Call:
    return _timed(lambda: client.status().healthz)


def _decrypt(client: Client, sealed: Sealed) -> Call:
    def decrypt() -> str:
        assert client.decrypt(sealed) == bytes(32)
        return ""

    return _timed(decrypt)


def _timed(call: Callable[[], str]) -> Call:
    start = time.monotonic()
    try:
        text = call()
    except grpc.RpcError as exc:
        return Call(time.monotonic() - start, exc.code(), exc.details() or "")
    return Call(time.monotonic() - start, text=text)
