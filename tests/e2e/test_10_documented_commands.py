"""The pages of docs/operate are followed to the letter on two nodes: their files, their commands, their output.

After each block a Secret is written through one node and read through every node, so that an order of steps that would
break one of them fails here.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from providers.vault.bao import serving as serving_bao
from support.peers import VaultKubernetesKms
from support.peers import serving as serving_peer

from . import pages
from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, write_encryption_configuration
from .conftest import DIRECTORY, Count
from .kube import content_of, secret
from .pages import Command, Commands, File, Step
from .plugin import Plugin, command, configuration, endpoint, local_key
from .processes import free_port, until
from .stored import COLLECTION, Stored

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

SECRETS = 10
CONFIGURATION = "/etc/keystead/config.yaml"
ENCRYPTION = "/etc/kubernetes/encryption.yaml"
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
OPERATOR = Path(__file__).parent / "operator"
PKI = "/etc/kubernetes/pki"
ETCD_FLAGS = (
    f"--etcd https://127.0.0.1:2379 --cacert {PKI}/etcd/ca.crt --cert {PKI}/apiserver-etcd-client.crt "
    f"--key {PKI}/apiserver-etcd-client.key"
)
"""How the pages reach etcd."""
WITHIN = 200
"""Seconds for one block: the pages say that each loop ends within two minutes."""
FOLLOWED = {
    "enable.md": ("Steps",),
    "rotate.md": ("Rotate now", "Replace a key"),
    "migrate.md": ("Steps",),
    "v1-to-v2.md": ("Steps",),
    "health-endpoints.md": ("Steps",),
    "late-or-absent-plugin.md": ("Steps",),
    "take-over.md": ("Steps",),
    "leave.md": ("To another plugin", "Back to plaintext"),
    "verify.md": ("Steps",),
    "retire.md": ("Steps",),
    "back-up.md": ("Steps",),
    "restore.md": ("One object",),
    "containers.md": (),  # needs a container engine
    "outage.md": (),
    "doctor.md": (),
    "fleet.md": (),
}
"""The sections with commands of each page."""


@dataclass
class Node:
    """One control-plane node, whose file system is a directory."""

    directory: Path
    keys: Path
    binaries: Binaries
    etcd: Etcd
    make: Callable[[str, Path, list[str], bool], ApiServer]
    http: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    starts: int = 0
    more_places: dict[str, str | Path] = field(default_factory=dict)
    """Those that only one page names."""
    apiserver: ApiServer = field(init=False)

    def here(self, text: str) -> str:
        """Put this node's places in the place of those that the pages name."""
        places: dict[str, str | Path] = {
            ETCD_FLAGS: f"--etcd {self.etcd.url}",
            "/var/backups": self.directory / "backups",
            "/dev/shm": self.directory / "shm",
            "/etc/keystead/keys": self.keys,
            "/etc/keystead": self.directory / "keystead",
            "/etc/kubernetes": self.directory,
            "/run/keystead": self.directory / "run",
            "/run/other": self.directory / "other",
            "/var/lib/keystead": self.directory / "state",
            "/usr/local/bin": self.directory / "bin",
            "127.0.0.1:9853": self.http,
            # A shorter wait, but one: what the page says to do must wait for it.
            "soak: 15m": "soak: 20s",
        }
        places |= self.more_places
        return re.sub("|".join(map(re.escape, places)), lambda found: str(places[found[0]]), text)

    def write(self, file: File) -> None:
        """Write a file as it is printed. A manifest is taken up at once, as kubelet does."""
        if file.path == MANIFEST:
            self.start_apiserver(re.findall(r"^ *- (--\S+)$", self.here(file.text), re.MULTILINE))
            return
        path = Path(self.here(file.path))
        new = path.with_suffix(".new")
        new.write_text(self.here(file.text))
        new.chmod(0o755 if path.parent.name == "bin" else 0o600)
        new.replace(path)

    def start_apiserver(self, flags: list[str]) -> None:
        """Start an apiserver with just these flags about encryption in the place of the one that runs."""
        given = dict(flag.split("=", 1) for flag in flags)
        encryption = Path(given.pop("--encryption-provider-config"))
        reload = given.pop("--encryption-provider-config-automatic-reload", "false") == "true"
        gates = [given.pop("--feature-gates")] if "--feature-gates" in given else []
        assert not given, given
        if self.starts:
            self.apiserver.stop()
        self.starts += 1
        self.apiserver = self.make(f"{self.directory.name}-{self.starts}", encryption, gates, reload)
        self.apiserver.start(timeout=100)

    def run(self, commands: Commands) -> None:
        """Run the commands of a block in one shell, and compare what each prints."""
        mark = f"end of {secrets.token_hex(8)}"
        script, output = self.directory / "block.sh", self.directory / "block.out"
        parts = (f"{self.here(one.text)}\nprintf '\\n{mark} %s\\n' $?\n" for one in commands.commands)
        script.write_text("".join(parts))
        with output.open("wb") as out:
            shell = subprocess.Popen(
                ["bash", script],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.directory,
                start_new_session=True,
            )
            try:
                shell.wait(WITHIN)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
        seen = re.split(rf"{mark} (\d+)\n", output.read_text())
        results = list(zip(seen[::2], seen[1::2], strict=False))
        assert len(results) == len(commands.commands), f"did not end: {output.read_text()[-2000:]}"
        for one, (printed, code) in zip(commands.commands, results, strict=True):
            self._compare(one, printed, int(code))

    def _compare(self, one: Command, printed: str, code: int) -> None:
        print(f"$ {one.text}\n{printed}")
        assert (code != 0) == one.may_fail, f"$ {one.text}: exit code {code}: {printed[-2000:]}"
        expected = Command(one.text, self.here(one.output))
        assert expected.prints(printed), (
            f"$ {one.text}\nprinted\n{printed[-2000:]}\nand the page has\n{expected.output}"
        )

    def _environment(self) -> dict[str, str]:
        path = [self.directory / "bin", OPERATOR, self.binaries.directory, Path(sys.executable).parent]
        return {
            **os.environ,
            "PATH": ":".join([*map(str, path), os.environ["PATH"]]),
            "HOME": str(self.directory),
            "NODE": str(self.directory),
            "PLUGIN_COMMAND": " ".join(command()),
            "PLUGIN_LOG": f"{self.directory}-plugin.log",
            "ETCD": self.etcd.url,
            "KUBECONFIG": str(self.directory.parent / f"{self.directory.name}-{self.starts}.kubeconfig"),
        }

    def systemctl(self, verb: str) -> None:
        self.run(Commands((Command(f"systemctl {verb} keystead", ""),)))

    def stop(self) -> None:
        if self.starts:
            self.apiserver.kill()
        self.systemctl("stop")


@dataclass
class Lab:
    """A cluster of two nodes, new for each page."""

    directory: Path
    nodes: list[Node]
    etcd: Etcd
    stored: Stored
    cleanup: ExitStack
    commands: int = 0

    def prepare(self, page: str) -> None:
        """Bring the cluster to where the page begins: as after enabling, but for the files that it shows itself."""
        begin = {file.path: file for file in _files("enable.md")} | {
            file.path: file for file in _files(page, pages.BEGIN)
        }
        (self.directory / "keys/a.key").touch(mode=0o600)
        (self.directory / "keys/a.key").write_bytes(secrets.token_bytes(32))
        for node in self.nodes:
            for path in (CONFIGURATION, ENCRYPTION):
                node.write(begin[path])
            node.systemctl("start")
            socket = Path(node.here("/run/keystead/kms.sock"))
            until(socket.exists, 30, f"{socket} is there")
            node.write(begin[MANIFEST])
        self.create_secrets()

    def prepare_plaintext(self) -> None:
        """Bring the cluster to where the page about enabling begins."""
        encryption = self.directory / "plaintext.yaml"
        write_encryption_configuration(encryption, (["secrets"], [{"identity": {}}]))
        for node in self.nodes:
            node.start_apiserver([f"--encryption-provider-config={encryption}"])
        self.create_secrets()

    def create_secrets(self) -> None:
        # The script that other pages refer to.
        (script,) = _files("migrate.md", "Count what is in etcd")
        for node in self.nodes:
            node.write(script)
            self.stored.create(node.apiserver.kube, f"by-{node.directory.name}", SECRETS)

    def follow(self, page: str, section: str) -> None:
        steps = [step for step in pages.read(page) if step.section == section]
        assert steps, section
        for step in steps:
            self.take(step)

    def take(self, step: Step) -> None:
        for block in step.blocks:
            for node in self.nodes if step.everywhere else self.nodes[:1]:
                print(f"## {step.section}: {step.heading}: node {node.directory.name}")
                if isinstance(block, File):
                    node.write(block)
                else:
                    node.run(block)
                    self.commands += len(block.commands)
                self._every_node_reads_what_this_one_writes(node)

    def _every_node_reads_what_this_one_writes(self, writer: Node) -> None:
        (path,) = self.stored.create(writer.apiserver.kube, f"after-{len(self.stored.contents)}")
        for node in self.nodes:
            assert content_of(node.apiserver.kube.get(path)) == self.stored.contents[path]

    def is_all_under(self, prefix: bytes, count: Count) -> None:
        """Every Secret in etcd begins with this, and apiservers that start anew read them all."""
        values = self.etcd.reader.values("/registry/secrets/")
        assert {f"{COLLECTION}/{key.rsplit('/', 1)[1]}" for key in values} == self.stored.contents.keys()
        assert {value[: len(prefix)] for value in values.values()} == {prefix}
        for node in self.nodes:
            node.apiserver.restart()
            count(f"read through {node.directory.name}", self.stored.read_all(node.apiserver.kube))
        count("commands", self.commands)


@pytest.fixture
def lab(binaries: Binaries, directory: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    root = directory / str(len(list(directory.iterdir())))  # short, because sockets lie in it
    root.mkdir()
    module = request.node.getparent(pytest.Module)
    module.stash[DIRECTORY] = root  # where a failure finds the logs
    (root / "keys").mkdir(mode=0o700)
    etcd, credentials = Etcd(binaries, root), Credentials(root)

    def make(name: str, encryption: Path, gates: list[str], reload: bool) -> ApiServer:
        return ApiServer(binaries, root, etcd, credentials, encryption, name=name, feature_gates=gates, reload=reload)

    nodes = [Node(root / name, root / "keys", binaries, etcd, make) for name in ("a", "b")]
    for node in nodes:
        for part in ("keystead", "run", "bin", "manifests", "backups", "shm"):
            (node.directory / part).mkdir(parents=True, mode=0o700)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root / "etcd")
        stack.callback(etcd.stop)
        etcd.start()
        for node in nodes:
            stack.callback(node.stop)
        yield Lab(root, nodes, etcd, Stored(etcd.reader), stack)


def test_each_section_with_commands_is_followed() -> None:
    found = {path.name: pages.read(path.name) for path in pages.OPERATE.glob("*.md")}
    assert found.keys() == FOLLOWED.keys()
    for page, steps in found.items():
        sections = {step.section for step in steps if any(isinstance(block, Commands) for block in step.blocks)}
        assert sections == set(FOLLOWED[page]), page


def test_enable(lab: Lab, count: Count) -> None:
    lab.prepare_plaintext()
    lab.follow("enable.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_rotate(lab: Lab, count: Count) -> None:
    lab.prepare("rotate.md")
    lab.follow("rotate.md", "Rotate now")
    first = lab.stored.records()
    lab.follow("rotate.md", "Replace a key")
    (lab.directory / "keys/a.key").unlink()
    for node in lab.nodes:
        node.systemctl("stop")
        node.systemctl("start")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)
    count("local KEKs after the new epoch", first)


def test_migrate(lab: Lab, binaries: Binaries, count: Count) -> None:
    lab.prepare("migrate.md")
    lab.follow("migrate.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)
    ((_, migration),) = re.findall(
        r"```(yaml)\n(apiVersion: storagemigration.*?)```", (pages.OPERATE / "migrate.md").read_text(), re.DOTALL
    )
    if binaries.minor >= 37:
        kubectl = lab.nodes[0].apiserver.kubectl
        assert "secrets created" in kubectl("create", "--dry-run=server", "-f", "-", given=migration)


def test_v1_to_v2(lab: Lab, count: Count) -> None:
    lab.prepare("v1-to-v2.md")
    lab.follow("v1-to-v2.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead-v2:", count)


def test_health_endpoints(lab: Lab, count: Count) -> None:
    lab.prepare("health-endpoints.md")
    lab.follow("health-endpoints.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_late_or_absent_plugin(lab: Lab, count: Count) -> None:
    lab.prepare("late-or-absent-plugin.md")
    for node in lab.nodes:
        node.systemctl("stop")
    lab.follow("late-or-absent-plugin.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_leave_to_another_plugin(lab: Lab, count: Count) -> None:
    lab.prepare("leave.md")
    for node in lab.nodes:
        other = Plugin(node.directory, "other")
        served = endpoint("main", other.socket(), 1, {"other": "active"})
        other.configure(configuration(other, [local_key(lab.directory, "other")], [served]))
        lab.cleanup.callback(other.stop)
        other.start(other.socket())
    lab.follow("leave.md", "To another plugin")
    lab.is_all_under(b"k8s:enc:kms:v2:other:", count)


def test_leave_back_to_plaintext(lab: Lab, count: Count) -> None:
    lab.prepare("leave.md")
    lab.follow("leave.md", "Back to plaintext")
    lab.is_all_under(b"k8s\0", count)


def test_take_over_from_another_plugin(lab: Lab, count: Count) -> None:
    """The other plugin is PEER-LIKE (tests/support/peers.py), in front of a real OpenBao."""
    bao = lab.cleanup.enter_context(serving_bao(lab.directory))
    bao.initialise()
    bao.unseal()
    peer, others = VaultKubernetesKms(bao, bao.key("k8s")), ExitStack()
    lab.cleanup.callback(others.close)
    begin = {file.path: file for file in [*_files("enable.md"), *_files("take-over.md", pages.BEGIN)]}
    for node in lab.nodes:
        node.more_places = {"/run/vault-kms": node.directory / "old", "https://bao.example:8200": bao.address}
        (node.directory / "old").mkdir()
        others.enter_context(serving_peer(peer, node.directory / "old/kms.sock"))
        (node.directory / "keystead/token").write_text(bao.make_token("k8s"))
        node.write(begin[ENCRYPTION])
        node.write(begin[MANIFEST])
    lab.create_secrets()
    for step in pages.read("take-over.md"):
        if step.section == "Steps":
            if step.heading.startswith("4. Stop the other plugin"):
                others.close()
            lab.take(step)
    assert peer.encrypt(b"x")  # the key itself goes on
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_verify(lab: Lab, count: Count) -> None:
    lab.prepare("verify.md")
    lab.follow("verify.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_retire(lab: Lab, count: Count) -> None:
    (lab.directory / "keys/b.key").touch(mode=0o600)
    (lab.directory / "keys/b.key").write_bytes(secrets.token_bytes(32))
    lab.prepare("retire.md")
    for node in lab.nodes:
        node.write(next(file for file in _files("retire.md") if file.path == "/etc/keystead/etcd"))
    lab.follow("retire.md", "Steps")
    (lab.directory / "keys/a.key").unlink()
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_back_up(lab: Lab, count: Count) -> None:
    lab.prepare("back-up.md")
    lab.follow("back-up.md", "Steps")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)


def test_restore_one_object(lab: Lab, count: Count) -> None:
    lab.prepare("restore.md")
    node = lab.nodes[0]
    path = f"{COLLECTION}/api-password"
    lab.stored.contents[path] = {"password": "yes"}
    node.apiserver.kube.create(COLLECTION, secret("api-password", lab.stored.contents[path]))
    node.run(Commands((Command("etcdctl snapshot save /var/backups/etcd.db", ""),)))
    node.apiserver.kube.call("DELETE", path)
    lab.follow("restore.md", "One object")
    lab.is_all_under(b"k8s:enc:kms:v2:keystead:", count)
    assert not (node.directory / "shm/recovery").exists()


def _files(page: str, section: str = "") -> list[File]:
    """Return the files of a page, in its order, or of one of its sections."""
    steps = [step for step in pages.read(page) if section in ("", step.section)]
    return [block for step in steps for block in step.blocks if isinstance(block, File)]
