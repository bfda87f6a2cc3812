"""The resources that the Kubernetes page on KMS providers has encrypted, a custom one included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .kube import Kube, Object, config_maps, secret, secrets
from .processes import until

GROUP = "awesome.bears.example"
PANDAS = f"/apis/{GROUP}/v1/namespaces/default/pandas"


@dataclass(frozen=True)
class Resource:
    """A resource, where its objects are, and how to make one that holds a text."""

    name: str
    collection: str
    in_etcd: str
    body: Callable[[str, str], Object]


def config_map(name: str, text: str) -> Object:
    """Return a ConfigMap as it is created or replaced."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}


def panda(name: str, text: str) -> Object:
    """Return an object of the custom resource as it is created or replaced."""
    return {"apiVersion": f"{GROUP}/v1", "kind": "Panda", "metadata": {"name": name}, "spec": {"text": text}}


RESOURCES = (
    Resource("secrets", secrets("default"), "/registry/secrets/", lambda name, text: secret(name, {"text": text})),
    Resource("configmaps", config_maps("default"), "/registry/configmaps/", config_map),
    Resource("pandas", PANDAS, f"/registry/{GROUP}/pandas/", panda),
)


def define_pandas(kube: Kube) -> None:
    """Define the custom resource, and wait until it is served."""
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"text": {"type": "string"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "pandas", "singular": "panda", "kind": "Panda", "listKind": "PandaList"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"pandas.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }
    kube.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    until(lambda: kube.raw("GET", PANDAS)[0] == 200, 30, "pandas are served")
