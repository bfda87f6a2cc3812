"""One control-plane node: the plugin's own code over a state directory of its own, and its API server.

A process of the plugin is an `Endpoint` whose thread is never started. Its clocks are the node's, and only the
simulation turns them. During a restart there may be two processes over one state directory.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from keystead import errors
from keystead._core import KekStore, Record, StateFile
from keystead.host.clocks import Clocks
from keystead.host.endpoint import Endpoint
from keystead.host.guard import Guard
from keystead.host.keyring import fetch
from keystead.host.members import Member, Members
from keystead.host.state import StateDir
from keystead.host.target import Target
from keystead.server.metrics import Metrics
from simulation.release import Practice, Release
from simulation.remotes import View
from support.fakes import NOW, FakeClock, target_of
from support.messages import Ciphertext, decrypt, encrypt, status

UNWRAP_SECONDS = 10.0
MENDING = 65.0
"""Seconds after which a plugin has looked at its state directory: a probe, and the turn after it."""


class Process:
    """One process of the plugin."""

    def __init__(self, node: Node, release: Release) -> None:
        self._node = node
        self._guards: dict[str, Guard] = {}
        self.release = release
        self.members = self._members(release)
        self.endpoint = Endpoint("main", self._target(), node.state, node.metrics, Clocks(node.monotonic, node.wall))
        # Refusals are remembered for seconds of the simulation.
        self.endpoint._keyring._clock = node.monotonic
        self.shown: list[str] = []
        """The key_ids that Status has named, each once, in order."""
        self.has_written = False
        self.due = node.monotonic.now
        """When its thread would take its next turn."""
        self.tend()

    def tend(self) -> None:
        """Do what is due, as its thread would."""
        calm = self.endpoint.tend()
        self.due = self._node.monotonic.now + (60.0 if calm else 5.0)
        self._look_at_status()

    def take_up(self, release: Release) -> None:
        """Reload."""
        self.release, self.members = release, self._members(release)
        self.endpoint.apply(self._target())
        self.tend()
        for name in self._guards.keys() - release.config.keys:
            self._guards.pop(name).close()

    def stop(self) -> None:
        self.endpoint.stop()
        for guard in self._guards.values():
            guard.close()

    def reads(self, ciphertext: Ciphertext) -> bytes:
        """Decrypt with what it has in memory, and else by its keys. Raises `KeysteadError`."""
        return decrypt(self.endpoint, ciphertext)

    def reads_anew(self, ciphertext: Ciphertext) -> bytes:
        """Decrypt as after a restart, with nothing in memory. Raises `KeysteadError`."""
        store = KekStore(sorted(self.release.accepts))
        fetch(store, Record.parse(ciphertext.record), self.members, time.monotonic() + UNWRAP_SECONDS)
        return decrypt(_Store(store), ciphertext)

    def _look_at_status(self) -> None:
        key_id = status(self.endpoint.status()).key_id
        if key_id and (not self.shown or self.shown[-1] != key_id):
            self.shown.append(key_id)

    def _members(self, release: Release) -> Members:
        config = release.config
        return Members(tuple(Member(self._guard(key), active=key in config.active) for key in sorted(config.keys)))

    def _guard(self, key: str) -> Guard:
        if key not in self._guards:
            view = self._node.views[key]
            self._guards[key] = Guard(view.config, lambda: view)
        return self._guards[key]

    def _target(self) -> Target:
        release, practice = self.release, self._node.practice
        return target_of(
            self.members,
            cluster=release.cluster,
            accept_clusters=tuple(sorted(release.accepts)),
            epoch=release.epoch,
            soak=practice.soak,
            version_delay=practice.version_delay,
            zeroize=practice.zeroize,
            unwrap_timeout=UNWRAP_SECONDS,
        )


class _Store:
    """A store that answers as an endpoint does, but asks nobody."""

    def __init__(self, store: KekStore) -> None:
        self._store = store

    def decrypt_v2(self, request: bytes, remaining: object) -> bytes:
        answer = self._store.decrypt_v2(request)
        assert isinstance(answer, bytes), "what was admitted a moment ago is there"
        return answer


class Node:
    """A node with its API server. Its name stays when it is replaced."""

    def __init__(
        self, number: int, directory: Path, views: dict[str, View], release: Release, practice: Practice
    ) -> None:
        self.number = number
        self.practice = practice
        self.views = views
        self.monotonic, self.wall = FakeClock(), FakeClock(NOW)
        self.metrics = Metrics()
        self._directory = directory
        self._lives = 0
        self.seed: Ciphertext | None = None
        """Under which the API server writes."""
        self.state = self._new_state()
        self.processes = [Process(self, release)]

    @property
    def process(self) -> Process:
        """The one that has the socket."""
        return self.processes[-1]

    @property
    def file(self) -> StateFile | None:
        """What is on disk. Raises `MalformedRequest` and `OSError`."""
        return StateDir(self.state).read()

    def advance(self, seconds: float) -> None:
        self.monotonic.advance(seconds)
        self.wall.advance(seconds)

    # The plugin.

    def restart(self, release: Release | None = None) -> None:
        """End the process, as a kill would, and start another one."""
        self.end(self.processes)
        self.overlapped = False
        self.processes = [Process(self, release or self.process.release)]

    def surge(self, release: Release) -> None:
        """Start a process beside the old one; it takes the socket."""
        self.overlapped = True
        self.processes.append(Process(self, release))

    def end_surge(self) -> None:
        self.end(self.processes[:-1])
        self.processes = self.processes[-1:]

    def lose_state(self) -> None:
        """Start the process anew without what was on disk."""
        release = self.process.release
        self.end(self.processes)
        self.state = self._new_state()
        self.processes = [Process(self, release)]

    def replace(self, release: Release) -> None:
        """Put a new node in the place of this one: nothing stays but what the KMS lets it do."""
        self.end(self.processes)
        self.state, self.seed = self._new_state(), None
        self.processes = [Process(self, release)]

    def end(self, processes: list[Process]) -> None:
        for process in processes:
            process.stop()

    # The disk.

    def delete_state(self) -> None:
        shutil.rmtree(self.state, ignore_errors=True)
        self._touch()

    def damage_state(self) -> None:
        if (self.state / "current").is_file():
            (self.state / "current").write_bytes(b"KSS\x01garbage")
            self._touch()

    def block_state(self) -> None:
        """Make the directory impossible to read and to write, also for root: a file is in its place."""
        if not self.blocked:
            if self.state.is_dir():
                self.state.rename(self._aside)
            self.state.parent.mkdir(parents=True, exist_ok=True)
            self.state.touch()
            self._touch()

    def unblock_state(self) -> None:
        if self.blocked:
            self.state.unlink()
            if self._aside.is_dir():
                self._aside.rename(self.state)
            self._touch()

    @property
    def touched(self) -> bool:
        """Whether somebody has been at the state directory, and the plugin has not had the time to mend it."""
        return self.blocked or self.monotonic.now - self._touched_at <= MENDING

    def _touch(self) -> None:
        self._touched_at = self.monotonic.now

    @property
    def blocked(self) -> bool:
        return self.state.is_file()

    @property
    def _aside(self) -> Path:
        return self.state.with_name("aside")

    def _new_state(self) -> Path:
        self._lives += 1
        self.overlapped = False
        """Whether two processes had this state directory at once: of the same epoch, the last to write prevails."""
        self._touched_at = -float("inf")
        self.highest = 0
        """The highest epoch that Status has named since the state directory is there."""
        return self._directory / f"{self.number}-{self._lives}" / "main"

    # The API server.

    def poll(self, plaintext: bytes) -> bool:
        """Ask for Status, and for a new seed if the key_id calls for one; return whether there is a new one."""
        key_id = status(self.process.endpoint.status()).key_id
        if not key_id or (self.seed is not None and self.seed.key_id == key_id):
            return False
        try:
            self.seed = encrypt(self.process.endpoint, plaintext)
        except errors.KeysteadError:
            return False
        return True
