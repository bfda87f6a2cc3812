"""What `keystead generate` prints is what doctor asks for, boots with what it names, and passes systemd's own look."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from keystead.cli import main
from keystead.config import advice, load
from keystead.config.encryption import judge
from keystead.operate.deploy import place
from keystead.operate.doctor import apiserver, form, manifest
from support.process import PATIENCE, Files

BIN = Path(sys.executable).parent
EXPOSURE = 2.2
"""What `systemd-analyze security` gives at most, of 10."""
PODS = ("static-pod", "daemonset")


def generate(*words: str) -> Result:
    return CliRunner().invoke(main, ["generate", *words], env={"KEYSTEAD_CONFIG": None})


def printed(*words: str) -> str:
    outcome = generate(*words)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """A configuration whose key, state and socket lie in directories of their own."""
    monkeypatch.setattr(advice, "SHARED", ())
    directory = Path(tempfile.mkdtemp(prefix="deploy-"))
    for name in ("config", "run"):
        (directory / name).mkdir()
    made = Files(directory, config_name="config/config.yaml")
    document = made.document(socket=f"unix://{directory}/run/kms.sock")
    made.key_file.rename(directory / "config/lab.key")
    document["keys"][0]["keyFile"] = str(directory / "config/lab.key")
    made.write(document)
    yield made
    shutil.rmtree(directory)


@pytest.mark.parametrize("kind", PODS)
@pytest.mark.parametrize("user", [0, os.getuid()])
def test_doctor_has_nothing_to_say_of_a_generated_pod(kind: form.Form, user: int, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "keystead.yaml"
    path.write_text(printed(kind, "--config", str(files.config), "--user", str(user)))
    pod = manifest.read(path, "keystead")
    found = {one.check.id for one in form.pod(kind, pod, path, load(files.config), files.config)}
    assert found == ({"KS-D089"} if kind == "daemonset" else set())


def test_doctor_has_nothing_to_say_of_a_generated_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "patch.yaml"
    tree = YAML(typ="safe").load(printed("sidecar"))
    (container,) = tree["spec"]["template"]["spec"]["initContainers"]
    assert container["restartPolicy"] == "Always"
    path.write_text(printed("sidecar"))
    found = {one.got for one in form.pod("sidecar", manifest.read(path, "keystead"), path, None, None)}
    assert found == {"volume keystead-credentials is a secret"}


def test_doctor_has_nothing_to_say_of_a_generated_unit(files: Files, tmp_path: Path) -> None:
    text = printed("systemd", "--config", str(files.config))
    assert list(form.unit(text, tmp_path / "keystead.service", load(files.config))) == []
    assert "RuntimeDirectory=keystead\n" in printed("systemd")


def test_doctor_has_nothing_to_say_of_the_stages_but_what_they_are_for(files: Files, tmp_path: Path) -> None:
    config = load(files.config)
    found = []
    for stage in ("1", "2", "3"):
        path = tmp_path / f"{stage}.yaml"
        path.touch(mode=0o600)
        path.write_text(printed("encryption-config", "--stage", stage, "--config", str(files.config)))
        assert judge(path.read_text(), path.name, config).problems == []
        found.append({one.check.id for one in apiserver.encryption(path, config)})
    assert found == [{"KS-D064"}, {"KS-D065"}, set()]


def test_doctor_has_nothing_to_say_of_what_kubeadm_makes_of_its_part(tmp_path: Path) -> None:
    """kubeadm turns extraArgs into flags and extraVolumes into mounts of the same names."""
    server = YAML(typ="safe").load(printed("kubeadm"))["apiServer"]
    pod = manifest.Pod(
        "Pod",
        {
            "volumes": [
                {"name": v["name"], "hostPath": {"path": v["hostPath"], "type": v["pathType"]}}
                for v in server["extraVolumes"]
            ]
        },
        {
            "command": ["kube-apiserver", *(f"--{arg['name']}={arg['value']}" for arg in server["extraArgs"])],
            "volumeMounts": [{"name": v["name"], "mountPath": v["mountPath"]} for v in server["extraVolumes"]],
        },
    )
    assert list(apiserver.manifest(pod, tmp_path, Path("/etc/kubernetes/encryption/config.yaml"), None)) == []
    assert pod.mount_of(Path("/run/keystead/kms.sock")) is not None


def test_a_pod_mounts_each_directory_of_its_configuration_once(files: Files) -> None:
    made = place.of(load(files.config), files.config)
    assert [(one.path.name, one.writable) for one in made.mounts] == [("config", False), ("state", True), ("run", True)]


def test_a_pod_without_a_listener_has_no_probe(files: Files) -> None:
    assert "livenessProbe" not in printed("static-pod", "--config", str(files.config))
    assert "path: /livez" in printed("static-pod")


def systemd(*words: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("NOT TESTED: no systemd-analyze")
    outcome = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


@pytest.mark.parametrize("user", ["0", "65534"])
def test_systemd_finds_nothing_wrong_with_the_unit(user: str, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "keystead.service"
    path.write_text(
        printed("systemd", "--config", str(files.config), "--program", str(BIN / "keystead"), "--user", user)
    )
    said = systemd("verify", path)
    assert "keystead.service" not in said, said
    overall = re.search(r"exposure level for keystead.service: ([0-9.]+)", systemd("security", "--offline=true", path))
    assert overall is not None
    assert float(overall[1]) <= EXPOSURE


CONFINED = """\
set -eu
root=$1; shift
mount --bind / "$root"
while [ "$1" != -- ]; do
  mount --bind "$2" "$root$2"
  [ "$1" = rw ] || mount -o remount,bind,ro "$root$2"
  shift 2
done
shift
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --bounding-set=-all --inh-caps=-all --no-new-privs --reuid "$1" --regid "$1" \
  --clear-groups env -i "PATH=/usr/bin:/bin" "${@:2}"
"""
"""A read-only root with the mounts of a pod, its user, no capability, and no environment but what follows."""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="NOT TESTED: needs root and unshare")
@pytest.mark.parametrize("user", [0, 65532])
def test_the_plugin_serves_with_exactly_what_the_static_pod_gives_it(user: int, files: Files, tmp_path: Path) -> None:
    may = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--clear-groups"]
    # By a shell: setpriv itself still has its capabilities when it opens the program.
    may += ["--reuid", str(user), "--regid", str(user), "sh", "-c", f"{BIN}/keystead version"]
    if user != 0 and subprocess.run(may, capture_output=True, check=False, timeout=60).returncode != 0:
        pytest.skip(f"NOT TESTED: user {user} may not run {BIN}/keystead")
    (files.directory / "state").mkdir()
    files.directory.chmod(0o755)
    for path in (
        files.directory / "run",
        files.directory / "state",
        files.config.parent,
        *files.config.parent.iterdir(),
    ):
        os.chown(path, user, user)
    pod: Any = YAML(typ="safe").load(printed("static-pod", "--config", str(files.config), "--user", str(user)))["spec"]
    (container,) = pod["containers"]
    volumes = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"]}
    mounts = []
    for one in container["volumeMounts"]:
        assert volumes[one["name"]] == one["mountPath"]
        mounts += ["ro" if one.get("readOnly") else "rw", one["mountPath"]]
    environment = [f"{one['name']}={one['value']}" for one in container["env"]]
    security = container["securityContext"]
    assert (security["readOnlyRootFilesystem"], security["capabilities"]) == (True, {"drop": ["ALL"]})
    (tmp_path / "root").mkdir()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", CONFINED, "confined"]
    command += [str(tmp_path / "root"), *mounts, "--", str(security["runAsUser"]), *environment]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, str(BIN / "keystead"), *container["args"]], stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        socket = files.directory / "run/kms.sock"
        until(socket.exists, log)
        outcome = _self_test(socket)
        assert outcome["ok"], (outcome, log.read_text())
        assert (files.directory / "state/main/current").stat().st_uid == user
    finally:
        process.terminate()
        process.kill()
        process.wait(30)


def until(there: Callable[[], bool], log: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.05)


def _self_test(socket: Path) -> dict[str, Any]:
    for _ in range(30):
        outcome = CliRunner().invoke(main, ["self-test", "--endpoint", f"unix://{socket}", "-o", "json"])
        said: dict[str, Any] = json.loads(outcome.stdout)
        if said["ok"]:
            break
    return said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["encryption-config", "--stage", "4"], "1<=x<=3"),
        (["encryption-config", "--stage", "1", "--resources", "*.*"], "--resources"),
        (["encryption-config", "--stage", "1", "--name", "a:b"], "--name"),
        (["encryption-config", "--stage", "1", "--endpoint", "main"], "--config"),
        (["static-pod", "--config", "/does/not/exist"], "cannot be read"),
        (["policy"], "--config"),
    ],
)
def test_what_cannot_be_printed_is_a_usage_error(words: list[str], said: str) -> None:
    outcome = generate(*words)
    assert outcome.exit_code == 2
    assert said in outcome.output


def test_a_provider_without_policies_says_so(files: Files) -> None:
    assert printed("policy", "--config", str(files.config)) == "# Key lab: the provider local has no policies.\n"
