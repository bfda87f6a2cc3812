"""Where an object is: from a key in etcd to resource, namespace and name."""

from __future__ import annotations

from dataclasses import dataclass

NEVER_ENCRYPTED = frozenset({"masterleases", "peerserverleases", "ranges"})
"""Folders that kube-apiserver writes past its encryption providers, whatever the EncryptionConfiguration says."""

_GROUPS = {
    "admissionregistration.k8s.io": "mutatingadmissionpolicies mutatingadmissionpolicybindings "
    "mutatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings "
    "validatingwebhookconfigurations",
    "apps": "controllerrevisions daemonsets deployments replicasets statefulsets",
    "autoscaling": "horizontalpodautoscalers",
    "batch": "cronjobs jobs",
    "certificates.k8s.io": "certificatesigningrequests clustertrustbundles podcertificaterequests",
    "coordination.k8s.io": "leasecandidates leases",
    "discovery.k8s.io": "endpointslices",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "internal.apiserver.k8s.io": "storageversions",
    "networking.k8s.io": "ingressclasses ipaddresses networkpolicies servicecidrs",
    "node.k8s.io": "runtimeclasses",
    "policy": "poddisruptionbudgets podsecuritypolicies",
    "rbac.authorization.k8s.io": "clusterrolebindings clusterroles rolebindings roles",
    "resource.k8s.io": "deviceclasses devicetaintrules resourceclaims resourceclaimtemplates "
    "resourcepoolstatusrequests resourceslices",
    "scheduling.k8s.io": "podgroups priorityclasses workloads",
    "storage.k8s.io": "csidrivers csinodes csistoragecapacities storageclasses volumeattachments "
    "volumeattributesclasses",
    "storagemigration.k8s.io": "storageversionmigrations",
}
"""The built-in resources outside of the core group, whose folders do not name it."""

_BUILT_IN = {resource: f"{resource}.{group}" for group, several in _GROUPS.items() for resource in several.split()} | {
    "controllers": "replicationcontrollers",
    "ingress": "ingresses.networking.k8s.io",
    "minions": "nodes",
    "podsecuritypolicy": "podsecuritypolicies.policy",
    "services/endpoints": "endpoints",
    "services/specs": "services",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One object."""

    resource: str
    """As in an EncryptionConfiguration: `secrets`, `deployments.apps`, `pandas.awesome.bears.example`."""
    namespace: str
    """Empty for what has none."""
    name: str

    @staticmethod
    def of(key: bytes, prefix: str) -> Place | None:
        """Return the place of a key, or `None` for one that is not below the prefix."""
        text = key.decode(errors="backslashreplace")
        if not text.startswith(prefix):
            return None
        first, *rest = text[len(prefix) :].split("/")
        folder = first
        if ("." in first or first == "services") and rest:
            folder = f"{first}/{rest.pop(0)}"
        match rest:
            case [name]:
                return Place(resource_of(folder), "", name)
            case [namespace, name]:
                return Place(resource_of(folder), namespace, name)
        return Place(resource_of(folder), "", "/".join(rest))


def resource_of(folder: str) -> str:
    """Name the resource that a folder of etcd stands for; the folder itself where nothing better is known."""
    if folder in _BUILT_IN:
        return _BUILT_IN[folder]
    group, slash, plural = folder.partition("/")
    return f"{plural}.{group}" if slash and "." in group else folder
