"""The configuration of both providers: they differ in the kind of key, not in how it is named and reached."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keystead.provider import ProviderConfig

VERSION_ID = r"[0-9a-f]{32}"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("should be an absolute path")
    return path


def _address(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+/?", value) or not urlsplit(value).hostname:
        raise ValueError("should be https://host[:port], without a path")
    return value.rstrip("/")


File = Annotated[Path, AfterValidator(_absolute)]
Address = Annotated[str, AfterValidator(_address), Field(json_schema_extra={"pattern": "^https?://"})]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,128}$")]
METHOD = "How to get a token: as the virtual machine, with a projected service account token, or with a secret."
LOGIN: Address = "https://login.microsoftonline.com"


class _Auth(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManagedIdentity(_Auth):
    """The identity of the virtual machine that Keystead runs on."""

    method: Literal["managedIdentity"] = Field(description=METHOD)
    clientID: Id | None = Field(default=None, description="Which identity, where the machine has several.")
    address: Address = Field(default="http://169.254.169.254", description="Where tokens are given.")


class WorkloadIdentity(_Auth):
    """An application that trusts the tokens of an OpenID Connect issuer."""

    method: Literal["workloadIdentity"] = Field(description=METHOD)
    tenantID: Id = Field(description="Tenant of the application.")
    clientID: Id = Field(description="The application.")
    tokenFile: File = Field(description="File with the issuer's token (JWT). Read for each access token.")
    address: Address = Field(default=LOGIN, description="Where tokens are given.")


class ClientSecret(_Auth):
    """An application with a secret."""

    method: Literal["clientSecret"] = Field(description=METHOD)
    tenantID: Id = Field(description="Tenant of the application.")
    clientID: Id = Field(description="The application.")
    secretFile: File = Field(description="File with the application's secret. Read for each access token.")
    address: Address = Field(default=LOGIN, description="Where tokens are given.")


Auth = ManagedIdentity | WorkloadIdentity | ClientSecret


class AzureConfig(ProviderConfig):
    """What both providers have."""

    suffix: ClassVar[str]

    vault: str = Field(
        pattern=r"^[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$",
        description="Name of the vault or Managed HSM, the first part of its address.",
    )
    keyName: str = Field(pattern=r"^[0-9a-zA-Z-]{1,127}$", description="Name of the key in it.")
    dnsSuffix: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$",
        description="The rest of the address, which differs between clouds, such as vault.usgovcloudapi.net. It can "
        "never be changed.",
    )
    address: Address | None = Field(default=None, description="Where to reach it, if not at https://VAULT.DNSSUFFIX.")
    auth: Auth = Field(discriminator="method", description="How to get a token.")
    caFile: File | None = Field(
        default=None,
        description="PEM file of the CAs that may sign the certificates of the vault and of what gives tokens; without "
        "it, those of the system. Read again when it is replaced.",
    )

    @property
    def domain(self) -> str:
        """The part of the address that is the cloud's."""
        return self.dnsSuffix or self.suffix

    @property
    def host(self) -> str:
        """The vault's own name in the DNS, which nobody else can have while it exists."""
        return f"{self.vault.lower()}.{self.domain}"

    def key_url(self, version: str) -> str:
        """The name of a version of the key, as Key Vault spells it for whoever spells vault and key as we do."""
        return f"https://{self.vault}.{self.domain}/keys/{self.keyName}/{version}"

    @property
    def ref(self) -> str:
        """What records call the key. Names of vaults and keys are compared without regard to case."""
        return f"{self.host}/{self.keyName.lower()}"


class Compat(BaseModel):
    """Another KMS plugin, whose ciphertexts are read until they are rewritten."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: Literal["kubernetes-kms"] = Field(description="Name of the plugin: Azure/kubernetes-kms.")
    keyVersion: str = Field(
        pattern=f"^{VERSION_ID}$",
        description="What the plugin was given as --key-version. Nothing of Keystead is wrapped under this version.",
    )


class KeyVaultConfig(AzureConfig):
    """An RSA key in Azure Key Vault."""

    suffix: ClassVar[str] = "vault.azure.net"
    provider: Literal["azure-key-vault"]
    compat: Compat | None = Field(
        default=None,
        description="Read also what another plugin wrote with this key, in the endpoints that have it as a member. "
        "Take it away once everything is rewritten.",
    )


class ManagedHsmConfig(AzureConfig):
    """An AES-256 key in an Azure Managed HSM."""

    suffix: ClassVar[str] = "managedhsm.azure.net"
    provider: Literal["azure-managed-hsm"]
