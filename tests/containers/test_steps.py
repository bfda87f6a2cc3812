"""The steps of docker/compose.yaml, run as processes on a real OpenBao: what `docker compose up` does, without Docker.

The tests run in the order of the file and share the servers, as one who tries the page containers.md does.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers.services import Machine, mounts
from providers.vault.bao import binary

pytestmark = pytest.mark.timeout(240)

ROTATED_WITHIN = 60.0
"""Seconds; with the intervals of docker/compose/keystead.yaml it takes about twenty."""


@dataclass
class Stack:
    """One profile of the file: a server, what makes it ready, the plugin, and what calls its socket."""

    machine: Machine
    server: str
    init: str
    keystead: str
    demo: str
    client: str

    def start_server(self) -> None:
        """Start the server, and run init, which makes it ready or unseals it."""
        self.machine.start(self.server)
        self.operator()

    def operator(self, *command: str) -> str:
        """What `docker compose run --rm init COMMAND` prints."""
        outcome = self.machine.run(self.init, *command)
        assert outcome.returncode == 0, outcome.stderr + self.machine.log(self.server).read_text()[-2000:]
        return outcome.stdout

    def restart_keystead(self) -> None:
        assert self.machine.stop(self.keystead) == 0
        self.machine.start(self.keystead)

    def call(self) -> str:
        """What the demo prints when it succeeds."""
        outcome = self.machine.run(self.demo)
        assert outcome.returncode == 0, outcome.stdout + self.machine.log(self.keystead).read_text()
        return outcome.stdout

    def refused(self) -> str:
        """What the demo prints when it fails."""
        outcome = self.machine.run(self.demo, PATIENCE="5")
        assert outcome.returncode == 1, outcome.stdout
        assert "Done" not in outcome.stdout
        return outcome.stdout


OPENBAO = ("openbao", "init", "keystead", "demo", "bao")
VAULT = ("vault", "vault-init", "vault-keystead", "vault-demo", "vault")


@pytest.fixture(scope="module", params=[OPENBAO, VAULT], ids=["openbao", "vault"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    binary()
    if request.param == VAULT and shutil.which("vault") is None:
        pytest.skip("NOT TESTED: the profile vault of compose; no vault on the PATH")
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: the steps of compose; no openssl to make certificates with")
    machine = Machine(tmp_path_factory.mktemp("c"))
    stack = Stack(machine, *request.param)
    try:
        assert machine.run("prepare").returncode == 0
        stack.start_server()
        machine.start(stack.keystead)
        yield stack
    finally:
        machine.close()


def test_the_demo_wraps_unwraps_and_explains(stack: Stack) -> None:
    shown = stack.call()
    assert shown.count("\nok ") == 8
    assert shown.count("wrapped under vault-transit transit/k8s version 1, ") == 2
    assert shown.count("cluster       compose") == 2
    assert "\nDone: a seed was wrapped and unwrapped through unix://" in shown
    assert "FAIL" not in shown


def test_secrets_are_in_files_for_one_user_and_nowhere_else(stack: Stack) -> None:
    volumes = stack.machine.directory / "volumes"
    assert {stat.S_IMODE(volume.stat().st_mode) for volume in volumes.iterdir()} == {0o700}
    operator, approle = (mounts(stack.machine.services[stack.init])[path] for path in ("/operator", "/approle"))
    files = [file for name in (operator, approle, "tls", "cluster") for file in (volumes / name).iterdir()]
    assert {"role-id", "secret-id", "keys", "server.key", "tokens.csv"} <= {file.name for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    # Words that are long enough not to turn up by chance. The certificate is public, and so is what init said last.
    secret = {
        word for file in files if file.suffix != ".crt" and file.name != "last" for word in file.read_bytes().split()
    }
    secret = {word for word in secret if len(word) >= 26}
    assert len(secret) >= 8
    logs = list(stack.machine.directory.glob("*.log"))
    assert len(logs) == 2
    for log in logs:
        text = log.read_bytes()
        assert len(text) > 100
        assert not [word for word in secret if word in text], log


def test_the_plugin_may_use_its_key_and_nothing_else(stack: Stack) -> None:
    approle = stack.machine.volume(mounts(stack.machine.services[stack.init])["/approle"])
    files = (f"role_id=@{approle}/role-id", f"secret_id=@{approle}/secret-id")
    token = stack.operator(stack.client, "write", "-field=token", "auth/approle/login", *files)

    paths = ["transit/encrypt/k8s", "transit/decrypt/k8s", "transit/keys/k8s", "transit/keys/k8s/rotate"]
    paths += ["transit/encrypt/other", "transit/keys/other", "sys/policies/acl/keystead"]
    ask = f"for path in {' '.join(paths)}; do VAULT_TOKEN={token} {stack.client} token capabilities $path; done"
    answers = stack.operator("sh", "-c", ask).split()
    assert answers == ["update", "update", "read", "deny", "deny", "deny", "deny"]


def test_prepare_and_init_may_run_again_and_change_nothing(stack: Stack) -> None:
    def contents() -> dict[Path, bytes]:
        volumes = stack.machine.directory / "volumes"
        files = [file for file in volumes.rglob("*") if file.is_file() and not {"data", "last"} & {*file.parts}]
        return {file: file.read_bytes() for file in files if "-data" not in str(file)}

    before = contents()
    assert len(before) >= 9
    assert stack.machine.run("prepare").returncode == 0
    stack.operator()
    assert contents() == before


def test_files_that_other_users_cannot_read_are_noticed_first(stack: Stack) -> None:
    file = stack.machine.local("prepare") / "compose/keystead.yaml"
    file.chmod(0o600)
    outcome = stack.machine.run("prepare", OWNER="65532:65532")
    assert outcome.returncode == 1
    assert f"{file} is not readable for user 65532: chmod -R o+rX docker examples" in outcome.stderr
    file.chmod(0o644)


def test_keys_of_the_operator_that_are_lost_are_said_to_be_so(stack: Stack) -> None:
    keys = stack.machine.volume(mounts(stack.machine.services[stack.init])["/operator"]) / "keys"
    keys.rename(keys.with_suffix(".kept"))
    outcome = stack.machine.run(stack.init)
    keys.with_suffix(".kept").rename(keys)
    assert outcome.returncode == 1
    assert "is initialised, but its keys are not in" in outcome.stderr


def test_a_rotation_shows_within_some_seconds(stack: Stack) -> None:
    stack.operator(stack.client, "write", "-f", "transit/keys/k8s/rotate")
    ends = time.monotonic() + ROTATED_WITHIN
    while "transit/k8s version 2, " not in (shown := stack.call()):
        assert time.monotonic() < ends, shown
        time.sleep(0.5)


def test_without_the_server_it_goes_on_and_init_unseals_one_that_was_restarted(stack: Stack) -> None:
    stack.machine.stop(stack.server)
    stack.call()
    stack.restart_keystead()
    assert "healthz" in stack.refused()
    stack.start_server()
    assert "transit/k8s version 2, " in stack.call()


def test_without_its_policy_a_plugin_that_starts_says_so_and_the_demo_fails(stack: Stack) -> None:
    stack.operator(stack.client, "policy", "delete", "keystead")
    stack.restart_keystead()
    shown = stack.refused()
    assert "permission denied" in shown
    stack.operator()
    stack.call()
