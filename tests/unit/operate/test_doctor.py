"""`keystead doctor` finds each fault that is planted in a healthy node by the fault's own id, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from keystead import registry
from keystead._core import ROLE_ONLINE, Kek, StateFile, Wrap
from keystead.cli import main
from keystead.cli.doctor import helpers, lines
from keystead.config import advice
from keystead.operate.doctor import remote
from keystead.operate.doctor.book import CHECKS, found
from keystead.operate.doctor.machine import Machine, clock_is_kept
from keystead.operate.doctor.rounds import Helpers, Node, Result, once, until_well
from keystead.provider import Provider, WrapContext
from keystead.testing.certificates import Certificates
from keystead.testing.fake_kms import FakeKms, Refusal
from keystead.testing.fake_provider import FakeKmsConfig, FakeKmsProvider

CLUSTER = "prod"
NOW = 1_790_000_000


class Kms(FakeKms):
    """A fake KMS whose operations fail one by one, and take their time."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str | None, Refusal] = {}
        self.pause = 0.0
        self.cautions: list[str] = []
        self.expiry: float | None = None

    def answer(self, name: str, operation: str | None, token: str, body: dict[str, Any]) -> dict[str, Any]:
        if operation in self.failing:
            raise self.failing[operation]
        if operation == "decrypt":
            time.sleep(self.pause)
        return super().answer(name, operation, token, body)


@dataclass
class Site:
    """A node's files, as Python values until `settle` writes them."""

    directory: Path
    kms: Kms
    config: dict[str, Any]
    encryption: dict[str, Any]
    apiserver: dict[str, Any]
    plugin: dict[str, Any]
    machine: Machine
    form: Any = "static-pod"
    unit: str | None = None
    after: list[Callable[[], object]] = field(default_factory=list)
    """What is to be done once the files are there."""

    @property
    def key(self) -> dict[str, Any]:
        one: dict[str, Any] = self.config["keys"][0]
        return one

    @property
    def kms_entry(self) -> dict[str, Any]:
        one: dict[str, Any] = self.encryption["resources"][0]["providers"][0]["kms"]
        return one

    @property
    def container(self) -> dict[str, Any]:
        one: dict[str, Any] = self.plugin["spec"]["containers"][0]
        return one

    @property
    def server(self) -> dict[str, Any]:
        one: dict[str, Any] = self.apiserver["spec"]["containers"][0]
        return one

    @property
    def token(self) -> Path:
        return self.directory / "etc/token"

    def file(self, name: str) -> Path:
        return self.directory / "etc" / name

    def settle(self) -> Node:
        for name in ("config", "encryption", "apiserver", "plugin"):
            path = self.file(f"{name}.yaml")
            with path.open("w") as file:
                YAML().dump(getattr(self, name), file)
            path.chmod(0o600)
        if self.unit is not None:
            self.file("keystead.service").write_text(self.unit)
        for act in self.after:
            act()
        return Node(
            config_file=self.file("config.yaml"),
            form=self.form,
            manifest=self.file("keystead.service" if self.unit is not None else "plugin.yaml"),
            encryption=self.file("encryption.yaml"),
            apiserver=self.file("apiserver.yaml"),
            machine=self.machine,
        )

    def store(self, **changes: Any) -> None:
        """Put a record into the state directory, as the plugin would have."""
        kek = Kek.generate()
        cluster, created = changes.get("cluster", CLUSTER), changes.get("created", NOW)
        context = WrapContext(kek.kek_id, cluster)
        provider = FakeKmsProvider(FakeKmsConfig(**{**self.key, "url": self.kms.url}))
        deadline = time.monotonic() + 10
        ref = provider.open(deadline)
        wrapped = provider.wrap(kek.reveal(), context, None, deadline)
        record = kek.encode_record(
            created, cluster, [Wrap("fake-kms", ref, wrapped.version, ROLE_ONLINE, wrapped.blob)]
        )
        path = self.directory / "state/main"
        path.mkdir(exist_ok=True, mode=0o700)
        (path / "current").write_bytes(StateFile(record.key_id(1), record).encoded)


def volume(name: str, path: Path | str, kind: str = "DirectoryOrCreate") -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": str(path), "type": kind}}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(advice, "SHARED", ())  # below /tmp, where sockets should not be
    monkeypatch.setattr(remote, "SLOW", 60.0)
    directory = Path(tempfile.mkdtemp(prefix="doctor-"))  # short, since sockets lie in it
    for name in ("etc", "run", "state"):
        (directory / name).mkdir(mode=0o700)
    kms = Kms()
    with kms.serve():
        token = directory / "etc/token"
        token.touch(mode=0o600)
        token.write_text(kms.token)
        (directory / "resolv.conf").write_text("search example.com\nnameserver 192.0.2.53\n")
        (directory / "mounts").write_text("/dev/vda1 / ext4 rw 0 0\n")
        socket_path = f"unix://{directory}/run/kms.sock"
        mounts = [{"name": name, "mountPath": str(directory / name)} for name in ("etc", "run", "state")]
        volumes = [volume(name, directory / name) for name in ("etc", "run", "state")]
        yield Site(
            directory,
            kms,
            config={
                "apiVersion": "config.keystead.dev/v1alpha1",
                "kind": "KeysteadConfiguration",
                "cluster": CLUSTER,
                "stateDir": str(directory / "state"),
                "keys": [{"name": "a", "provider": "fake-kms", "url": kms.url, "tokenFile": str(token)}],
                "endpoints": [
                    {
                        "name": "main",
                        "socket": socket_path,
                        "epoch": 1,
                        "members": [{"key": "a", "stage": "active"}],
                    }
                ],
            },
            encryption={
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "EncryptionConfiguration",
                "resources": [
                    {
                        "resources": ["secrets"],
                        "providers": [
                            {"kms": {"apiVersion": "v2", "name": "ks", "endpoint": socket_path, "timeout": "3s"}}
                        ],
                    }
                ],
            },
            apiserver={
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "kube-apiserver"},
                "spec": {
                    "containers": [
                        {
                            "name": "kube-apiserver",
                            "image": "registry.k8s.io/kube-apiserver:v1.37.2",
                            "command": [
                                "kube-apiserver",
                                f"--encryption-provider-config={directory}/etc/encryption.yaml",
                                "--encryption-provider-config-automatic-reload=true",
                                "--feature-gates=AllowUnsafeMalformedObjectDeletion=false",
                                "--service-cluster-ip-range=10.96.0.0/12",
                            ],
                            "startupProbe": {"failureThreshold": 24, "periodSeconds": 10},
                            "volumeMounts": [dict(one) for one in mounts[:2]],
                        }
                    ],
                    "volumes": volumes[:2],
                },
            },
            plugin={
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "keystead"},
                "spec": {
                    "hostNetwork": True,
                    "dnsPolicy": "Default",
                    "priorityClassName": "system-node-critical",
                    "containers": [
                        {
                            "name": "keystead",
                            "image": "registry.example/keystead:0.1.0",
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["serve"],
                            "livenessProbe": {"httpGet": {"path": "/livez", "port": 9853}},
                            "volumeMounts": mounts,
                        }
                    ],
                    "volumes": volumes,
                },
            },
            machine=Machine(
                resolv_conf=directory / "resolv.conf",
                mounts=directory / "mounts",
                clock_is_kept=lambda: True,
                can_bind=lambda _host, _port: None,
                now=lambda: float(NOW),
            ),
        )
    shutil.rmtree(directory)


class Doctored(FakeKmsProvider):
    """The fake provider, with what its KMS says of the key."""

    kms: Kms

    def cautions(self, deadline: float) -> list[str]:
        return self.kms.cautions

    @property
    def credential_expiry(self) -> float | None:
        return self.kms.expiry


def look(site: Site) -> Result:
    def provider_class(name: str) -> type[Provider[Any]]:
        return type("Doctored", (Doctored,), {"kms": site.kms}) if name == "fake-kms" else registry.provider_class(name)

    return once(site.settle(), replace(helpers(), provider_class=provider_class))


def test_nothing_is_found_on_a_healthy_node(site: Site) -> None:
    site.store()
    result = look(site)
    assert result.findings == ()
    assert len(result.passed) > 40


# Faults, each with the number of its check.

Plant = Callable[[Site], object]


def _listen(path: Path) -> None:
    """Leave something that accepts connections and says nothing that is gRPC."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    _kept.append(server)


_kept: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_what_listens() -> Iterator[None]:
    yield
    while _kept:
        _kept.pop().close()


def _tls(site: Site) -> None:
    certificates = Certificates(site.directory)
    context = certificates.server("untrusted")
    listener = socket.create_server(("127.0.0.1", 0))
    _kept.append(listener)

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True):
                    pass
            except OSError:
                plain.close()

    threading.Thread(target=serve, daemon=True).start()
    site.key.update(url=f"https://127.0.0.1:{listener.getsockname()[1]}", caFile=str(certificates.ca_file))
    site.container["volumeMounts"].append({"name": "all", "mountPath": str(site.directory)})
    site.plugin["spec"]["volumes"].append(volume("all", site.directory))


def _refuse(operation: str | None, status: int, code: str) -> Plant:
    return lambda site: site.kms.failing.update({operation: Refusal(status, code, f"{code}, says the KMS")})


def _unit(remove: str = "", add: str = "") -> Plant:
    text = (
        "[Unit]\nBefore=kubelet.service\n[Service]\nExecStart=/usr/bin/keystead serve\nRestart=always\n"
        "RestartPreventExitStatus=78\nOOMScoreAdjust=-999\n"
    )

    def plant(site: Site) -> None:
        site.form, site.unit = "systemd", text.replace(remove, "") + add

    return plant


def _entry(**changes: Any) -> Plant:
    return lambda site: site.kms_entry.update(changes)


def _flag(old: str, new: str = "") -> Plant:
    def plant(site: Site) -> None:
        command = site.server["command"]
        site.server["command"] = [word.replace(old, new) for word in command if new or old not in word]

    return plant


def _set(part: str, name: str, value: Any) -> Plant:
    return lambda site: getattr(site, part).update({name: value})


def _after(act: Callable[[Site], object]) -> Plant:
    return lambda site: site.after.append(lambda: act(site))


def _machine(**changes: Any) -> Plant:
    def plant(site: Site) -> None:
        site.machine = replace(site.machine, **changes)

    return plant


def _a_directory_for_the_token(site: Site) -> None:
    site.token.unlink()
    site.token.mkdir()


def _mounted_file(site: Site) -> None:
    path = site.file("encryption.yaml")
    site.server["volumeMounts"].append({"name": "one-file", "mountPath": str(path)})
    site.apiserver["spec"]["volumes"].append(volume("one-file", path, "File"))


def _a_file_for_the_state(site: Site) -> None:
    (site.directory / "state").rmdir()
    (site.directory / "state").touch()


def _damage(site: Site) -> None:
    site.store()
    (site.directory / "state/main/current").write_bytes(b"?")


FAULTS: dict[str, tuple[int, Plant]] = {
    "a field that does not exist": (1, _set("config", "colour", "red")),
    "a key that nothing uses": (2, lambda s: s.config["keys"].append({**s.key, "name": "spare"})),
    "a configuration that all may write": (3, _after(lambda s: s.file("config.yaml").chmod(0o666))),
    "somebody else's configuration": (3, _after(lambda s: os.chown(s.file("config.yaml"), 65532, 65532))),
    "a token that is not there": (4, _after(lambda s: s.token.unlink())),
    "a token that all may read": (5, _after(lambda s: s.token.chmod(0o644))),
    "a directory where all may write": (6, _after(lambda s: (s.directory / "etc").chmod(0o777))),
    "a state directory that is a file": (7, _after(_a_file_for_the_state)),
    "a state directory where all may write": (7, _after(lambda s: (s.directory / "state").chmod(0o777))),
    "a state directory in memory": (
        8,
        lambda s: (s.directory / "mounts").write_text(f"tmpfs {s.directory}/state tmpfs rw 0 0\n"),
    ),
    "the record of another cluster": (9, _after(lambda s: s.store(cluster="staging"))),
    "a damaged record": (9, _after(_damage)),
    "a clock that nobody keeps": (10, _machine(clock_is_kept=lambda: False)),
    "a record from the future": (11, _after(lambda s: s.store(created=NOW + 7200))),
    "no directory for the socket": (20, _after(lambda s: (s.directory / "run").rmdir())),
    "a socket's directory where all may write": (20, _after(lambda s: (s.directory / "run").chmod(0o777))),
    "a file where the socket should be": (21, _after(lambda s: (s.directory / "run/kms.sock").touch())),
    "a port that is taken": (22, _machine(can_bind=lambda _host, _port: "Address already in use")),
    "another program on the socket": (23, _after(lambda s: _listen(s.directory / "run/kms.sock"))),
    "a remote that is not there": (30, lambda s: s.key.update(url="http://127.0.0.1:9")),
    "a name that does not resolve": (30, lambda s: s.key.update(url="http://kms.invalid:8470")),
    "a certificate of somebody else": (31, _tls),
    "a token that is refused": (32, _after(lambda s: s.token.write_text("wrong"))),
    "a key that does not exist": (33, lambda s: s.key.update(key="k2")),
    "a key that is disabled": (34, lambda s: setattr(s.kms.keys["k1"], "enabled", False)),
    "no right to encrypt": (35, _refuse("encrypt", 403, "denied")),
    "no right to decrypt": (36, _refuse("decrypt", 403, "denied")),
    "wrong bytes": (37, lambda s: setattr(s.kms, "short_answers", True)),
    "a token that is a directory": (42, _after(_a_directory_for_the_token)),
    "credentials that end soon": (38, lambda s: setattr(s.kms, "expiry", NOW + 3600.0)),
    "credentials that have ended": (38, lambda s: setattr(s.kms, "expiry", NOW - 1.0)),
    "a key that one command deletes": (39, lambda s: s.kms.cautions.append("deletion_allowed")),
    "a slow remote": (40, lambda s: setattr(s.kms, "pause", 0.3)),
    "a quota that is used up": (41, _refuse("encrypt", 429, "throttled")),
    "a token of the cluster": (
        51,
        lambda s: s.key.update(tokenFile="/var/run/secrets/kubernetes.io/serviceaccount/token"),
    ),
    "the cluster's DNS": (52, lambda s: (s.directory / "resolv.conf").write_text("nameserver 10.96.0.10\n")),
    "an unknown field for kube-apiserver": (60, _entry(colour="red")),
    "no YAML for kube-apiserver": (60, _after(lambda s: s.file("encryption.yaml").write_text("{"))),
    "two slashes": (61, _entry(endpoint="unix://run/kms.sock")),
    "a socket that nobody serves": (61, _entry(endpoint="unix:///run/other/kms.sock")),
    "a name with a colon": (62, _entry(name="a:b")),
    "a timeout of a second": (63, _entry(timeout="1s")),
    "identity first": (64, lambda s: s.encryption["resources"][0]["providers"].insert(0, {"identity": {}})),
    "identity left": (65, lambda s: s.encryption["resources"][0]["providers"].append({"identity": {}})),
    "all resources": (66, lambda s: s.encryption["resources"][0].update(resources=["*.*"])),
    "KMS v1": (67, lambda s: s.kms_entry.pop("apiVersion")),
    "an EncryptionConfiguration that all may read": (68, _after(lambda s: s.file("encryption.yaml").chmod(0o644))),
    "the socket itself mounted": (
        70,
        lambda s: s.server["volumeMounts"][1].update(mountPath=f"{s.directory}/run/kms.sock"),
    ),
    "no socket mounted": (70, lambda s: s.server["volumeMounts"].pop()),
    "no EncryptionConfiguration in use": (71, _flag("--encryption-provider-config=")),
    "another EncryptionConfiguration in use": (71, _flag("encryption.yaml", "other.yaml")),
    "the EncryptionConfiguration mounted as a file": (77, _mounted_file),
    "no automatic reload": (72, _flag("automatic-reload")),
    "v1 without its gate": (73, lambda s: s.config["endpoints"][0].update(kmsVersions=["v2", "v1beta1"])),
    "v2 for 1.28": (74, lambda s: s.server.update(image="kube-apiserver:v1.28.9")),
    "unsafe deletion": (75, _flag("--feature-gates")),
    "an impatient startup probe": (76, _set("server", "startupProbe", {"failureThreshold": 3, "periodSeconds": 10})),
    "no manifest": (80, _after(lambda s: s.file("plugin.yaml").unlink())),
    "a Secret of the cluster": (
        81,
        lambda s: s.plugin["spec"]["volumes"].append({"name": "s", "secret": {"secretName": "s"}}),
    ),
    "a variable from a ConfigMap": (81, _set("container", "envFrom", [{"configMapRef": {"name": "c"}}])),
    "a pod network": (82, lambda s: s.plugin["spec"].update(hostNetwork=False)),
    "no priority": (83, lambda s: s.plugin["spec"].pop("priorityClassName")),
    "a configuration that is not mounted": (84, lambda s: s.container["volumeMounts"].pop(0)),
    "a socket in an emptyDir": (
        84,
        lambda s: s.plugin["spec"]["volumes"].__setitem__(1, {"name": "run", "emptyDir": {}}),
    ),
    "a liveness probe of the remote": (
        85,
        _set("container", "livenessProbe", {"httpGet": {"path": "/readyz", "port": 9853}}),
    ),
    "a unit after kubelet": (86, _unit("Before=kubelet.service\n")),
    "a unit that is not restarted": (86, _unit("Restart=always\n")),
    "a runtime directory that goes with the plugin": (90, _unit(add="RuntimeDirectory=keystead\n")),
    "a user that may not read the token": (87, _unit(add="User=65534\n")),
    "a pod's user that may not read the token": (87, _set("container", "securityContext", {"runAsUser": 65532})),
    "an image that is pulled each time": (88, _set("container", "imagePullPolicy", "Always")),
    "a DaemonSet": (89, lambda s: setattr(s, "form", "daemonset")),
}
BESIDES: dict[str, set[int]] = {
    # A fault of one thing may be one of another too.
    "a token that is not there": {32},
    "a token of the cluster": {4, 32, 84},
    "a token that is a directory": {4},
    "v1 without its gate": {2},
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_by_its_own_id(name: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine with other work is slow by itself.
    monkeypatch.setattr(remote, "SLOW", 0.2 if name == "a slow remote" else 60.0)
    monkeypatch.setattr(remote, "CALL_SECONDS", 5.0)
    number, plant = FAULTS[name]
    plant(site)
    result = look(site)
    certain = {one.check.id for one in result.findings if one.level != "unknown"}
    assert certain - {f"KS-D{other:03}" for other in BESIDES.get(name, ())} == {f"KS-D{number:03}"}, result.findings
    assert f"KS-D{number:03}" in {check.id for check in result.looked_at}
    said = "\n".join(lines(result.findings))
    assert site.kms.token not in said


def test_a_remote_inside_the_cluster_is_found_whether_it_answers_or_not(site: Site) -> None:
    site.kms.fault = None
    site.key["url"] = "http://vault.vault.svc:8200"
    assert {"KS-D050"} < {one.check.id for one in look(site).findings}


def test_a_plugin_that_runs_and_reports_something_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from keystead.operate.doctor import listening

    monkeypatch.setattr(listening, "problems", lambda _status: iter(["endpoint main is not healthy: starting"]))
    monkeypatch.setattr(listening, "ask", lambda _path: {})
    site.after.append(lambda: _listen(site.directory / "run/admin.sock"))
    assert {one.check.id for one in look(site).findings} == {"KS-D024"}


def test_every_check_is_planted_once_at_least() -> None:
    planted = {f"KS-D{number:03}" for number, _ in FAULTS.values()} | {"KS-D024", "KS-D050"}
    assert planted == CHECKS.keys()
    assert len(planted) >= 25


def test_a_decrypt_right_is_tried_on_what_is_stored(site: Site) -> None:
    site.store()
    site.config["endpoints"][0]["members"] = [{"key": "b", "stage": "active"}, {"key": "a", "stage": "decrypt"}]
    site.config["keys"].append({**site.key, "name": "b", "key": "other"})
    assert look(site).findings == ()
    site.kms.keys["k1"].disabled.add(1)
    (finding,) = look(site).findings
    assert (finding.check.id, finding.subject) == ("KS-D034", "key a, the stored record under version 1")


def test_what_cannot_be_tried_is_unknown_and_not_well(site: Site) -> None:
    site.kms.failing[None] = Refusal(503, "unavailable", "sealed")
    levels = {(one.check.id, one.level) for one in look(site).findings}
    assert levels == {("KS-D030", "fail"), ("KS-D035", "unknown"), ("KS-D036", "unknown")}


def test_a_key_that_decrypts_only_and_has_nothing_stored_is_unknown(site: Site) -> None:
    site.config["keys"].append({**site.key, "name": "b", "key": "other"})
    site.config["endpoints"][0]["members"].append({"key": "b", "stage": "decrypt"})
    (finding,) = look(site).findings
    assert (finding.check.id, finding.level, finding.subject) == ("KS-D036", "unknown", "key b")


def test_waiting_ends_when_all_is_well_or_the_time_is_over(site: Site) -> None:
    site.kms.failing[None] = Refusal(503, "unavailable", "sealed")
    now = [0.0]
    rounds: list[float] = []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        now[0] += seconds
        if len(rounds) == 2:
            site.kms.failing.clear()

    given = Helpers(lambda _name: FakeKmsProvider, helpers().directory_refused, helpers().path_refused)
    node = site.settle()
    assert until_well(node, given, 60.0, lambda: now[0], sleep).findings == ()
    assert rounds == [5.0, 5.0]
    site.kms.failing[None] = Refusal(503, "unavailable", "sealed")
    rounds[:] = [1.0] * 3
    assert until_well(node, given, 7.0, lambda: now[0], sleep).of("fail")
    assert rounds[3:] == [5.0, 2.0]


def test_the_command_says_what_to_do_and_ends_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("kind: KeysteadConfiguration\n")
    outcome = CliRunner().invoke(main, ["doctor", "--config", str(tmp_path / "config.yaml")])
    assert outcome.exit_code == 1
    assert "FAIL  KS-D001" in outcome.output
    assert "docs/operate/doctor.md#ks-d001" in outcome.output
    outcome = CliRunner().invoke(main, ["doctor", "--config", str(tmp_path / "config.yaml"), "-o", "json"])
    said: Mapping[str, Any] = json.loads(outcome.stdout)
    assert outcome.exit_code == said["exitCode"] == 1
    assert said["findings"][0].keys() == {"id", "level", "subject", "title", "expected", "got", "why", "fix", "docs"}


@pytest.mark.parametrize(
    "options", [["--wait", "soon"], ["--kubernetes", "newest"], ["--manifest", "/x"], ["--as", "x"]]
)
def test_options_that_make_no_sense_are_usage_errors(options: list[str]) -> None:
    assert CliRunner().invoke(main, ["doctor", *options]).exit_code == 2


def test_what_belongs_to_one_check_is_explained_once() -> None:
    said = list(
        lines([found(30, "fail", "key a", "gone"), found(30, "fail", "key b", "gone"), found(31, "fail", "c", "d")])
    )
    assert [line[:13] for line in said if "KS-D" in line[:16]] == ["FAIL  KS-D030"] * 2 + ["FAIL  KS-D031"]
    assert len([line for line in said if line.startswith("      why")]) == 2


def test_what_comes_from_elsewhere_cannot_move_the_cursor() -> None:
    assert "\x1b" not in "".join(lines([found(30, "fail", "key a", "\x1b[2Jgone")]))


def test_the_kernel_tells_whether_the_clock_is_kept() -> None:
    assert clock_is_kept() in (True, False)
