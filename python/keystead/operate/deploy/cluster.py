"""What kube-apiserver is told: kubeadm's ClusterConfiguration, and the EncryptionConfiguration stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

DIRECTORY = "/etc/kubernetes/encryption"
"""One of its own, since it is mounted: a mounted file stays the old one when a new one is moved into its place."""
ENCRYPTION = f"{DIRECTORY}/config.yaml"

STAGES = {
    1: "Plaintext is written, and what Keystead wrote can be read. Every API server gets it before any gets stage 2.",
    2: "Keystead writes, and plaintext can still be read. Then rewrite what is stored: `keystead generate migration`.",
    3: "Keystead alone. Only once `keystead inventory` counts no plaintext.",
}


def encryption_config(stage: int, resources: Sequence[str], name: str, socket: str) -> str:
    """One stage of docs/operate/enable.md."""
    kms = f"""\
  - kms:
      apiVersion: v2
      # Part of what is stored: never change it.
      name: {name}
      endpoint: {socket}
      timeout: 3s
"""
    identity = "  - identity: {}\n"
    order = {1: identity + kms, 2: kms + identity, 3: kms}[stage]
    return f"""\
# Stage {stage} of 3. {STAGES[stage]}
# The same on every control-plane node, as {ENCRYPTION}, mode 0600.
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [{", ".join(resources)}]
  providers:
{order}"""


def kubeadm(socket_directory: str) -> str:
    """The part of a ClusterConfiguration that brings the file and the socket's directory to kube-apiserver."""
    return f"""\
# For `kubeadm init --config`, or to be merged into the ClusterConfiguration of a cluster that runs. kubeadm writes
# kube-apiserver's manifest from it, also at each upgrade, so nothing is to be edited by hand.
# Place {ENCRYPTION} on the node first: `keystead generate encryption-config`.
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  extraArgs:
  - name: encryption-provider-config
    value: {ENCRYPTION}
  - name: encryption-provider-config-automatic-reload
    value: "true"
  extraVolumes:
  # The directory and not the file: one that is moved into its place would not be seen.
  - name: encryption-config
    hostPath: {DIRECTORY}
    mountPath: {DIRECTORY}
    readOnly: true
    pathType: Directory
  # The directory and not the socket: a plugin that restarts makes a new one.
  - name: keystead-sockets
    hostPath: {socket_directory}
    mountPath: {socket_directory}
    readOnly: true
    pathType: DirectoryOrCreate
"""
