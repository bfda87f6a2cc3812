"""Two control-plane nodes on one etcd, each an apiserver with a plugin of its own.

They read each other's Secrets; a key is replaced under traffic; a node that skips a stage fails alone and heals at
once; and two releases work side by side.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .kube import KubeError, content_of
from .plugin import Plugin, command, configuration, endpoint, local_key
from .processes import until
from .stored import COLLECTION, Stored, put_unchanged
from .timeline import Timeline
from .traffic import Contents, Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECRETS = 100
"""Secrets that are created through each node."""
NOTICES = 60
"""Seconds within which an apiserver that is probed has a seed under a new key_id, with much room."""
PREVIOUS = shlex.split(os.environ.get("KEYSTEAD_E2E_PREVIOUS", ""))


@dataclass
class Node:
    """One control-plane node."""

    directory: Path
    plugin: Plugin
    socket: str
    apiserver: ApiServer

    def configure(self, epoch: int, **members: str) -> None:
        """Give the plugin these keys with these stages, by a reload if it runs."""
        keys = [local_key(self.directory, name) for name in members]
        new = configuration(self.plugin, keys, [endpoint("main", self.socket, epoch, members)])
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    @property
    def key_id(self) -> str:
        return self.plugin.wait_for_status(self.socket).key_id

    def restart_apiserver(self) -> None:
        self.apiserver.kill()
        self.apiserver.start()

    def run(self, program: list[str]) -> None:
        """Stop the plugin and go on with another program over the same configuration and state."""
        self.plugin.stop()
        self.plugin.run(program)
        self.plugin.start(self.socket)


@dataclass
class Lab:
    """The cluster."""

    etcd: Etcd
    a: Node
    b: Node
    decoders: int
    stored: Stored

    def move(self, node: Node, epoch: int, **members: str) -> float:
        """Change a node's active keys; return the seconds until its apiserver writes under the new key_id."""
        old = node.key_id
        start = time.monotonic()
        node.configure(epoch, **members)
        new = node.plugin.wait_for_status(node.socket, other_than=old).key_id
        (path,) = self.stored.create(node.apiserver.kube, f"{node.plugin.child.name}-epoch-{epoch}")

        def written() -> bool:
            node.apiserver.is_healthy()
            put_unchanged(node.apiserver.kube, path)
            return self.stored.sealed()[path].key_id == new

        until(written, NOTICES, f"{node.apiserver.child.name} writes under {new}")
        return round(time.monotonic() - start, 1)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    etcd, credentials = Etcd(binaries, directory), Credentials(directory)
    nodes = []
    for name in ("a", "b"):
        plugin, encryption = Plugin(directory, f"plugin-{name}"), directory / f"encryption-{name}.yaml"
        socket = plugin.socket()
        write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
        apiserver = ApiServer(binaries, directory, etcd, credentials, encryption, name=f"apiserver-{name}")
        nodes.append(Node(directory, plugin, socket, apiserver))
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        for node in nodes:
            node.configure(1, lab="active")
            stack.callback(node.plugin.stop)
            node.plugin.start(node.socket)
            stack.callback(node.apiserver.kill)
            node.apiserver.start()
        a, b = nodes
        yield Lab(etcd, a, b, binaries.decoders, Stored(etcd.reader))


def test_both_nodes_show_the_same_key_id(lab: Lab) -> None:
    assert lab.a.key_id == lab.b.key_id


def test_each_reads_what_the_other_wrote_after_one_decrypt(lab: Lab, count: Count) -> None:
    for writer, reader in ((lab.a, lab.b), (lab.b, lab.a)):
        name, before = writer.plugin.child.name, reader.apiserver.kms_calls("Decrypt")
        paths = lab.stored.create(writer.apiserver.kube, f"by-{name}", SECRETS)
        for path in paths:
            assert content_of(reader.apiserver.kube.get(path)) == lab.stored.contents[path]
        decrypts = reader.apiserver.kms_calls("Decrypt") - before
        assert 1 <= decrypts <= lab.decoders
        count(f"Decrypts for {len(paths)} of {name}", decrypts)
    assert (lab.stored.seeds(), lab.stored.records()) == (2, 2)
    assert lab.stored.key_ids() == {lab.a.key_id}
    count("seeds", 2)


def test_a_key_is_replaced_without_a_failed_call(lab: Lab, count: Count) -> None:
    a, b = lab.a.apiserver, lab.b.apiserver
    # Half of what each node has written is rewritten by traffic; the other half is left for the migration.
    by_a, by_b = (_every_second(lab.stored.contents, node.plugin.child.name) for node in (lab.a, lab.b))
    lists = Timeline(a=lambda: a.kube.raw("GET", COLLECTION), b=lambda: b.kube.raw("GET", COLLECTION))
    with (
        Traffic(a.kube, by_a, pause=0.05, reader=b.kube) as from_a,
        Traffic(b.kube, by_b, pause=0.05, reader=a.kube) as from_b,
        lists,
    ):
        before = lab.a.key_id
        for node in (lab.a, lab.b):
            node.configure(1, lab="active", lab2="decrypt")
            assert node.key_id == before
        for node in (lab.a, lab.b):
            count(f"seconds to {node.apiserver.child.name}'s new seed", lab.move(node, 2, lab2="active", lab="decrypt"))
            if node is lab.a:
                _each_takes_the_others_objects_for_stale(lab, count)
            for traffic in (from_a, from_b):
                traffic.goes_on()
    lab.stored.contents |= by_a | by_b
    assert lab.a.key_id == lab.b.key_id != before
    assert from_a.failures + from_b.failures == []
    assert lists.seen("a") | lists.seen("b") == {200}
    assert a.failed_transformations() + b.failed_transformations() == 0
    count("GETs through the other node", from_a.reads + from_b.reads)
    count("PUTs", from_a.writes + from_b.writes)
    count("LISTs", sum(lists.calls.values()))


def _each_takes_the_others_objects_for_stale(lab: Lab, count: Count) -> None:
    """While key_ids differ, an update that changes nothing writes all the same, each time by another node."""
    assert lab.a.key_id != lab.b.key_id
    (path,) = lab.stored.create(lab.b.apiserver.kube, "flapping")
    versions = [put_unchanged(node.apiserver.kube, path) for _ in range(3) for node in (lab.a, lab.b)]
    assert len(set(versions)) == len(versions)
    count("rewrites by 6 unchanged PUTs while key_ids differ", len(set(versions)))


def test_once_both_agree_an_unchanged_object_is_left_alone(lab: Lab, count: Count) -> None:
    path = f"{COLLECTION}/flapping-000"
    versions = [put_unchanged(node.apiserver.kube, path) for _ in range(3) for node in (lab.a, lab.b)]
    assert len(set(versions)) == 1
    count("resourceVersions after 6 unchanged PUTs", len(set(versions)))


def test_migration_through_one_node_leaves_one_key_id(lab: Lab, count: Count) -> None:
    key_ids = lab.stored.key_ids()
    assert len(key_ids) == 2
    count("key_ids before", len(key_ids))
    migrated = lab.a.apiserver.kubectl.migrate("secrets")
    assert migrated == len(lab.stored.contents)
    assert lab.stored.key_ids() == {lab.a.key_id}
    before = _versions(lab.b)
    lab.b.apiserver.kubectl.migrate("secrets")
    assert _versions(lab.b) == before
    count("migrated", migrated)
    count("rewritten by a second pass through the other node", 0)


def test_a_node_that_skipped_the_decrypt_stage_cannot_read_what_the_other_writes(lab: Lab, count: Count) -> None:
    kube = lab.b.apiserver.kube
    lab.move(lab.a, 3, lab3="active", lab2="decrypt")
    new = [path for path, value in lab.stored.sealed().items() if value.key_id == lab.a.key_id]
    assert len(new) == 1
    with pytest.raises(KubeError) as failed:
        kube.get(new[0])
    assert failed.value.status == 500
    print(failed.value.body)
    assert "add the key as a member with stage decrypt" in failed.value.body
    start = time.monotonic()
    until(lambda: kube.raw("GET", COLLECTION)[0] == 500, 30, "LIST of Secrets fails as a whole")
    count("seconds to a LIST that fails", round(time.monotonic() - start, 1))
    old = [path for path in lab.stored.contents if path not in new]
    assert all(kube.raw("GET", path)[0] == 200 for path in old)
    assert kube.raw("GET", "/api/v1/namespaces")[0] == 200
    lab.stored.create(kube, "written-meanwhile")
    assert lab.stored.read_all(lab.a.apiserver.kube) == len(old) + 2
    count("GETs that fail", len(new))
    count("GETs that work", len(old))
    count("/livez", kube.raw("GET", "/livez")[0])
    count("/readyz", kube.raw("GET", "/readyz")[0])
    count("code", failed.value.body.partition("code = ")[2].partition(" ")[0])


def test_it_heals_as_soon_as_it_has_the_key(lab: Lab, count: Count) -> None:
    kube = lab.b.apiserver.kube
    (path,) = [path for path, value in lab.stored.sealed().items() if value.key_id == lab.a.key_id]
    start = time.monotonic()
    lab.b.configure(2, lab2="active", lab="decrypt", lab3="decrypt")
    until(lambda: kube.raw("GET", path)[0] == 200, 30, "GET works again")
    count("seconds to a GET", round(time.monotonic() - start, 1))
    until(lambda: kube.raw("GET", COLLECTION)[0] == 200, 60, "LIST works again")
    count("seconds to a LIST", round(time.monotonic() - start, 1))
    assert lab.stored.read_all(kube) == len(lab.stored.contents)


def test_both_start_anew_at_the_same_time(lab: Lab, count: Count) -> None:
    lab.move(lab.b, 3, lab3="active", lab2="decrypt")
    for node in (lab.a, lab.b):
        node.apiserver.kill()
        node.plugin.kill()
    start = time.monotonic()
    for node in (lab.a, lab.b):
        node.plugin.start()
        node.apiserver.start(ready="")
    seeds, records = lab.stored.seeds(), lab.stored.records()
    for node in (lab.a, lab.b):
        until(node.apiserver.is_healthy, 60, "ready", node.apiserver.child)
        assert lab.stored.read_all(node.apiserver.kube) == len(lab.stored.contents)
        decrypts = node.apiserver.kms_calls("Decrypt")
        assert seeds <= decrypts <= seeds * lab.decoders
        count(f"{node.apiserver.child.name}'s Decrypts", decrypts)
    count("seconds", round(time.monotonic() - start, 1))
    count("seeds", seeds)
    count("local KEKs", records)


@pytest.mark.skipif(not PREVIOUS, reason="KEYSTEAD_E2E_PREVIOUS names no previous release; build/previous.sh makes one")
def test_two_releases_work_side_by_side(lab: Lab, count: Count) -> None:
    lab.b.run(PREVIOUS)
    assert lab.b.key_id == lab.a.key_id
    for writer, reader in ((lab.a, lab.b), (lab.b, lab.a)):
        writer.restart_apiserver()
        lab.stored.create(writer.apiserver.kube, f"mixed-{writer.plugin.child.name}", 10)
        reader.restart_apiserver()
        count(f"read through {reader.plugin.child.name}", lab.stored.read_all(reader.apiserver.kube))
    assert lab.stored.key_ids() >= {lab.a.key_id}


@pytest.mark.skipif(not PREVIOUS, reason="KEYSTEAD_E2E_PREVIOUS names no previous release; build/previous.sh makes one")
def test_the_newer_release_takes_up_the_older_ones_state(lab: Lab, count: Count) -> None:
    minted = len(lab.b.plugin.events("kek.minted"))
    lab.b.run(command())
    lab.b.restart_apiserver()
    count("read", lab.stored.read_all(lab.b.apiserver.kube))
    assert len(lab.b.plugin.events("kek.minted")) == minted
    assert lab.b.apiserver.failed_transformations() == 0


def _every_second(contents: Contents, writer: str) -> Contents:
    return dict([item for item in contents.items() if writer in item[0]][::2])


def _versions(node: Node) -> set[tuple[str, str]]:
    """Name every Secret with its resourceVersion."""
    items = node.apiserver.kube.get(COLLECTION)["items"]
    return {(item["metadata"]["name"], item["metadata"]["resourceVersion"]) for item in items}
