"""A rotation from a key file to a real OpenBao on two nodes, step by step as `keystead rotate plan` prints it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from providers.vault.bao import Bao
from support.process import KEYSTEAD, Files, Process, clean_environment
from support.serving import V2_SERVICE, Sealed, decrypt_request, short_directory

PATIENCE = 60.0
RIGHTS = (("encrypt", "update"), ("decrypt", "update"), ("keys", "read"))


class Fleet:
    """Two nodes, and the commands that an operator runs."""

    def __init__(self, stack: ExitStack, directory: Path, bao: Bao) -> None:
        self.directory = directory
        self.bao = bao
        self.nodes = [self._files(name) for name in ("cp-1", "cp-2")]
        self.documents = [self._document(node) for node in self.nodes]
        for node, document in zip(self.nodes, self.documents, strict=True):
            node.write(document)
        self.processes: list[Process] = [stack.enter_context(node.run()) for node in self.nodes]

    def _files(self, name: str) -> Files:
        (self.directory / name).mkdir()
        return Files(self.directory / name)

    def _document(self, node: Files) -> dict[str, Any]:
        document = node.document(soak="2s", kmsVersions=["v2"])
        document["keys"][0]["name"] = "a"
        document["endpoints"][0]["members"] = [{"key": "a", "stage": "active"}]
        document["health"] = {"probeInterval": "1s"}
        return document

    def entry(self, node: Files, policy: str) -> dict[str, Any]:
        """The entry of `keys:` for the new key, with a token of this node's own."""
        token = node.directory / "token"
        token.write_text(self.bao.make_token(policy) + "\n")
        return {
            "name": "b",
            "provider": "vault-transit",
            "address": self.bao.address,
            "transitKey": "fleet",
            "auth": {"method": "token", "tokenFile": str(token)},
        }

    def apply(self, number: int, step: dict[str, Any]) -> None:
        """Edit one node's file as a step says, and leave the rest to the plugin."""
        (change,) = YAML(typ="safe").load(step["change"])["endpoints"]
        self.documents[number]["endpoints"][0] |= change
        self.nodes[number].write(self.documents[number])

    def command(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(KEYSTEAD), *arguments],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        print(f"$ keystead {' '.join(arguments)}\n{done.stdout}{done.stderr}(exit {done.returncode})\n")
        return done.returncode, done.stdout

    def compare(self, *command: str) -> tuple[int, str]:
        """Save what each node says under its own name, as over ssh, and compare."""
        saved = []
        for node, process in zip(self.nodes, self.processes, strict=True):
            assert process.popen.poll() is None, process.log
            name = node.directory.name
            done = subprocess.run(
                [str(KEYSTEAD), "status", "-o", "json", "--config", str(node.config)],
                env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            saved.append(self.directory / f"{name}.json")
            saved[-1].write_text(json.dumps(json.loads(done.stdout) | {"node": name}))
        return self.command(*command, "--from", *map(str, saved))

    def until(self, *command: str, good: Callable[[int, str], bool]) -> str:
        ends = time.monotonic() + PATIENCE
        while True:
            code, text = self.compare(*command)
            if good(code, text):
                return text
            assert time.monotonic() < ends, text
            time.sleep(0.5)


@pytest.fixture
def fleet(bao: Bao) -> Iterator[Fleet]:
    with short_directory() as directory, ExitStack() as stack:
        bao.key("fleet")
        yield Fleet(stack, directory, bao)


@pytest.mark.timeout(300)
def test_a_key_file_is_replaced_by_openbao_on_two_nodes_as_the_plan_says(fleet: Fleet) -> None:
    first, second = fleet.processes
    assert first.until_ok() == second.until_ok()
    old = first.client.seal(b"before")
    fleet.until("status", good=lambda code, text: code == 0 and "all 2 nodes agree" in text)
    wish = ("--config", str(fleet.nodes[0].config), "--add", "b", "--drop", "a")
    fleet.command("rotate", "plan", *wish)
    _, text = fleet.command("rotate", "plan", *wish, "-o", "json")
    stage, switch, rewrite, prove, take_away = json.loads(text)["steps"]

    # Step 1, but the policy of the second node forgets to unwrap: the barrier does not open.
    narrow = fleet.bao.policy("narrow", "transit/encrypt/fleet=update", "transit/keys/fleet=read")
    for number, policy in enumerate(("fleet", narrow)):
        fleet.documents[number]["keys"].append(fleet.entry(fleet.nodes[number], policy))
        fleet.apply(number, stage)
    told = fleet.until("status", good=lambda code, text: code == 1 and "not proven on cp-2: key b" in text)
    assert "denied" in told
    assert "may become active" not in told
    fleet.command("status", "--config", str(fleet.nodes[1].config))
    fleet.bao.policy("narrow", *(f"transit/{path}/fleet={right}" for path, right in RIGHTS))
    fleet.until("status", good=lambda code, text: code == 0 and "main/b is proven on every node and may become" in text)

    # Step 2, one node after the other. In between they differ, and each reads what the other writes.
    fleet.apply(0, switch)
    first.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
    code, told = fleet.compare("rotate", "verify")
    assert code == 1
    assert "different epochs are configured" in told
    new = first.client.seal(b"after")
    assert second.client.decrypt(new, timeout=10) == b"after"
    assert first.client.decrypt(old) == b"before"
    fleet.apply(1, switch)
    told = fleet.until("rotate", "verify", "--epoch", "2", good=lambda code, _: code == 0)
    assert told.endswith("the rotation is complete on all 2 nodes\n")
    assert first.client.status().key_id == second.client.status().key_id == new.key_id

    # Steps 3 and 4 are the API server's and etcd's. Step 5: the old key goes.
    assert (rewrite["where"], prove["where"]) == ("once", "once")
    for number in range(2):
        fleet.apply(number, take_away)
        keys = fleet.documents[number]["keys"]
        fleet.documents[number]["keys"] = [key for key in keys if key["name"] != "a"]
        fleet.nodes[number].write(fleet.documents[number])
    told = fleet.until("status", good=lambda code, text: code == 0 and "main/a" not in text)
    assert told.endswith("all 2 nodes agree\n")
    for process in fleet.processes:
        assert process.client.decrypt(new, timeout=10) == b"after"
        assert "add the key as a member" in process.client.refusal(*_decrypt(old))[1]
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 10


def _decrypt(sealed: Sealed) -> tuple[str, bytes]:
    return f"{V2_SERVICE}/Decrypt", decrypt_request(sealed)
