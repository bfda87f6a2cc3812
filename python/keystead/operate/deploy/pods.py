"""Pods: a static pod, a DaemonSet, and a sidecar of kube-apiserver. Text, so that the reasons can stand beside."""

from __future__ import annotations

from collections.abc import Iterable

from keystead.operate.deploy.place import Mount, Place

CRITICAL_PRIORITY = 2000001000
"""What system-node-critical stands for. Nobody resolves the class for a pod that no API server has admitted."""
SIDECAR_SOCKETS = "/run/keystead"

_ROOT = """\
      # Root without a single capability: it reads what root owns, such as credentials of mode 0600, and no more.
      runAsUser: 0
      runAsGroup: 0
"""
_NON_ROOT = """\
      # Needs the directories prepared: install -d -o {user} -g {user} -m 0700. A kube-apiserver that is not root needs
      # socketGroup with socketMode "0660" in the configuration.
      runAsNonRoot: true
      runAsUser: {user}
      runAsGroup: {user}
"""


def static_pod(place: Place) -> str:
    """For /etc/kubernetes/manifests, or wherever kubelet has its staticPodPath."""
    return f"""\
# Keystead as a static pod. kubelet starts it without an API server, so nothing in it may come from one.
# Place it as /etc/kubernetes/manifests/keystead.yaml on every control-plane node.
apiVersion: v1
kind: Pod
metadata:
  name: keystead
  namespace: kube-system
  labels:
    app.kubernetes.io/name: keystead
spec:
{_indented(_pod(place, ["serve"]), 2)}"""


def daemon_set(place: Place) -> str:
    """For control-plane nodes of clusters where nothing else can be."""
    return f"""\
# Keystead as a DaemonSet on control-plane nodes. It is the API server that starts it: after a cold start of all control
# planes at once the API server waits for the plugin and the plugin for the API server. docs/deploy/daemonset.md has
# the way out; a static pod or a unit of systemd does not get there.
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: keystead
  namespace: kube-system
  labels:
    app.kubernetes.io/name: keystead
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: keystead
  # What tells the new one from the old is not to be seen from outside: both have the same path and port. So the old
  # one is left alone until the new one has had the time to take over.
  minReadySeconds: 30
  updateStrategy:
    type: RollingUpdate
    rollingUpdate:
      # The new one takes the socket's path over (--take-over) before the old one ends: no call finds nobody.
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app.kubernetes.io/name: keystead
    spec:
      nodeSelector:
        node-role.kubernetes.io/control-plane: ""
      tolerations:
      - operator: Exists
{_indented(_pod(place, ["serve", "--take-over"], priority=False), 6)}"""


def sidecar(place: Place) -> str:
    """A patch of a Deployment or StatefulSet that runs kube-apiserver."""
    return f"""\
# Keystead beside a kube-apiserver that is itself a pod of another cluster. Apply it to the workload that runs it:
#   kubectl patch deployment kube-apiserver --patch-file THIS
# It is an init container with restartPolicy Always, which kubelet starts before the others (Kubernetes 1.29 and newer).
# Credentials here are a Secret of the cluster that runs the pod. That is sound: it is not the cluster that waits.
spec:
  template:
    spec:
      initContainers:
      - name: keystead
        image: {place.image}
        imagePullPolicy: IfNotPresent
        restartPolicy: Always
        args: [serve]
        env:
        # One endpoint with one key. For more, mount a configuration and set KEYSTEAD_CONFIG instead.
        - name: KEYSTEAD_SOCKET
          value: unix://{SIDECAR_SOCKETS}/kms.sock
        - name: KEYSTEAD_PROVIDER
          value: vault-transit
        - name: KEYSTEAD_KEY
          value: >-
            address=https://vault.example:8200 transitKey=k8s auth.method=approle
            auth.roleIDFile=/etc/keystead/role-id auth.secretIDFile=/etc/keystead/secret-id
        - name: KEYSTEAD_CLUSTER
          value: CLUSTER
        # The pod's containers share its ports: two instances in one pod need two of them, or none.
        - name: KEYSTEAD_HTTP
          value: "127.0.0.1:9853"
        # Not the remote: the API server may start as soon as somebody listens, and waits for a key by itself.
        startupProbe:
          exec:
            command: [test, -S, {SIDECAR_SOCKETS}/kms.sock]
          periodSeconds: 1
          failureThreshold: 60
        resources:
          requests: {{cpu: 50m, memory: 128Mi}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL]}}
          seccompProfile: {{type: RuntimeDefault}}
        volumeMounts:
        - {{name: keystead-sockets, mountPath: {SIDECAR_SOCKETS}}}
        - {{name: keystead-credentials, mountPath: /etc/keystead, readOnly: true}}
      containers:
      - name: kube-apiserver
        volumeMounts:
        - {{name: keystead-sockets, mountPath: {SIDECAR_SOCKETS}}}
      volumes:
      - name: keystead-sockets
        emptyDir: {{medium: Memory}}
      - name: keystead-credentials
        secret: {{secretName: keystead, defaultMode: 0400}}
"""


def _pod(place: Place, arguments: Iterable[str], *, priority: bool = True) -> str:
    """The part of a spec that a static pod and a DaemonSet share."""
    number = f"priority: {CRITICAL_PRIORITY}\n  " if priority else ""
    user = _ROOT if place.user == 0 else _NON_ROOT.format(user=place.user)
    probe = (
        f"""\
    # /livez is the process alone. Never /readyz: with the remote away a restart would lose what all still works with.
    livenessProbe:
      httpGet: {{host: {place.host}, port: {place.port}, path: /livez{", scheme: HTTPS" if place.https else ""}}}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
"""
        if place.port
        else ""
    )
    return f"""\
  # The node's own network and name servers: those of the cluster do not work before the API server does.
  hostNetwork: true
  dnsPolicy: Default
  priorityClassName: system-node-critical
  {number}automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 15
  containers:
  - name: keystead
    image: {place.image}
    # Pull it beforehand: a node must boot without a registry.
    imagePullPolicy: IfNotPresent
    args: [{", ".join(arguments)}]
    env:
    - name: KEYSTEAD_CONFIG
      value: {place.config}
    resources:
      # No limits: throttled, it answers too late, and one that is killed for memory loses the unwrapped KEKs.
      requests: {{cpu: 50m, memory: 128Mi}}
    securityContext:
{user}      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {{drop: [ALL]}}
      seccompProfile: {{type: RuntimeDefault}}
{probe}    volumeMounts:
{"".join(map(_volume_mount, place.mounts))}  volumes:
{"".join(map(_volume, place.mounts))}"""


def _volume_mount(mount: Mount) -> str:
    read_only = "" if mount.writable else ", readOnly: true"
    return f"    - {{name: {mount.name}, mountPath: {mount.path}{read_only}}}\n"


def _volume(mount: Mount) -> str:
    # The directory and never the socket in it: a socket that is made anew has another inode.
    kind = "DirectoryOrCreate" if mount.writable else "Directory"
    return f"  - name: {mount.name}\n    hostPath: {{path: {mount.path}, type: {kind}}}\n"


def _indented(text: str, spaces: int) -> str:
    """Move a text that is indented by two."""
    return "".join(f"{' ' * (spaces - 2)}{line}\n" if line else "\n" for line in text.splitlines())
