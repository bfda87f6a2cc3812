"""What has kube-apiserver write every object of a resource anew, as text to apply or to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_RESOURCE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_VERSION = re.compile(r"v?1\.(\d+)(\..*)?")
_API_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
LABEL = "keystead.dev/migration"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as kubectl spells it: `secrets`, `deployments.apps`, or with its version `deployments.v1.apps`."""

    name: str
    version: str
    group: str

    @staticmethod
    def parse(text: str) -> Resource:
        """Raises `ValueError`."""
        if not _RESOURCE.fullmatch(text):
            raise ValueError(f"{text!r} is no resource such as secrets or deployments.apps")
        name, _, rest = text.partition(".")
        version, dot, group = rest.partition(".")
        if _API_VERSION.fullmatch(version):
            return Resource(name, version, group if dot else "")
        return Resource(name, "v1", rest)

    def __str__(self) -> str:
        return f"{self.name}.{self.group}" if self.group else self.name


def minor_of(kubernetes: str) -> int:
    """Return 37 for `1.37`, `v1.37.2` and the like. Raises `ValueError`."""
    match = _VERSION.fullmatch(kubernetes)
    if match is None:
        raise ValueError(f"{kubernetes!r} is no version of Kubernetes such as 1.37")
    return int(match[1])


def api_of(minor: int) -> str | None:
    """Return the version of the StorageVersionMigration API that a release has, or `None`."""
    if minor >= 37:
        return "v1"
    return "v1beta1" if minor >= 35 else "v1alpha1" if minor >= 30 else None


def objects(resources: Sequence[Resource], api: str, run: str) -> str:
    """Return StorageVersionMigrations with a label for this run.

    A migration runs once, so each gets a name of its own: `kubectl create`, not `apply`.
    """
    lines = [
        "# kubectl create -f FILE, and then:",
        f"# kubectl wait --for=condition=Succeeded --timeout=1h storageversionmigrations -l {LABEL}={run}",
    ]
    if api != "v1":
        lines += [
            f"# {api} is off unless the feature gate StorageVersionMigrator is on in kube-apiserver and",
            f"# kube-controller-manager, and --runtime-config=storagemigration.k8s.io/{api}=true is given.",
        ]
    for resource in resources:
        version = f", version: {resource.version}" if api == "v1alpha1" else ""
        lines += [
            "---",
            f"apiVersion: storagemigration.k8s.io/{api}",
            "kind: StorageVersionMigration",
            "metadata:",
            f"  generateName: {resource}-",
            f'  labels: {{{LABEL}: "{run}"}}',
            "spec:",
            f'  resource: {{group: "{resource.group}"{version}, resource: {resource.name}}}',
        ]
    return "\n".join(lines) + "\n"


def loop(resources: Sequence[Resource]) -> str:
    """Return a shell script that reads and replaces all objects, by namespace where there are namespaces."""
    names = " ".join(shlex.quote(str(resource)) for resource in resources)
    return f"""\
#!/bin/sh
# Writes every object anew. One that somebody else changes in between is refused, and the round is repeated.
set -eu
rewrite() {{ # arguments of kubectl get
  until kubectl get "$@" -o json | jq -e '.items == []' > /dev/null ||
    kubectl get "$@" -o json | kubectl replace -f - > /dev/null; do sleep 5; done
}}
for resource in {names}; do
  if kubectl api-resources --namespaced=true -o name | grep -qx "$resource"; then
    for namespace in $(kubectl get namespaces -o jsonpath='{{.items[*].metadata.name}}'); do
      rewrite "$resource" -n "$namespace"
    done
  else
    rewrite "$resource"
  fi
  echo "$resource: done"
done
"""
