"""Clients that encrypt and decrypt all the time, from memory and by way of the remote, and keep what failed."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc

from support.serving import Client, Sealed

SEED = bytes(32)


class Load:
    """Calls an endpoint during a block: Encrypt, Decrypt from memory, and Decrypt of the next one of `cold`."""

    def __init__(self, client: Client, cold: list[Sealed], pause: float) -> None:
        self.calls: Counter[str] = Counter()
        self.failures: list[str] = []
        self._client = client
        self._over = threading.Event()
        self._pause = pause
        self._start = 0.0
        self._sealed = client.seal(SEED)
        self._cold = iter(cold)
        kinds: dict[str, Callable[[], bool]] = {"encrypt": self._encrypt, "hot": self._hot, "cold": self._decrypt_cold}
        self._threads = [threading.Thread(target=self._repeat, args=kind) for kind in kinds.items()]

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait(self, seconds: float) -> None:
        """Let this much time pass since the beginning."""
        self._over.wait(max(0.0, self._start + seconds - time.monotonic()))

    def _repeat(self, kind: str, call: Callable[[], bool]) -> None:
        for _ in itertools.count():
            if self._over.wait(self._pause):
                return
            try:
                right = call()
            except StopIteration:
                self.failures.append(f"{kind}: there were too few records")
                return
            except grpc.RpcError as exc:
                self.failures.append(
                    f"{kind} after {time.monotonic() - self._start:.1f} s: {exc.code()} {exc.details()}"
                )
            else:
                self.calls[kind] += 1
                if not right:
                    self.failures.append(f"{kind}: another seed")

    def _encrypt(self) -> bool:
        return bool(self._client.encrypt(SEED).ciphertext)

    def _hot(self) -> bool:
        return self._client.decrypt(self._sealed) == SEED

    def _decrypt_cold(self) -> bool:
        return self._client.decrypt(next(self._cold)) == SEED
