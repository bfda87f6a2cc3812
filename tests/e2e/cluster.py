"""A real etcd and a real kube-apiserver on loopback."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ruamel.yaml import YAML

from .binaries import Binaries
from .etcd import EtcdReader
from .kube import Kube, Kubectl
from .metrics import total
from .processes import Child, free_port, until

LOOPBACK = "127.0.0.1"
KMS_CALLS = "apiserver_envelope_encryption_kms_operations_latency_seconds_count"


class Etcd:
    """One etcd with its data in the test's directory."""

    def __init__(self, binaries: Binaries, directory: Path) -> None:
        self.url = f"http://{LOOPBACK}:{free_port()}"
        peer = f"http://{LOOPBACK}:{free_port()}"
        self.child = Child(
            "etcd",
            [
                binaries.etcd,
                f"--data-dir={directory / 'etcd'}",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",  # nothing here has to survive a power cut
                "--log-level=warn",
            ],
            directory / "etcd.log",
        )
        self.reader = EtcdReader(self.url)

    def start(self) -> None:
        self.child.start()
        until(self.reader.healthy, 20, "etcd is healthy", self.child)

    def stop(self) -> None:
        self.child.terminate()


class Credentials:
    """What all apiservers of one cluster share: the key that signs service account tokens, and an admin's token."""

    def __init__(self, directory: Path) -> None:
        self.signing_key = directory / "sa.key"
        self.public_key = directory / "sa.pub"
        self.tokens = directory / "tokens.csv"
        self.token = secrets.token_hex(16)
        key = ec.generate_private_key(ec.SECP256R1())
        self.signing_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        self.public_key.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        self.tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')


class ApiServer:
    """One kube-apiserver. `start` leaves it ready, with a fresh `kube` client."""

    kube: Kube
    """The client of the process that was started last."""

    def __init__(
        self,
        binaries: Binaries,
        directory: Path,
        etcd: Etcd,
        credentials: Credentials,
        encryption: Path,
        *,
        name: str = "apiserver",
        feature_gates: Sequence[str] = (),
        reload: bool = True,
    ) -> None:
        self._token = credentials.token
        self._certificates = directory / name
        self._certificates.mkdir()
        self._port = free_port()
        kubeconfig = directory / f"{name}.kubeconfig"
        write_yaml(kubeconfig, self._kubeconfig())
        self.kubectl = Kubectl(binaries.kubectl, kubeconfig)
        flags = [
            f"--etcd-servers={etcd.url}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self._port}",
            f"--cert-dir={self._certificates}",
            # Without these two the start depends on a default route of this machine.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={credentials.signing_key}",
            f"--service-account-key-file={credentials.public_key}",
            "--authorization-mode=AlwaysAllow",
            f"--token-auth-file={credentials.tokens}",
            # No controller-manager runs here, which would make the service accounts that this plugin waits for.
            "--disable-admission-plugins=ServiceAccount",
            f"--encryption-provider-config={encryption}",
            f"--encryption-provider-config-automatic-reload={str(reload).lower()}",
        ]
        if feature_gates:
            flags.append(f"--feature-gates={','.join(feature_gates)}")
        self.child = Child(name, [binaries.kube_apiserver, *flags], directory / f"{name}.log")

    def start(self, ready: str = "/readyz", timeout: float = 60) -> None:
        """Start, and wait until the health endpoint `ready` answers 200; an empty one means not to wait."""
        if hasattr(self, "kube"):
            self.kube.close()  # a process that ended by itself has left its connections
        self.child.start()
        certificate = self._certificates / "apiserver.crt"
        # It is there before anything is in it.
        until(lambda: b"END CERT" in certificate.read_bytes(), timeout, f"{self.child.name}: a certificate", self.child)
        self.kube = Kube(LOOPBACK, self._port, self._token, certificate)
        if ready:
            until(lambda: self.is_healthy(ready), timeout, f"{self.child.name}: {ready}", self.child)

    def stop(self) -> None:
        """Stop as an operator does, which takes the apiserver some seconds."""
        self.kube.close()
        self.child.terminate(60)

    def kill(self) -> None:
        self.child.kill()
        if hasattr(self, "kube"):
            self.kube.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def given_up_by(self, timeout: float = 100) -> str:
        """Wait until it is ready, or has ended because a hook of its start gave up; return that hook's name, or ""."""
        until(
            lambda: not self.child.running or self.is_healthy("/readyz"), timeout, f"{self.child.name}: ready or ended"
        )
        if self.child.running:
            return ""
        hooks = re.findall(
            r'^F.* PostStartHook "(.+?)" failed', self.child.log.read_text(errors="replace"), re.MULTILINE
        )
        assert hooks, f"no hook ended {self.child.name}; its log ends:\n{self.child.tail()}"
        return str(hooks[-1])

    def is_healthy(self, endpoint: str = "/readyz/kms-providers") -> bool:
        """Probe a health endpoint. Probing the KMS check makes the apiserver ask for Status every 20 s, not 60 s."""
        status, text = self.kube.raw("GET", endpoint)
        assert status == 200, f"{endpoint}: {status} {text[:600]}"
        return True

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric that carry these labels; 0 if there is none."""
        return total(self.kube.raw("GET", "/metrics")[1], name, **labels)

    def kms_calls(self, method: str, code: str = "OK", provider: str | None = None) -> int:
        """Count the calls to KMS v2 plugins that ended with a gRPC status code, since the start of this process."""
        labels = {"method_name": f"/v2.KeyManagementService/{method}", "grpc_status_code": code}
        return int(self.metric(KMS_CALLS, **labels, **({"provider_name": provider} if provider else {})))

    def failed_transformations(self) -> int:
        """Count the values that this process could not encrypt or decrypt, for whatever purpose."""
        name = "apiserver_storage_transformation_operations_total"
        text = self.kube.raw("GET", "/metrics")[1]  # once, for between two scrapes others may succeed
        return int(total(text, name) - total(text, name, status="OK"))

    def _kubeconfig(self) -> dict[str, Any]:
        server = {"server": f"https://{LOOPBACK}:{self._port}"}
        server["certificate-authority"] = str(self._certificates / "apiserver.crt")
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "admin"}}],
            "current-context": "e2e",
        }


def kms(name: str, socket: str, version: str = "v2") -> dict[str, Any]:
    """Return a KMS provider for an EncryptionConfiguration."""
    return {"kms": {"apiVersion": version, "name": name, "endpoint": socket, "timeout": "3s"}}


def write_encryption_configuration(path: Path, *blocks: tuple[Sequence[str], Sequence[dict[str, Any]]]) -> None:
    """Write an EncryptionConfiguration of (resources, providers) blocks in one step: apiservers watch the file."""
    resources = [{"resources": list(names), "providers": list(providers)} for names, providers in blocks]
    configuration = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
    write_yaml(path, {**configuration, "resources": resources})


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Replace a file by a document, in one step."""
    yaml = YAML(typ="safe", pure=True)
    yaml.representer.ignore_aliases = lambda _: True  # or what occurs twice would become an anchor and an alias
    new = path.with_suffix(".new")
    with new.open("w") as file:
        yaml.dump(content, file)
    new.replace(path)
