"""The configuration of the provider `gcp-kms`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from keystead.provider import ProviderConfig

KEY_NAME = (
    r"projects/[a-z0-9][a-z0-9.:-]{0,98}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}"
    r"/cryptoKeys/[A-Za-z0-9_-]{1,63}"
)
_HOST_PORT = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?"


def _key_name(value: str) -> str:
    if re.fullmatch(KEY_NAME + "/cryptoKeyVersions(/.*)?", value):
        raise ValueError("names a version of a key: leave out /cryptoKeyVersions and what follows")
    if not re.fullmatch(KEY_NAME, value):
        raise ValueError("should be projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
    return value


def _endpoint(value: str) -> str:
    if not re.fullmatch(_HOST_PORT, value):
        raise ValueError("should be host or host:port, without https:// and without a path")
    return _with_port(value, 443)


def _proxy(value: str) -> str:
    if not re.fullmatch("http://" + _HOST_PORT + "/?", value):
        raise ValueError("should be http://host:port, without user, password and path")
    return "http://" + _with_port(value.removeprefix("http://").rstrip("/"), 80)


def _with_port(address: str, default: int) -> str:
    host, _, port = address.lower().partition(":")
    if port and not 0 < int(port) < 65536:
        raise ValueError("has a port that is not between 1 and 65535")
    return f"{host}:{int(port or default)}"


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("should be an absolute path")
    return path


File = Annotated[Path, AfterValidator(_absolute)]


class Compat(BaseModel):
    """Another KMS plugin, whose ciphertexts are read until they are rewritten."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: Literal["k8s-cloudkms-plugin"] = Field(description="Name of the plugin.")


class GcpKmsConfig(ProviderConfig):
    """A symmetric key of Google Cloud KMS."""

    provider: Literal["gcp-kms"]
    keyName: Annotated[str, AfterValidator(_key_name)] = Field(
        description="Name of the key: projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY, spelled as the "
        "service spells it and without a version.",
    )
    credentialsFile: File | None = Field(
        default=None,
        description="JSON file of a service account's key, or of workload identity federation. Without it, the file "
        "that GOOGLE_APPLICATION_CREDENTIALS names, else the metadata server of the machine or pod.",
    )
    transport: Literal["grpc", "rest"] = Field(
        default="grpc", description="Protocol to the service; rest where a proxy lets only HTTP/1.1 through."
    )
    endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        default="cloudkms.googleapis.com:443",
        description="Address of the service, host or host:port, such as a regional or private endpoint. Always TLS.",
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        default=None,
        description="HTTP proxy to the service and to token services, http://host:port. Those of the environment are "
        "not used.",
    )
    caFile: File | None = Field(
        default=None,
        description="PEM file of the CAs that may sign the service's certificate. Without it, the public ones.",
    )
    compat: Compat | None = Field(
        default=None,
        description="Read also what another plugin wrote with this key, in the endpoints that have it as a member. "
        "Take it away once everything is rewritten.",
    )
