"""Clients that read and write all the time while something happens to the plugin."""

from __future__ import annotations

import http.client
import itertools
import threading
from types import TracebackType
from typing import Self

from .kube import Kube, KubeError, content_of, secret
from .processes import until

Contents = dict[str, dict[str, str]]
"""What is stored: the content of each Secret by its API path."""


class Traffic:
    """Threads that each GET and replace their own share of the Secrets, from `__enter__` to `__exit__`.

    Each waits `pause` seconds after a read and a write. Where a `reader` is given, reads go through that apiserver.
    `contents` follows what they write. A call that fails, or answers another content than was written last, is kept
    in `failures`.
    """

    def __init__(
        self, kube: Kube, contents: Contents, clients: int = 4, pause: float = 0, reader: Kube | None = None
    ) -> None:
        self.reads = 0
        self.writes = 0
        self.failures: list[str] = []
        self._kube = kube
        self._reader = reader or kube
        self._contents = contents
        self._pause = pause
        self._over = threading.Event()
        self._count = threading.Lock()
        paths = list(contents)
        shares = [paths[client::clients] for client in range(clients)]
        self._threads = [threading.Thread(target=self._client, args=(share,)) for share in shares]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until a good number of further reads and writes are done."""
        reads, writes = self.reads + 50, self.writes + 50
        until(lambda: self.reads >= reads and self.writes >= writes, 60, "50 further reads and writes")

    def _client(self, paths: list[str]) -> None:
        for turn, path in enumerate(itertools.cycle(paths)):
            if self._over.wait(self._pause):
                return
            try:
                self._read(path)
                self._write(path, turn)
            except (KubeError, OSError, http.client.HTTPException) as failure:
                self.failures.append(f"{path}: {failure!r}")

    def _read(self, path: str) -> None:
        found = content_of(self._reader.get(path))
        if found != self._contents[path]:
            self.failures.append(f"{path}: {found} instead of {self._contents[path]}")
        with self._count:
            self.reads += 1

    def _write(self, path: str, turn: int) -> None:
        content = {**self._contents[path], "turn": str(turn)}
        self._kube.replace(path, secret(path.rsplit("/", 1)[1], content))
        self._contents[path] = content
        with self._count:
            self.writes += 1
