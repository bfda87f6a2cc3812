"""A real kube-apiserver, and kubeadm, take what `keystead generate` prints."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, write_encryption_configuration
from .conftest import Count

pytestmark = pytest.mark.e2e

DEPLOY = Path(__file__).parents[2] / "deploy"
"""A test holds its files equal to what the commands print."""
APISERVER = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "kube-apiserver", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "kube-apiserver"}},
        "template": {
            "metadata": {"labels": {"app": "kube-apiserver"}},
            "spec": {"containers": [{"name": "kube-apiserver", "image": "kube-apiserver:v1.36.3"}]},
        },
    },
}


@pytest.fixture(scope="module")
def apiserver(binaries: Binaries, directory: Path) -> Iterator[ApiServer]:
    encryption = directory / "plaintext.yaml"
    write_encryption_configuration(encryption, (["secrets"], [{"identity": {}}]))
    etcd = Etcd(binaries, directory)
    server = ApiServer(binaries, directory, etcd, Credentials(directory), encryption)
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(server.kill)
        server.start()
        yield server


@pytest.mark.parametrize("name", ["static-pod", "static-pod-non-root", "daemonset"])
def test_the_manifest_passes_a_dry_run_without_a_warning(apiserver: ApiServer, name: str, count: Count) -> None:
    said = apiserver.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", str(DEPLOY / f"{name}.yaml")
    )
    made = json.loads(said)
    spec = made["spec"] if made["kind"] == "Pod" else made["spec"]["template"]["spec"]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["hostNetwork"] is True
    assert all(volume.keys() == {"name", "hostPath"} for volume in spec["volumes"])
    count("volumes", len(spec["volumes"]))


def test_the_sidecar_becomes_the_first_container_of_an_apiserver(apiserver: ApiServer, count: Count) -> None:
    apiserver.kube.create("/apis/apps/v1/namespaces/default/deployments", APISERVER)
    said = apiserver.kubectl(
        "patch",
        "deployment",
        "kube-apiserver",
        "--dry-run=server",
        "-o",
        "json",
        "--patch-file",
        str(DEPLOY / "sidecar.yaml"),
    )
    spec = json.loads(said)["spec"]["template"]["spec"]
    (sidecar,) = spec["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("keystead", "Always")
    (server,) = spec["containers"]
    assert [mount["name"] for mount in server["volumeMounts"]] == ["keystead-sockets"]
    count("containers", 2)


def test_kubeadm_takes_its_part(binaries: Binaries, count: Count) -> None:
    program = binaries.directory / "kubeadm"
    if not program.exists():
        pytest.skip(f"NOT TESTED: no {program}; KEYSTEAD_ALSO=kubeadm tests/e2e/build/build.sh builds it")
    command = [str(program), "config", "validate", "--config", str(DEPLOY / "kubeadm.yaml")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == "ok"
    count("kubeadm says", outcome.stdout.strip())
    broken = (DEPLOY / "kubeadm.yaml").read_text().replace("pathType", "pathKind")
    again = subprocess.run(
        [*command[:3], "--config", "/dev/stdin"], input=broken, capture_output=True, text=True, check=False, timeout=60
    )
    assert again.returncode != 0
