"""A cluster under reads and writes that never stop, while its remote KMS goes away for minutes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .kube import content_of
from .openbao import OpenBao
from .plugin import Plugin, configuration, endpoint
from .processes import until
from .remotes import program
from .stored import Stored
from .timeline import Timeline, health
from .traffic import Contents, Traffic

EACH = 20
"""Secrets under each of two seeds that traffic replaces, and as many that stay as they are."""
HEALTH_CACHE = 20
"""Seconds for which kube-apiserver goes by the last good Status while somebody probes its health."""
HEALS = 25
"""Seconds from the remote's return to a green apiserver, at most: two probes of the key, one of the apiserver."""
SLACK = 10
"""Seconds that a busy machine may take on top."""


@dataclass(frozen=True)
class Length:
    """How long the remote is away, and the settings that let all of its stages be seen in that time. Seconds."""

    away: int
    grace: int
    probe_interval: int
    unwrap_timeout: int

    @property
    def paused(self) -> float:
        """How much of it connections are accepted and nothing is answered; then they are refused."""
        return 0.4 * self.away

    @property
    def to_red(self) -> float:
        """Seconds from the stop of the remote to a red apiserver, at most: a probe fails, grace passes, it is told."""
        return self.grace + self.probe_interval + self.unwrap_timeout + HEALTH_CACHE + SLACK

    @property
    def health(self) -> dict[str, str]:
        return {"grace": f"{self.grace}s", "probeInterval": f"{self.probe_interval}s"}


PROMPT = Length(away=0, grace=3600, probe_interval=5, unwrap_timeout=10)
"""For a remote that stays and refuses."""
LENGTHS = {"2min": Length(120, 60, 5, 2), "10min": Length(600, 300, 60, 10)}
"""The long one has the defaults of everything but the grace, whose default is an hour."""


@dataclass
class Lab:
    """One control-plane node, and an apiserver that has not been started yet."""

    length: Length
    etcd: Etcd
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    newcomer: ApiServer
    remotes: list[OpenBao]
    """The first one goes away."""
    stored: Stored
    """Secrets that stay as they are, under two seeds."""
    traffic: Traffic
    """Reads and replaces as many others."""
    timeline: Timeline
    left: float = 0
    """When the remote went away, when the plugin was restarted, and when the remote was back, on the timeline."""
    restarted: float = 0
    back: float = 0

    @property
    def key_id(self) -> str:
        return self.plugin.wait_for_status(self.socket).key_id

    def remote_leaves(self) -> None:
        """Stop the process of the remote: connections are accepted, and nothing is answered."""
        self.left = self.timeline.now
        self.remotes[0].pause()

    def remote_is_killed(self) -> None:
        """Wait for the time to kill it: from then on connections are refused."""
        self.timeline.wait(self.left + self.length.paused)
        self.remotes[0].kill()

    def remote_returns(self) -> None:
        """Wait for the time to start it again, and for it to work."""
        self.timeline.wait(self.left + self.length.away)
        self.remotes[0].start()
        self.back = self.timeline.now

    def is_in_state(self, state: str) -> bool:
        return self.plugin.metric("keystead_endpoint_state", state=state) == 1

    def reaches(self, state: str, timeout: float) -> float:
        """Wait for a state of the endpoint; return the seconds since the remote left."""
        until(lambda: self.is_in_state(state), timeout, f"the endpoint is {state}", self.plugin.child)
        return round(self.timeline.now - self.left, 1)

    def newcomer_reads_everything(self) -> float:
        """Start the other apiserver, which knows no seed; return the seconds until it reads."""
        start = self.timeline.now
        self.newcomer.start(ready="")
        until(self.newcomer_reads, 60, "the newcomer reads a Secret", self.newcomer.child)
        self.stored.read_all(self.newcomer.kube)
        return round(self.timeline.now - start, 1)

    def newcomer_reads(self) -> bool:
        """Whether it reads the first of what stays as it is."""
        path, content = next(iter(self.stored.contents.items()))
        status, _ = self.newcomer.kube.raw("GET", path)
        return status == 200 and content_of(self.newcomer.kube.get(path)) == content


@contextmanager
def cluster(binaries: Binaries, directory: Path, length: Length, keys: int = 1, **more: Any) -> Iterator[Lab]:
    """Run a cluster whose one endpoint has so many active keys, each in a remote of its own, and `more` settings."""
    with ExitStack() as stack:
        remotes = [OpenBao(directory, f"bao-{number}") for number in range(1, keys + 1)]
        for remote in remotes:
            stack.callback(remote.stop)
        plugin, etcd = Plugin(directory, program=program(directory)), Etcd(binaries, directory)
        socket, encryption, credentials = plugin.socket(), directory / "encryption.yaml", Credentials(directory)
        write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
        apiserver, newcomer = (
            ApiServer(binaries, directory, etcd, credentials, encryption, name=name)
            for name in ("apiserver", "newcomer")
        )
        members = {remote.name: "active" for remote in remotes}
        served = configuration(
            plugin, [remote.entry for remote in remotes], [endpoint("main", socket, 1, members, **more)]
        )
        plugin.configure({**served, "health": length.health, "unwrapTimeout": f"{length.unwrap_timeout}s"})
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        apiserver.start()
        stack.callback(newcomer.kill)
        stored = Stored(etcd.reader)
        moving = _fill(apiserver, stored)
        traffic = stack.enter_context(Traffic(apiserver.kube, moving, pause=0.1))
        timeline = Timeline(kms=health(apiserver, "/readyz/kms-providers"), livez=health(apiserver, "/livez"))
        stack.enter_context(timeline)
        yield Lab(length, etcd, plugin, socket, apiserver, newcomer, remotes, stored, traffic, timeline)


def _fill(apiserver: ApiServer, stored: Stored) -> Contents:
    """Store Secrets under two seeds; return the half that traffic is to replace, and leave the other in `stored`."""
    moving: Contents = {}
    for seed in ("first", "second"):
        paths = stored.create(apiserver.kube, seed, 2 * EACH)
        moving |= {path: stored.contents[path] for path in paths[::2]}
        if seed == "first":
            apiserver.restart()
    assert stored.seeds() == 2
    for path in moving:
        del stored.contents[path]
    return moving
