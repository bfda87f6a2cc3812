"""The profile `cluster` of docker/compose.yaml as processes: an API server whose Secret is seen encrypted in etcd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from containers.services import Machine
from providers.vault.bao import binary

from .binaries import Binaries

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def machine(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """All services of the profile but the last, which is the test."""
    binary()
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: the cluster of compose; no openssl to make certificates with")
    machine = Machine(tmp_path_factory.mktemp("c"), binaries.directory)
    try:
        assert machine.run("prepare").returncode == 0
        machine.start("openbao")
        assert machine.run("init").returncode == 0
        machine.start("keystead")
        assert machine.run("demo").returncode == 0, machine.log("keystead").read_text()
        machine.start("etcd")
        machine.start("kube-apiserver")
        yield machine
    finally:
        machine.close()


def test_a_secret_is_encrypted_in_etcd_under_the_key_of_openbao(machine: Machine) -> None:
    outcome = machine.run("secret")
    assert outcome.returncode == 0, outcome.stderr + machine.log("kube-apiserver").read_text()[-3000:]
    assert "from which the password cannot be read:\n\nvalue from etcd, KMS v2\n" in outcome.stdout
    assert "wrapped under vault-transit transit/k8s version 1, " in outcome.stdout
    assert "\nDone: kube-apiserver reads the Secret back, decrypted" in outcome.stdout


def test_a_secret_that_is_not_encrypted_fails_the_step(machine: Machine) -> None:
    machine.stop("kube-apiserver")
    file = machine.local("kube-apiserver") / "compose/encryption.yaml"
    before, kms, after = file.read_text().partition("  - kms:")
    file.write_text(f"{before}  - identity: {{}}\n{kms}{after}")
    machine.start("kube-apiserver")
    outcome = machine.run("secret")
    assert outcome.returncode == 1, outcome.stdout
    assert "FAIL  what etcd has begins with b'k8s\\x00" in outcome.stderr
    assert "Done" not in outcome.stdout
