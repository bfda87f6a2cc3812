"""Watches the configuration file and has each new content taken up, or says why not and goes on as before.

The content is what counts, not the file: it is read anew every two seconds, so a rename, a symbolic link that is
switched as Kubernetes does for a mounted ConfigMap, and a write in place all look the same. A changed file must look
the same twice in a row before it is used, for half of a file that is being written may be a valid configuration
without the second endpoint. SIGHUP means that the file is complete, and is answered at once and always.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from keystead.config import ConfigInvalid, Configuration, load_text, read_file

POLL_INTERVAL = 2.0
RETRY_FIRST = 5.0
"""Seconds after which a configuration is tried again that only the world around it made fail; then twice as long, up
to `RETRY_LAST`."""
RETRY_LAST = 300.0

log = structlog.get_logger("keystead.config")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from."""

    name: str
    read: Callable[[], str]
    """Return its text. Raises `ConfigInvalid` if there is none to be had."""
    parse: Callable[[str], Configuration]
    """Raises `ConfigInvalid` with every problem."""
    watched: bool = True
    """Whether to look at it now and then."""
    changes: bool = True
    """False for what cannot change while a process runs, whose text stands for itself."""

    @classmethod
    def file(cls, path: Path) -> Source:
        """A file that may change, or a symbolic link to one. A pipe gives its content once, so it is not watched."""
        return cls(str(path), lambda: read_file(path), lambda text: load_text(text, str(path)), watched=path.is_file())

    @classmethod
    def fixed(cls, name: str, make: Callable[[], Configuration]) -> Source:
        """What cannot change while a process runs, such as its flags and its environment."""
        made: list[Configuration] = []

        def once() -> Configuration:
            if not made:
                made.append(make())
            return made[0]

        return cls(name, lambda: once().digest, lambda _text: once(), watched=False, changes=False)

    def load(self) -> Configuration:
        """Read and parse. Raises `ConfigInvalid`."""
        return self.parse(self.read())


class Refused(Exception):
    """A valid configuration that cannot be put to use now; `problems` say why."""

    def __init__(self, problems: list[str], *, retry: bool) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.retry = retry
        """Whether it may work later without being changed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of the configuration that was seen last."""

    source: str
    digest: str
    """SHA-256 of the content in use, as hexadecimal."""
    loaded_at: datetime
    """When that was taken up."""
    problems: tuple[str, ...] = ()
    """Why a later content is not in use; empty if there is none."""
    refused_at: datetime | None = None
    retrying: bool = False
    """Whether it is tried again by itself."""

    @property
    def successful(self) -> bool:
        """Whether what was seen last is in use."""
        return not self.problems


@dataclass(slots=True)
class _Refusal:
    seen: str
    """Digest of the content."""
    problems: tuple[str, ...]
    retry: bool
    next_try: float = float("inf")
    pause: float = field(default=RETRY_FIRST)


class Reloader:
    """Keeps `apply` informed of the file. `start` its thread, `demand` a look at once, `stop` it."""

    def __init__(
        self,
        source: Source,
        in_use: Configuration,
        apply: Callable[[Configuration], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`apply` puts a configuration to use or raises `Refused`, having changed nothing."""
        self._source = source
        self._apply = apply
        self._clock = clock
        self._wall = wall
        self._in_use = in_use.digest
        self._last_seen = in_use.digest
        self._refusal: _Refusal | None = None
        self.standing = Standing(source.name, in_use.digest, self._now())
        self._demanded = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def demand(self) -> None:
        """Look at once, and answer in the log whatever is found."""
        self._demanded.set()

    def stop(self) -> None:
        """Watch no more. What is being tried may go on for its own time; `apply` must refuse it."""
        self._stopping = True
        self._demanded.set()

    def _run(self) -> None:
        while True:
            demanded = self._demanded.wait(POLL_INTERVAL if self._source.watched else None)
            self._demanded.clear()
            if self._stopping:
                return
            try:
                self.look(demanded=demanded)
            except Exception:
                log.exception("config.watch_failed")

    def look(self, *, demanded: bool = False) -> None:
        """Look at the file once, and do what is due."""
        text, problems = "", []
        try:
            text = self._source.read()
            seen = hashlib.sha256(text.encode()).hexdigest() if self._source.changes else text
        except ConfigInvalid as exc:
            problems = [str(problem) for problem in exc.problems]
            seen = str(exc)
        settled = demanded or seen == self._last_seen
        self._last_seen = seen
        if not settled:
            return
        if seen == self._in_use:
            self._back_in_use(demanded)
        elif problems:
            self._refuse(seen, problems, demanded, retry=False)
        elif demanded or self._is_due(seen):
            self._try(seen, text, demanded)

    def _is_due(self, seen: str) -> bool:
        refusal = self._refusal
        return refusal is None or refusal.seen != seen or self._clock() >= refusal.next_try

    def _try(self, seen: str, text: str, demanded: bool) -> None:
        try:
            config = self._source.parse(text)
            self._apply(config)
        except ConfigInvalid as exc:
            self._refuse(seen, [str(problem) for problem in exc.problems], demanded, retry=False)
        except Refused as exc:
            self._refuse(seen, exc.problems, demanded, retry=exc.retry)
        except Exception:
            # A vendor's class may raise anything where it is made.
            log.exception("config.crashed")
            self._refuse(seen, ["an internal error; the log has more"], demanded, retry=False)
        else:
            self._in_use, self._refusal = seen, None
            self.standing = Standing(self._source.name, seen, self._now())
            log.info("config.reloaded", digest=seen[:16], endpoints=[endpoint.name for endpoint in config.endpoints])

    def _back_in_use(self, demanded: bool) -> None:
        if not self.standing.successful:
            self._refusal = None
            self.standing = replace(self.standing, problems=(), refused_at=None, retrying=False)
            log.info("config.restored", digest=self._in_use[:16], msg="the file is again what is in use")
        elif demanded:
            log.info("config.unchanged", digest=self._in_use[:16])

    def _refuse(self, seen: str, problems: list[str], demanded: bool, *, retry: bool) -> None:
        known = self._refusal if self._refusal is not None and self._refusal.seen == seen else None
        said = known is not None and known.problems == tuple(problems)
        refusal = known or _Refusal(seen, (), retry)
        refusal.problems, refusal.retry = tuple(problems), retry
        refusal.next_try = self._clock() + refusal.pause if retry else float("inf")
        refusal.pause = min(refusal.pause * 2, RETRY_LAST)
        self._refusal = refusal
        self.standing = replace(self.standing, problems=refusal.problems, refused_at=self._now(), retrying=retry)
        if demanded or not said:
            goes_on = "the configuration in use stays" + ("; this one is tried again" if retry else "")
            log.error("config.rejected", source=self._source.name, problems=problems, msg=goes_on)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)
