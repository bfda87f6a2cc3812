"""One plugin replaces the other on the same socket, again and again, and clients do not notice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from support.process import Files
from support.serving import Client, Sealed

RETRIED = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
"""What a client may get in the very moment of a graceful stop (docs/limitations.md); its next call works."""
TIMEOUT = 20.0
"""Seconds for one call: a machine with other work takes seconds to start a process."""


class Load:
    """Clients that decrypt all the time, over a connection that they keep or a new one for each call."""

    def __init__(self, address: str, sealed: Sealed) -> None:
        self._address = address
        self._sealed = sealed
        self._end = threading.Event()
        self.calls: Counter[str] = Counter()
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in ("kept", "kept", "new", "new")]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kind: str) -> None:
        client = Client(self._address)
        while not self._end.is_set():
            if kind == "new":
                client.close()
                client = Client(self._address)
            if not self._call(client, kind):
                self._call(client, "again")
            time.sleep(0.02)  # four clients are load enough, and the rest of this process has to run too
        client.close()

    def _call(self, client: Client, kind: str) -> bool:
        try:
            assert client.decrypt(self._sealed, TIMEOUT) == b"seed"
        except grpc.RpcError as exc:
            if kind == "again" or exc.code() not in RETRIED:
                self.failed.append(f"{kind}: {exc.code().name} {exc.details()}")
            self.calls[exc.code().name] += 1
            return False
        self.calls[kind] += 1
        return True


def surge(directory: Path, rounds: int) -> Load:
    """Replace the process that often, under load."""
    files = Files(directory)
    files.write()
    with ExitStack() as stack:
        current = stack.enter_context(files.run(log="0"))
        current.until_ok()
        load = Load(current.address, current.client.seal(b"seed"))
        load.start()
        stack.callback(load.stop)
        for number in range(1, rounds + 1):
            following = stack.enter_context(files.run("--take-over", log=str(number)))
            # As a DaemonSet with maxSurge and minReadySeconds: the old one is stopped once the new one has the path.
            # Until then whoever asks there meets the old one.
            following.until_event("endpoint.listening", seconds=90)
            assert current.stop() == 0
            current = following
        load.stop()
        assert current.stop() == 0
    return load


def test_a_process_is_replaced_under_load_without_a_failed_call(directory: Path) -> None:
    load = surge(directory, 2)
    assert load.failed == []
    assert min(load.calls["kept"], load.calls["new"]) > 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_processes_replace_each_other_under_load_without_a_failed_call(directory: Path) -> None:
    load = surge(directory, 20)
    print(dict(load.calls))
    assert load.failed == []
    assert min(load.calls["kept"], load.calls["new"]) > 200
