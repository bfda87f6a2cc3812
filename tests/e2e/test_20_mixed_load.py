"""Mixed load for KEYSTEAD_SOAK_MINUTES (3 unless set; `make soak` takes 60): API clients read and write Secrets, a
client on the socket decrypts every seed that it ever got, and meanwhile the plugin is killed, stopped, reloaded, and
moved to new epochs and keys. No call fails, no answer is wrong, and the plugin does not grow.

The first half restarts the plugin; the second does not, so that its memory can be compared over time.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets as random_bytes
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import pytest

from keystead._proto.v2 import api_pb2
from keystead.server.codes import TEMPORARY_HINT

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import parse_sealed
from .kube import content_of, secret, secrets
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until
from .traffic import Contents, Traffic

MINUTES = float(os.environ.get("KEYSTEAD_SOAK_MINUTES", "3"))
SECRETS = 100
PAUSE = 0.05
"""Seconds between the calls of one API client; etcd has to keep an hour of them."""
EVENT_EVERY = 12.0
"""Seconds from one event to the next."""
GROWTH = 1.10
"""How much larger the plugin may be at the end of the second half than at its beginning."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(MINUTES * 60 + 300)]


class SeedClient:
    """Encrypts a seed now and then, and decrypts all of them in random order, on one connection as an apiserver's.

    While `restarting` is set, calls may be cut: the killed process answers nothing, and one that stops answers
    CANCELLED to a call that arrives in that very moment. These are counted apart.
    """

    def __init__(self, socket: str) -> None:
        self.decrypts = 0
        self.cut = 0
        self.restarting = threading.Event()
        self.failures: list[str] = []
        self.seeds: list[tuple[api_pb2.DecryptRequest, bytes]] = []
        self._channel = grpc.insecure_channel(
            socket.replace("unix://", "unix:"),
            # A restarted plugin is found again at once; the apiserver's own client is part of this scenario too.
            options=[("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)],
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._channel.close()

    def _run(self) -> None:
        for turn in itertools.count():
            if self._over.wait(0.01):
                return
            try:
                if turn % 200 == 0:
                    self._encrypt()
                request, seed = random.choice(self.seeds)
                answer = self._call("Decrypt", request.SerializeToString())
                if api_pb2.DecryptResponse.FromString(answer).plaintext != seed:
                    self.failures.append("wrong answer")
                self.decrypts += 1
            except grpc.RpcError as failure:
                if self.restarting.is_set() and self._was_cut(failure):
                    self.cut += 1
                else:
                    self.failures.append(repr(failure))

    def _encrypt(self) -> None:
        seed = random_bytes.token_bytes(32)
        answer = api_pb2.EncryptResponse.FromString(
            self._call("Encrypt", api_pb2.EncryptRequest(plaintext=seed, uid="soak").SerializeToString())
        )
        request = api_pb2.DecryptRequest(
            ciphertext=answer.ciphertext, uid="soak", key_id=answer.key_id, annotations=answer.annotations
        )
        self.seeds.append((request, seed))

    def _call(self, method: str, request: bytes) -> bytes:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/v2.KeyManagementService/{method}"
        )
        return call(request, timeout=10, wait_for_ready=True)

    @staticmethod
    def _was_cut(failure: grpc.RpcError) -> bool:
        assert isinstance(failure, grpc.Call)
        # The plugin's own UNAVAILABLE carries its hint, and is a failure here at any time.
        cut = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        return failure.code() in cut and TEMPORARY_HINT not in (failure.details() or "")


@dataclass
class Soak:
    """The cluster under load."""

    directory: Path
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    socket: str
    epoch: int = 1
    active: str = "a"
    contents: Contents = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)

    def configuration(self) -> dict[str, object]:
        stages = {key: "active" if key == self.active else "decrypt" for key in ("a", "b")}
        keys = [local_key(self.directory, key) for key in stages]
        # A file that says what the last one said is no reload: each names another time.
        health = {"health": {"grace": f"{60 + sum(self.events.values())}m"}}
        return configuration(self.plugin, keys, [endpoint("main", self.socket, self.epoch, stages)]) | health

    def happen(self, event: str, seeds: SeedClient) -> None:
        """Let one thing happen, and wait until Status is good again."""
        self.events[event] = self.events.get(event, 0) + 1
        match event:
            case "kill" | "stop":
                seeds.restarting.set()
                (self.plugin.kill if event == "kill" else self.plugin.stop)()
                self.plugin.start(self.socket)
                decrypts = seeds.decrypts
                until(lambda: seeds.decrypts > decrypts, 30, "a Decrypt by the new process")
                seeds.restarting.clear()
            case "reload":
                self.plugin.reload(self.configuration())
            case "epoch" | "key":
                before = self.plugin.wait_for_status(self.socket).key_id
                self.epoch += 1
                if event == "key":
                    self.active = "b" if self.active == "a" else "a"
                self.plugin.reload(self.configuration())
                self.plugin.wait_for_status(self.socket, other_than=before)
        self.plugin.wait_for_status(self.socket)

    def resident(self) -> float:
        """MiB of memory that the plugin has now."""
        for line in Path(f"/proc/{self.plugin.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 1)
        raise AssertionError("no VmRSS")


@pytest.fixture(scope="module")
def soak(binaries: Binaries, directory: Path) -> Iterator[Soak]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory), Etcd(binaries, directory)
    socket = plugin.socket()
    write_encryption_configuration(encryption, (["secrets"], [kms("soak", socket)]))
    apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    soak = Soak(directory, etcd, plugin, apiserver, socket)
    plugin.configure(soak.configuration())
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        apiserver.start()
        for number in range(SECRETS):
            path, content = f"{secrets('default')}/s-{number:03}", {"number": str(number)}
            apiserver.kube.create(secrets("default"), secret(f"s-{number:03}", content))
            soak.contents[path] = content
        yield soak


def test_no_call_fails_and_no_answer_is_wrong(soak: Soak, count: Count) -> None:
    sizes: list[float] = []
    with Traffic(soak.apiserver.kube, soak.contents, pause=PAUSE) as traffic, SeedClient(soak.socket) as seeds:
        for half, events in enumerate(
            (["kill", "reload", "epoch", "stop", "key"], ["reload", "epoch", "reload", "key"])
        ):
            end = time.monotonic() + MINUTES * 30
            for event in itertools.cycle(events):
                soak.happen(event, seeds)
                soak.apiserver.is_healthy()
                traffic.goes_on()
                if half == 1:
                    sizes.append(soak.resident())
                assert not traffic.failures, traffic.failures[:5]
                assert not seeds.failures, seeds.failures[:5]
                if time.monotonic() > end:
                    break
                threading.Event().wait(EVENT_EVERY)
    count("minutes", MINUTES)
    for event, times in soak.events.items():
        count(event, times)
    count("reads", traffic.reads)
    count("writes", traffic.writes)
    count("seeds", len(seeds.seeds))
    count("Decrypts on the socket", seeds.decrypts)
    count("of them cut by a restart", seeds.cut)
    assert traffic.failures == []
    assert seeds.failures == []
    assert soak.apiserver.failed_transformations() == 0
    count("MiB at the beginning of the second half", sizes[0])
    count("MiB at its end", sizes[-1])
    assert sizes[-1] <= sizes[0] * GROWTH, sizes


def test_everything_can_be_read_by_an_apiserver_that_starts_anew(soak: Soak, count: Count) -> None:
    soak.apiserver.restart()
    for path, content in soak.contents.items():
        assert content_of(soak.apiserver.kube.get(path)) == content, path
    sealed = [parse_sealed(value) for value in soak.etcd.reader.values("/registry/secrets/").values()]
    count("read", len(soak.contents))
    count("key_ids", len({value.key_id for value in sealed}))
    count("seeds in etcd", len({value.seed for value in sealed}))
    count("Decrypts", soak.apiserver.kms_calls("Decrypt"))
