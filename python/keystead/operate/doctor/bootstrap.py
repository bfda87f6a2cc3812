"""The trap of a cold start: whatever the plugin would get from the cluster that waits for it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from keystead.operate.doctor.book import Finding, found
from keystead.operate.doctor.files import named_files
from keystead.operate.doctor.machine import Machine
from keystead.operate.doctor.remote import addresses
from keystead.provider import ProviderConfig

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
SERVICE_ACCOUNT = Path("/var/run/secrets")
KUBEADM_SERVICES = "10.96.0.0/12"
"""kubeadm's default of --service-cluster-ip-range, for where no manifest says another."""
_IN_CLUSTER = re.compile(r".+\.svc(\..+)?|.+\.cluster\.local|kubernetes|kubernetes\.default(\..+)?")


def networks(text: str) -> Networks:
    """Parse --service-cluster-ip-range. Raises `ValueError`."""
    return [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",")]


def of_key(key: ProviderConfig, services: Networks) -> Iterator[Finding]:
    """Where a key's remote is, and where its credentials come from."""
    for address in addresses(key):
        host = (urlsplit(address).hostname or "").rstrip(".")
        if _IN_CLUSTER.fullmatch(host):
            yield found(50, "fail", f"key {key.name}", f"{host} is a name of the cluster")
        elif _is_in(host, services):
            yield found(50, "fail", f"key {key.name}", f"{host} is a Service IP")
    for field, path in named_files(key).items():
        if SERVICE_ACCOUNT in path.parents:
            yield found(51, "fail", f"key {key.name}, {field}", f"{path} is a service account's token")
    auth = getattr(key, "auth", None)
    if getattr(auth, "method", None) == "kubernetes":
        yield found(51, "warn", f"key {key.name}", "each login is reviewed by a kube-apiserver: is it this one?")


def names(machine: Machine, services: Networks) -> Iterator[Finding]:
    """The name servers of this machine."""
    for server in machine.name_servers():
        if _is_in(server, services):
            yield found(52, "fail", str(machine.resolv_conf), f"nameserver {server} is a Service IP")


def _is_in(host: str, services: Networks) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address.version == one.version and address in one for one in services)
