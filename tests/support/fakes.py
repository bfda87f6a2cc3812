"""Fakes for tests of the host: a remote key whose faults a test switches, clocks that it turns, an observer.

Nothing here is a provider to copy: it exists to misbehave on demand.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keystead import errors
from keystead.host.clocks import Clocks
from keystead.host.endpoint import Endpoint
from keystead.host.guard import Guard
from keystead.host.members import Member, Members
from keystead.host.target import Target
from keystead.provider import Capabilities, Provider, ProviderConfig, WrapContext, Wrapped

SCHEME = "fake"
CLUSTER = "prod-eu-1"
CANARY = "canary-3f9a77d0c1"
"""Stands for a secret in the text of an exception that an adapter forgot to translate."""
_NONCE = 12


class FakeProvider(Provider[ProviderConfig]):
    """A remote key in memory, with versions. Its wraps are real AES-256-GCM and bound to their context.

    Each fault is an attribute, read at every call; the operations are `open`, `current_version`, `wrap`, `unwrap`.
    """

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = ProviderConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=_NONCE + 32 + 16
    )

    def __init__(self, name: str = "k", ref: str | None = None, **settings: Any) -> None:
        super().__init__(ProviderConfig(name=name, provider=SCHEME, **settings))
        self.ref: object = ref if ref is not None else f"fake/{name}"
        self.versions = {"1": os.urandom(32)}
        self.current: object = "1"
        """What `current_version` answers."""
        self.retired: set[str] = set()
        """Versions that may neither wrap nor unwrap any more, while the others may."""
        self.calls: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        """The most calls of each operation that were under way together."""
        self.expiry: object = None
        """What `credential_expiry` answers."""
        self.closed = 0
        self.delay: dict[str, float] = {}
        """Seconds that an operation takes."""
        self.blocked: dict[str, threading.Event] = {}
        """Operations that do not go on before the event, whatever their deadline."""
        self.raises: dict[str, BaseException] = {}
        """What an operation raises."""
        self.unwrap_answer: Callable[[bytes], object] | None = None
        """Turns the right answer of `unwrap` into another one."""
        self.wrap_answer: Callable[[Wrapped], object] | None = None
        """Turns the right answer of `wrap` into another one."""
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    def rotate(self) -> str:
        """Make a new version the current one, and return its name."""
        version = str(len(self.versions) + 1)
        self.versions[version] = os.urandom(32)
        self.current = version
        return version

    def rotate_from(self) -> str:
        """Make a new version the current one, and return the name of the one before."""
        before = str(self.current)
        self.rotate()
        return before

    def fail(self, error: BaseException | None) -> None:
        """Make every operation raise this, or none."""
        operations = ("open", "current_version", "wrap", "unwrap")
        self.raises = dict.fromkeys(operations, error) if error is not None else {}

    def open(self, deadline: float) -> str:
        with self._call("open"):
            return self.ref  # type: ignore[return-value]  # a test may have put anything there

    def current_version(self, deadline: float) -> str | None:
        with self._call("current_version"):
            return self.current  # type: ignore[return-value]  # as above

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        with self._call("wrap"):
            used = version if version is not None else str(self.current)
            nonce = os.urandom(_NONCE)
            answer = Wrapped(nonce + AESGCM(self._key(used)).encrypt(nonce, kek, context.aad), used)
            return self.wrap_answer(answer) if self.wrap_answer else answer  # type: ignore[return-value]

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytes:
        with self._call("unwrap"):
            try:
                kek = AESGCM(self._key(version)).decrypt(blob[:_NONCE], blob[_NONCE:], context.aad)
            except InvalidTag:
                raise errors.InvalidCiphertext(f"version {version} did not wrap these bytes") from None
            return self.unwrap_answer(kek) if self.unwrap_answer else kek  # type: ignore[return-value]

    def keep_alive(self, deadline: float) -> None:
        with self._call("keep_alive"):
            pass

    @property
    def credential_expiry(self) -> float | None:
        return self.expiry  # type: ignore[return-value]  # a test may have put anything there

    def close(self) -> None:
        self.closed += 1

    def _key(self, version: str) -> bytes:
        if version in self.retired:
            raise errors.KeyDisabled(f"version {version} is disallowed by policy")
        try:
            return self.versions[version]
        except KeyError:
            raise errors.KeyNotFound(f"there is no version {version}") from None

    @contextlib.contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        with self._lock:
            self.calls[operation] += 1
            self._running[operation] += 1
            self.at_once[operation] = max(self.at_once[operation], self._running[operation])
        try:
            if operation in self.delay:
                time.sleep(self.delay[operation])
            if operation in self.blocked:
                self.blocked[operation].wait(60)
            if operation in self.raises:
                # Without the frames of the time before, which an exception that is raised again would keep.
                raise self.raises[operation].with_traceback(None)
            yield
        finally:
            with self._lock:
                self._running[operation] -= 1


class FakeClock:
    """A clock that only a test turns. It starts at the real monotonic time, for deadlines are points on that one.

    At a whole second of it, so that sums and differences of seconds are exact.
    """

    def __init__(self, start: float | None = None) -> None:
        self.now = float(int(time.monotonic())) if start is None else start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class RecordingObserver:
    """Keeps what an endpoint reports, in order."""

    events: list[tuple[str, object]] = field(default_factory=list)

    def persisted(self, endpoint: str, ok: bool) -> None:
        self.events.append(("persisted", ok))

    def minted(self, endpoint: str) -> None:
        self.events.append(("minted", endpoint))

    def cold(self, endpoint: str, seconds: float, error: errors.KeysteadError | None) -> None:
        self.events.append(("cold", error))

    def called(
        self, key: str, provider: str, operation: str, seconds: float, error: errors.KeysteadError | None
    ) -> None:
        self.events.append(("called", (key, operation, error)))

    def stuck(self, key: str, count: int) -> None:
        self.events.append(("stuck", (key, count)))

    def all(self, kind: str) -> list[object]:
        """What was reported of one kind."""
        return [value for name, value in self.events if name == kind]


def guard_of(provider: FakeProvider) -> Guard:
    """A guard around a fake key, not open yet."""
    return Guard(provider.config, lambda: provider)


def members_of(
    *providers: FakeProvider, decrypt: tuple[FakeProvider, ...] = (), recovery: tuple[FakeProvider, ...] = ()
) -> Members:
    """Active members, then those of stage decrypt, then recovery members, each with a guard of its own, not open."""
    active = [Member(guard_of(provider), active=True) for provider in providers]
    others = [Member(guard_of(provider), active=False) for provider in decrypt]
    safes = [Member(guard_of(provider), active=True, online=False) for provider in recovery]
    return Members((*active, *others, *safes))


def target_of(members: Members, **changes: object) -> Target:
    """What a configuration asks of an endpoint, with the documented defaults but for the waits of a rollout: none."""
    wanted: dict[str, object] = {
        "cluster": CLUSTER,
        "accept_clusters": (CLUSTER,),
        "epoch": 1,
        "members": members,
        "status_version": "v2",
        "max_age": 720 * 3600.0,
        "unwrap_timeout": 10.0,
        "grace": 3600.0,
        "probe_interval": 60.0,
        "soak": 0.0,
        "version_delay": 0.0,
        "zeroize": False,
    }
    return Target(**(wanted | changes))  # type: ignore[arg-type]


@dataclass
class Rig:
    """An endpoint whose thread is never started: a test calls `tend` and turns the clocks itself."""

    endpoint: Endpoint
    observer: RecordingObserver
    monotonic: FakeClock
    wall: FakeClock

    @property
    def key_id(self) -> str:
        """What Status advertises."""
        return self.endpoint.snapshot.key_id

    @property
    def healthz(self) -> str:
        """What Status says."""
        return self.endpoint.snapshot.healthz

    def tend(self, target: Target | None = None) -> bool:
        """Let the endpoint do what is due, with a new configuration if one is given."""
        if target is not None:
            self.endpoint.apply(target)
        return self.endpoint.tend()

    def pass_time(self, seconds: float) -> bool:
        """Turn both clocks and let the endpoint do what is due then."""
        self.monotonic.advance(seconds)
        self.wall.advance(seconds)
        return self.endpoint.tend()


NOW = 1_790_000_000.0
"""Unix seconds at which a `Rig` begins."""


def rig_of(target: Target, state_path: Path | None = None, name: str = "main", wall: float = NOW) -> Rig:
    """An endpoint with clocks that stand still. `rig.endpoint.stop()` ends its threads."""
    observer, monotonic, clock = RecordingObserver(), FakeClock(), FakeClock(wall)
    return Rig(Endpoint(name, target, state_path, observer, Clocks(monotonic, clock)), observer, monotonic, clock)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what another thread is about to do."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"it did not happen within {seconds} s"
        time.sleep(0.002)
