"""Clients of a socket that are no current kube-apiserver: old ones, and ones that speak something else or nothing."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import parse_sealed
from .kube import config_maps
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until
from .stored import Stored
from .traffic import Traffic
from .wire import Message, encode

pytestmark = pytest.mark.e2e

SECRETS = 20
ROUNDS = 50
"""Connections of each odd kind that end by themselves."""
SILENT = 200
"""Connections that stay open and say nothing."""
SEED = bytes(range(32))
MAPS = config_maps("default")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Lab:
    """One cluster. The plugin has a socket for both APIs, which the apiserver uses, and one for v2 alone."""

    etcd: Etcd
    plugin: Plugin
    both: str
    only_v2: str
    apiserver: ApiServer
    stored: Stored

    @property
    def descriptors(self) -> int:
        """How many files and connections the plugin has open."""
        return len(list(Path(f"/proc/{self.plugin.child.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    encryption = directory / "encryption.yaml"
    plugin, etcd = Plugin(directory), Etcd(binaries, directory)
    both, only_v2 = plugin.socket("both"), plugin.socket("only-v2")
    key, members = local_key(directory, "lab"), {"lab": "active"}
    endpoints = [
        endpoint("both", both, 1, members, kmsVersions=["v2", "v1beta1"]),
        endpoint("only-v2", only_v2, 1, members),
    ]
    plugin.configure(configuration(plugin, [key], endpoints))
    write_encryption_configuration(
        encryption, (["secrets"], [kms("one", both)]), (["configmaps"], [kms("other", both)])
    )
    apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(both, only_v2)
        stack.callback(apiserver.kill)
        apiserver.start()
        lab = Lab(etcd, plugin, both, only_v2, apiserver, Stored(etcd.reader))
        lab.stored.create(apiserver.kube, "first", SECRETS)
        yield lab


def test_two_entries_use_one_socket_over_two_connections_with_a_seed_each(lab: Lab, count: Count) -> None:
    lab.apiserver.kube.create(MAPS, {"metadata": {"name": "first"}, "data": {"text": "of first"}})
    for provider, prefix in (("one", "secrets"), ("other", "configmaps")):
        assert lab.apiserver.kms_calls("Encrypt", provider=provider) == 1
        sealed = [parse_sealed(value) for value in lab.etcd.reader.values(f"/registry/{prefix}/").values()]
        assert {value.provider for value in sealed} == {provider}
        count(f"seeds of {prefix}", len({value.seed for value in sealed}))
    lab.apiserver.restart()
    assert lab.apiserver.kube.get(f"{MAPS}/first")["data"] == {"text": "of first"}
    count("read", lab.stored.read_all(lab.apiserver.kube))


def test_authorities_of_older_apiservers_are_served(lab: Lab, count: Count) -> None:
    path = lab.both.removeprefix("unix://")
    # Up to 1.31, and with v1 in every release, the client names the socket's path; an abstract one keeps its @.
    authorities = ["localhost", quote(path, safe=""), "@keystead", "", path]
    for authority in authorities:
        for call in (_round_trip_v2, _round_trip_v1):
            with grpc.insecure_channel(f"unix:{path}", options=[("grpc.default_authority", authority)]) as channel:
                assert call(channel) == SEED, authority
    count("authorities", len(authorities))
    count("calls", len(authorities) * 6)


def test_what_is_not_served_is_unimplemented(lab: Lab, count: Count) -> None:
    paths = {
        lab.both: [
            "/v2.KeyManagementService/Rotate",
            "/v2alpha1.KeyManagementService/Status",
            "/v1beta1.KeyManagementService/Status",
            "/k8s.io.kms.v2.KeyManagementService/Status",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/",
        ],
        lab.only_v2: [f"/v1beta1.KeyManagementService/{method}" for method in ("Version", "Encrypt", "Decrypt")],
    }
    for address, methods in paths.items():
        with grpc.insecure_channel(address.replace("unix://", "unix:")) as channel:
            for method in methods:
                with pytest.raises(grpc.RpcError) as failed:
                    _call(channel, method, b"")
                assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED, method
    count("refused", sum(map(len, paths.values())))


def test_odd_clients_disturb_neither_an_apiserver_that_works_nor_one_that_starts(lab: Lab, count: Count) -> None:
    path = lab.both.removeprefix("unix://")
    before = lab.descriptors
    silent = [_connect(path) for _ in range(SILENT)]
    with Traffic(lab.apiserver.kube, lab.stored.contents) as traffic:
        for talk in TALKS.values():
            for _ in range(ROUNDS):
                answer = talk(path)
                # At most the server introduces itself: a frame of type SETTINGS.
                assert not answer or answer[3] == 4, answer
            traffic.goes_on()
    assert traffic.failures == []
    count("odd connections", SILENT + ROUNDS * len(TALKS))
    count("reads", traffic.reads)
    count("writes", traffic.writes)
    lab.apiserver.restart()
    count("read after a start among the silent", lab.stored.read_all(lab.apiserver.kube))
    assert lab.apiserver.failed_transformations() == 0
    for connection in silent:
        connection.close()
    # The apiserver that started anew has connections of its own.
    until(lambda: lab.descriptors <= before + 8, 30, f"{before} descriptors again")
    count("descriptors before and after", f"{before} and {lab.descriptors}")


def _round_trip_v2(channel: grpc.Channel) -> bytes:
    service = "/v2.KeyManagementService"
    key_id = Message.parse(_call(channel, f"{service}/Status", b"")).text(3)
    sealed = Message.parse(_call(channel, f"{service}/Encrypt", encode((1, SEED), (2, b"odd"))))
    assert sealed.text(2) == key_id
    annotations = [(4, encode((1, name.encode()), (2, value))) for name, value in sealed.mapping(3).items()]
    request = encode((1, sealed.raw(1)), (2, b"odd"), (3, key_id.encode()), *annotations)
    return Message.parse(_call(channel, f"{service}/Decrypt", request)).raw(1)


def _round_trip_v1(channel: grpc.Channel) -> bytes:
    service, version = "/v1beta1.KeyManagementService", (1, b"v1beta1")
    assert Message.parse(_call(channel, f"{service}/Version", encode(version))).text(1) == "v1beta1"
    cipher = Message.parse(_call(channel, f"{service}/Encrypt", encode(version, (2, SEED)))).raw(1)
    return Message.parse(_call(channel, f"{service}/Decrypt", encode(version, (2, cipher)))).raw(1)


def _call(channel: grpc.Channel, path: str, request: bytes) -> bytes:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return call(request, timeout=3)


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(0.2)
    connection.connect(path)
    return connection


def _talk(path: str, words: bytes) -> bytes:
    """Say something and return what is answered within a moment."""
    with _connect(path) as connection:
        connection.sendall(words)
        try:
            return connection.recv(4096)
        except TimeoutError:
            return b""


def _hello() -> bytes:
    """The first bytes of a TLS client."""
    out = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def _leave(path: str) -> bytes:
    """Connect and close at once, as a probe of a TCP port does."""
    _connect(path).close()
    return b""


TALKS: dict[str, Callable[[str], bytes]] = {
    "nothing": _leave,
    "TLS": lambda path: _talk(path, _hello()),
    "HTTP/1.1": lambda path: _talk(path, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "a preface alone": lambda path: _talk(path, PREFACE),
    "half a preface": lambda path: _talk(path, PREFACE[:10]),
    "noise": lambda path: _talk(path, os.urandom(64)),
}
