"""What a plugin refuses while keys are changed, and what it says then; and a node that is new while a key is away.

Two nodes, later four, and two real OpenBaos, x and y. The commands are those that an operator gives.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .binaries import Binaries
from .conftest import Count
from .fleet import Fleet, Node, fleet
from .kube import KubeError, content_of
from .plugin import command, decrypt, status
from .processes import until
from .remotes import keystead, schemes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SECRETS = 20
SOAK = 55
"""Seconds. Long enough for all that is looked at while it lasts, on a busy machine too."""
NEVER_DECRYPT = (
    "key y is active here without having been decrypt before: apply stage decrypt on every node first, until keystead "
    "status shows it PROVEN on all of them"
)
TOO_EARLY = "key y has not been decrypt on this node for long enough, and others may still lack it: wait until "
BY_ITSELF = ", when it becomes active by itself"


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Fleet]:
    settings, more = {"soak": f"{SOAK}s"}, {"health": {"probeInterval": "2s"}}
    with fleet(binaries, directory, ["x", "y"], settings, more) as lab:
        for name in ("a", "b"):
            lab.start(name, 1, x="active")
        yield lab


def test_the_plan_tells_what_to_wait_for(lab: Fleet) -> None:
    a = lab.nodes["a"]
    done = keystead("rotate", "plan", "--config", a.plugin.file, "--add", "y", "--drop", "x")
    print(done.stdout)
    assert done.returncode == 0
    text = keystead("rotate", "plan", "--config", a.plugin.file, "--add", "y", "--drop", "x", "-o", "json").stdout
    stage, switch, *rest = json.loads(text)["steps"]
    assert (stage["title"], stage["where"]) == ("Let y decrypt", "on every node")
    assert stage["wait"] == [
        "until keystead status --from NODE1 NODE2 ... says that all nodes agree, and that y may become active",
        f"until each node has had y for {SOAK} s, its soak; the plugin waits for that too",
    ]
    assert "epoch: 2" in switch["change"]
    assert len(rest) == 3
    for node in lab.nodes.values():
        lab.stored.create(node.apiserver.kube, f"by-{node.name}", SECRETS)
    assert lab.agree("status").endswith("all 2 nodes agree\n")


def test_a_node_that_skips_the_stage_decrypt_is_refused_and_goes_on_as_before(lab: Fleet) -> None:
    a, b = lab.nodes["a"], lab.nodes["b"]
    before = a.key_id
    a.configure(2, y="active", x="decrypt")
    until(lambda: a.main["refused"] == NEVER_DECRYPT, 30, "a refuses its configuration")
    assert NEVER_DECRYPT in _readyz(a)
    assert a.plugin.metric("keystead_configuration_refused", endpoint="main") == 1
    assert NEVER_DECRYPT in [event["reason"] for event in a.plugin.events("configuration.refused")]
    done = lab.compare("status")
    assert done.returncode == 1
    assert f"a refuses its configuration: {NEVER_DECRYPT}" in done.stdout
    assert a.key_id == b.key_id == before
    (path,) = lab.stored.create(a.apiserver.kube, "by-a-while-refused")
    assert content_of(b.apiserver.kube.get(path)) == lab.stored.contents[path]
    assert lab.stored.key_ids() == {before}
    assert a.apiserver.is_healthy()


def test_one_that_goes_on_too_early_is_told_until_when_to_wait(lab: Fleet, count: Count) -> None:
    a = lab.nodes["a"]
    before, start = a.key_id, time.monotonic()
    a.configure(1, x="active", y="decrypt")
    until(lambda: not a.main["refused"], 30, "a has y to decrypt with")
    a.configure(2, y="active", x="decrypt")
    reason = until(lambda: a.main["refused"], 30, "a refuses its configuration")
    print(reason)
    assert reason.startswith(TOO_EARLY)
    assert reason.endswith(BY_ITSELF)
    assert reason in _readyz(a)
    done = lab.compare("status")
    assert done.returncode == 1
    assert f"a refuses its configuration: {TOO_EARLY}" in done.stdout
    assert a.key_id == before
    assert time.monotonic() - start < SOAK
    count("seconds of the soak that were left", SOAK - round(time.monotonic() - start))


def test_the_wait_is_enough_to_bring_the_key_to_the_other_node(lab: Fleet, count: Count) -> None:
    a, b = lab.nodes["a"], lab.nodes["b"]
    before, start = a.key_id, time.monotonic()
    b.configure(1, x="active", y="decrypt")
    until(lambda: _proven(b, "y"), 30, "b has proven y")
    assert a.key_id == before
    key_id = a.plugin.wait_for_status(a.socket, other_than=before, timeout=SOAK + 60).key_id
    count("seconds until a goes on by itself", round(time.monotonic() - start, 1))
    assert key_id.startswith("ks1.e2.")
    lab.follows(a, key_id)
    assert lab.stored.read_all(b.apiserver.kube) == len(lab.stored.contents)
    # The commands see a rollout that is not over.
    done = lab.compare("rotate", "verify", "--epoch", "2")
    assert done.returncode == 1
    assert "finish the rollout of the configuration on b" in done.stdout


def test_when_the_other_node_follows_the_rotation_is_complete(lab: Fleet, count: Count) -> None:
    a, b = lab.nodes["a"], lab.nodes["b"]
    b.configure(2, y="active", x="decrypt")
    assert lab.agree("rotate", "verify", "--epoch", "2", timeout=SOAK + 60).endswith(
        "the rotation is complete on all 2 nodes\n"
    )
    lab.follows(b, a.key_id)
    count("migrated", a.apiserver.kubectl.migrate("secrets"))
    assert lab.stored.key_ids() == {a.key_id}
    assert lab.stored.read_all(a.apiserver.kube) == lab.stored.read_all(b.apiserver.kube)
    done = lab.compare("key", "retire-check", "x", "--etcd", lab.etcd.url)
    assert done.returncode == 0


def test_a_record_is_minted_for_nodes_to_come_while_all_keys_are_there(lab: Fleet) -> None:
    for node in lab.nodes.values():
        node.configure(3, y="active", x="active")
    lab.agree("rotate", "verify", "--epoch", "3")
    lab.nodes["a"].apiserver.is_healthy()
    for node in lab.nodes.values():
        lab.follows(node, node.key_id)
    record = lab.directory / "record"
    with record.open("wb") as file:
        line = [*command(), "kek", "mint", "--config", str(lab.nodes["a"].plugin.file)]
        done = subprocess.run(line, stdout=file, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    print(done.stderr)
    assert done.returncode == 0
    assert f"key_id     {lab.nodes['a'].key_id}\n" in done.stderr
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({"vault-transit"})}


def test_a_new_node_without_a_record_is_refused_while_one_of_two_keys_is_away(lab: Fleet) -> None:
    lab.remotes[0].kill()
    c = lab.add("c")
    c.configure(3, y="active", x="active")
    c.plugin.start()
    ways_out = f"; a node without a record needs every active key once, or a copy of another node's file in {_file(c)}"
    until(lambda: ways_out in status(c.socket).healthz, 30, "Status names the ways out", c.plugin.child)
    said = status(c.socket)
    print(said.healthz)
    assert said.healthz.startswith("starting: key x: open: ")
    assert said.key_id == ""
    c.apiserver.start(ready="")
    until(lambda: c.apiserver.kube.raw("GET", "/api/v1/namespaces")[0] == 200, 60, "c serves the rest")
    code, text = c.apiserver.kube.raw("GET", "/readyz/kms-providers")
    print(text)
    assert code == 500
    with pytest.raises(KubeError):
        c.apiserver.kube.get(next(iter(lab.stored.contents)))
    done = lab.compare("status")
    assert done.returncode == 1
    assert "c is not healthy: starting: key x: open: " in done.stdout
    for node in (lab.nodes["a"], lab.nodes["b"]):
        lab.stored.create(node.apiserver.kube, f"{node.name}-without-x")
        assert node.apiserver.is_healthy()


def test_with_the_file_of_another_node_it_serves_without_a_restart(lab: Fleet, count: Count) -> None:
    a, c = lab.nodes["a"], lab.nodes["c"]
    start = time.monotonic()
    _file(c).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_file(a), _file(c))
    assert c.plugin.wait_for_status(c.socket).key_id == a.key_id
    count("seconds until Status is good", round(time.monotonic() - start, 1))
    until(c.apiserver.is_healthy, 90, "c is ready", c.apiserver.child)
    count("seconds until the apiserver is ready", round(time.monotonic() - start, 1))
    assert lab.stored.read_all(c.apiserver.kube) == len(lab.stored.contents)
    lab.stored.create(c.apiserver.kube, "by-c")
    for node in (a, lab.nodes["b"]):
        assert lab.stored.read_all(node.apiserver.kube) == len(lab.stored.contents)
    assert len(c.plugin.events("server.started")) == 1
    assert c.plugin.events("kek.minted") == []


def test_with_the_record_that_was_minted_a_fourth_serves_too(lab: Fleet, count: Count) -> None:
    a, d = lab.nodes["a"], lab.add("d")
    d.settings["localKEK"] = {"recordFile": str(lab.directory / "record")}
    d.configure(3, y="active", x="active")
    start = time.monotonic()
    d.plugin.start(d.socket)
    count("seconds until Status is good", round(time.monotonic() - start, 1))
    assert d.key_id == a.key_id
    d.apiserver.start()
    assert lab.stored.read_all(d.apiserver.kube) == len(lab.stored.contents)
    (path,) = lab.stored.create(d.apiserver.kube, "by-d")
    assert content_of(a.apiserver.kube.get(path)) == lab.stored.contents[path]


def test_once_the_key_is_back_all_four_agree(lab: Fleet, count: Count) -> None:
    lab.remotes[0].start()
    start = time.monotonic()
    lab.agree("status")
    count("seconds", round(time.monotonic() - start, 1))
    for node in lab.nodes.values():
        assert lab.stored.read_all(node.apiserver.kube) == len(lab.stored.contents)
        assert node.apiserver.failed_transformations() == 0 or node.name == "c"
    sealed = lab.stored.sealed()
    for node in lab.nodes.values():
        assert {len(decrypt(node.socket, value)) for value in sealed.values()} == {32}
    count("local KEKs in etcd", lab.stored.records())


def _file(node: Node) -> Path:
    """The record of a node on disk."""
    return node.plugin.state / "main" / "current"


def _readyz(node: Node) -> str:
    with urllib.request.urlopen(f"http://{node.plugin.http}/readyz?verbose", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def _proven(node: Node, name: str) -> bool:
    return any(key["name"] == name and key["proven"] for key in node.main["keys"])
