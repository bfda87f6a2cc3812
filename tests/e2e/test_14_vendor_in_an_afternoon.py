"""A vendor's provider, from nothing to the Secrets of a real apiserver: examples/vendor.sh, then its environment.

The vendor's KMS is the conformance kit's FAKE, which the generated package speaks to until another SDK takes its place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .etcd import readable_in
from .plugin import Plugin, configuration, endpoint
from .processes import Child, free_port, until
from .remotes import schemes
from .stored import Stored

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
EACH = 20
MATURIN = Path(sys.executable).with_name("maturin")


@dataclass(frozen=True)
class Made:
    """What the script has made, and what it said."""

    author: Path
    node: Path
    report: Path
    said: str
    seconds: float


@dataclass(frozen=True)
class Lab:
    """A control-plane node on which the vendor's provider serves."""

    etcd: Etcd
    plugin: Plugin
    socket: str
    apiserver: ApiServer
    stored: Stored


@pytest.fixture(scope="module")
def made(directory: Path) -> Made:
    """Build this tree's wheel, and run the script with it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: str | Path) -> str:
        words = [str(word) for word in command]
        ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
        return ran.stdout

    run(MATURIN, "build", "--release", "--locked", "--out", directory / "wheel")
    (wheel,) = (directory / "wheel").glob("*.whl")
    start, place = time.monotonic(), directory / "acme"
    said = run("examples/vendor.sh", place, wheel)
    return Made(place / "author", place / "node", place / "report.json", said, time.monotonic() - start)


@pytest.fixture(scope="module")
def lab(made: Made, binaries: Binaries, directory: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        port, token = free_port(), directory / "token"
        arguments = ["--port", str(port), "--token-file", str(token), "--state", str(directory / "acme.keys")]
        program: list[str | Path] = [made.author / "bin/python", "-m", "keystead.testing.fake_kms", *arguments]
        service = Child("acme", program, directory / "acme.log")
        stack.callback(service.kill)
        service.start()
        until(lambda: token.exists() and token.read_text(), 30, "the service has written its token", service)
        plugin, etcd = Plugin(directory, program=[str(made.node / "bin/keystead")]), Etcd(binaries, directory)
        socket, encryption = plugin.socket(), directory / "encryption.yaml"
        key = {"name": "acme", "provider": "acme", "address": f"http://127.0.0.1:{port}", "key": "k1"}
        members = {"acme": "active"}
        plugin.configure(
            configuration(plugin, [key | {"tokenFile": str(token)}], [endpoint("main", socket, 1, members)])
        )
        write_encryption_configuration(encryption, (["secrets"], [kms("keystead", socket)]))
        apiserver = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start(socket)
        stack.callback(apiserver.kill)
        apiserver.start()
        yield Lab(etcd, plugin, socket, apiserver, Stored(etcd.reader))


def test_one_script_makes_tests_and_installs_a_provider(made: Made, count: Count) -> None:
    print(made.said)
    (told,) = json.loads(made.report.read_text())
    assert (told["provider"], told["tier"], told["claimed"]) == ("acme", "Silver", "Silver")
    passed = [one for one in told["rules"] if one["verdict"] == "passed"]
    assert len(passed) > 60
    count("seconds", round(made.seconds))
    count("rules passed", len(passed))
    assert made.said.splitlines()[-1].endswith("done")


def test_the_node_has_the_provider_and_no_tool_of_its_author(made: Made) -> None:
    listed = subprocess.run([made.node / "bin/pip", "list"], capture_output=True, text=True, check=True).stdout.split()
    assert {"keystead", "keystead-acme", "acme-sdk"} <= set(listed)
    assert not {"pytest", "hatchling", "cryptography"} & set(listed)


def test_a_real_apiserver_keeps_its_secrets_under_the_vendors_key(lab: Lab, count: Count) -> None:
    lab.stored.create(lab.apiserver.kube, "acme", EACH)
    assert schemes(lab.etcd.reader, "/registry/secrets/") == {frozenset({"acme"})}
    values = lab.etcd.reader.values().values()
    assert sum(readable_in(values, content["password"]) for content in lab.stored.contents.values()) == 0
    count("Secrets", len(lab.stored.contents))


def test_a_restart_of_everything_reads_them_again(lab: Lab, count: Count) -> None:
    lab.apiserver.kill()
    lab.plugin.stop()
    lab.plugin.start(lab.socket)
    lab.apiserver.start()
    count("Secrets read", lab.stored.read_all(lab.apiserver.kube))
    assert lab.apiserver.failed_transformations() == 0
