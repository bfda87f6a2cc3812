"""The configuration of the provider `vault-transit`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from keystead.provider import ProviderConfig

SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
PATH = rf"^{SEGMENT}(/{SEGMENT})*$"
"""No part may begin with a dot, so none can be `.` or `..`, and none needs escaping in a URL or in a ref."""


def _address(value: str) -> str:
    """Return `scheme://host[:port]` in one spelling, so that two addresses can be compared as text."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+/?", value):
        raise ValueError("should be https://host:port, without a path")
    parts = urlsplit(value)
    port = parts.port  # raises ValueError for a port that is not a number up to 65535
    if not parts.hostname:
        raise ValueError("should be https://host:port, and has no host")
    return origin(parts.scheme, parts.hostname, port)


def origin(scheme: str, host: str, port: int | None) -> str:
    """Spell where a server listens; the port is always there."""
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme.lower()}://{bracketed.lower()}:{port or (443 if scheme.lower() == 'https' else 80)}"


def _proxy(value: str) -> str:
    if not value.startswith("http://"):
        raise ValueError("should be http://host:port, without user, password and path")
    return _address(value)


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("should be an absolute path")
    return path


Address = Annotated[str, AfterValidator(_address), Field(json_schema_extra={"pattern": "^https?://"})]
File = Annotated[Path, AfterValidator(_absolute)]
Mount = Annotated[str, Field(pattern=PATH, max_length=128)]
Role = Annotated[str, Field(min_length=1, max_length=256)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(_Section):
    """How to trust the server, and the certificate that is shown to it."""

    caFile: File | None = Field(
        default=None,
        description="PEM file of the CAs that may sign the server's certificate. Without it, those of certifi.",
    )
    certFile: File | None = Field(
        default=None, description="PEM file of the client certificate, for auth.method cert or a server that asks."
    )
    keyFile: File | None = Field(default=None, description="PEM file of the client certificate's private key.")
    serverName: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
        description="Name that the server's certificate must carry, where it differs from the host in the address.",
    )

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.certFile is None) != (self.keyFile is None):
            raise ValueError("give both certFile and keyFile, or neither")
        return self


METHOD = "How to get a token: from a file, or by a login. kubernetes is not for the cluster that reviews the login."


class _Login(_Section):
    mount: Mount | None = Field(
        default=None, description="Path of the auth method, without auth/; the method's name unless set."
    )


class TokenAuth(_Section):
    """A token from a file that something else keeps fresh, such as an agent."""

    method: Literal["token"] = Field(description=METHOD)
    tokenFile: File = Field(description="File that holds the token. Read again at each renewal and when it is refused.")


class AppRoleAuth(_Login):
    """Login with a role ID and a secret ID."""

    method: Literal["approle"] = Field(description=METHOD)
    roleIDFile: File = Field(description="File that holds the role ID. Read at each login.")
    secretIDFile: File = Field(description="File that holds the secret ID. Read at each login.")


class JwtAuth(_Login):
    """Login with a JWT that the server checks against keys of its own configuration."""

    method: Literal["jwt"] = Field(description=METHOD)
    role: Role = Field(description="Role to log in as. For cert the name of a certificate role, and optional.")
    jwtFile: File = Field(description="File that holds the JWT. Read at each login.")


class CertAuth(_Login):
    """Login with the client certificate of the connection."""

    method: Literal["cert"] = Field(description=METHOD)
    role: Role | None = Field(
        default=None, description="Name of the certificate role; without it the server tries all of them."
    )


class KubernetesAuth(_Login):
    """Login with a service account's token, which the server has reviewed by a kube-apiserver."""

    method: Literal["kubernetes"] = Field(description=METHOD)
    role: Role = Field(description="Role to log in as. For cert the name of a certificate role, and optional.")
    jwtFile: File = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="File that holds the service account's token. Read at each login.",
    )


AuthConfig = Annotated[
    TokenAuth | AppRoleAuth | JwtAuth | CertAuth | KubernetesAuth,
    Field(discriminator="method"),
]


class Compat(_Section):
    """Another KMS plugin, whose ciphertexts are read until they are rewritten."""

    reader: Literal["vault-kubernetes-kms"] = Field(description="Name of the plugin.")


class VaultTransitConfig(ProviderConfig):
    """A key of a Transit secrets engine, in HashiCorp Vault (from 1.13) or OpenBao."""

    provider: Literal["vault-transit"]
    address: Address | None = Field(default=None, description="Address of the server, such as https://vault:8200.")
    addresses: tuple[Address, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Addresses of several servers of one cluster, instead of address. The first that answers is used "
        "until it fails; a redirect is followed to these addresses only.",
    )
    mount: Mount = Field(default="transit", description="Path of the Transit engine.")
    transitKey: str = Field(pattern=f"^{SEGMENT}$", max_length=128, description="Name of the key in the engine.")
    namespace: str | None = Field(
        default=None,
        pattern=PATH,
        max_length=192,
        description="Namespace of the engine and of the login. Refused if the server would ignore it.",
    )
    lineage: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
        description="Label of the server's storage, the first part of the key's name in records. Needed only to tell "
        "two servers apart that have a key of the same path; it can never be changed.",
    )
    auth: AuthConfig = Field(description="How to get a token.")
    tls: TlsConfig | None = Field(default=None, description="TLS to the server.")
    proxy: Annotated[str, AfterValidator(_proxy), Field(json_schema_extra={"pattern": "^http://"})] | None = Field(
        default=None,
        description="HTTP proxy that tunnels to the servers, http://host:port. Those of the environment are not used.",
    )
    compat: Compat | None = Field(
        default=None,
        description="Read also what another plugin wrote with this key, in the endpoints that have it as a member. "
        "Take it away once everything is rewritten.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.address is None) == (self.addresses is None):
            raise ValueError("give either address or addresses")
        if len(set(self.servers)) != len(self.servers):
            raise ValueError("addresses names a server twice")
        if self.tls is not None and not all(server.startswith("https:") for server in self.servers):
            raise ValueError("tls needs addresses that begin with https:")
        if self.proxy is not None and not all(server.startswith("https:") for server in self.servers):
            raise ValueError("proxy needs addresses that begin with https:, or it would see the token")
        if isinstance(self.auth, CertAuth) and (self.tls is None or self.tls.certFile is None):
            raise ValueError("auth.method cert needs tls.certFile and tls.keyFile")
        return self

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses in the order in which they are tried."""
        if self.addresses is not None:
            return self.addresses
        return (self.address,) if self.address is not None else ()

    @property
    def path(self) -> str:
        """What messages call the key."""
        return f"{self.mount}/{self.transitKey}"

    @property
    def ref(self) -> str:
        """What records call the key: no address and nothing that changes when a replica takes over."""
        return "/".join(part for part in (self.lineage, self.namespace, self.path) if part)

    @property
    def notice(self) -> str | None:
        """What an operator has to know before relying on this configuration."""
        notices = []
        if isinstance(self.auth, KubernetesAuth):
            notices.append(
                "auth.method kubernetes has each login reviewed by a kube-apiserver. If that is the one that waits "
                "for this plugin, neither can start: use jwt, approle or cert there"
            )
        if exposed := [server for server in self.servers if _is_exposed(server)]:
            notices.append(f"{', '.join(exposed)} is not https: tokens and keys cross the network in the clear")
        return "; ".join(notices) or None


def _is_exposed(server: str) -> bool:
    parts = urlsplit(server)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
