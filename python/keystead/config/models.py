"""The configuration's fields: their types, defaults and descriptions. The file, its schema and `explain` follow.

What relates several fields to each other is in `relations`. Instances come from `keystead.config.load` and its
siblings only, which check both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from keystead.config.values import (
    AbsolutePath,
    AdminSocket,
    ClusterLabel,
    Duration,
    EndpointName,
    ListenAddress,
    Socket,
    SocketField,
    SocketGroup,
    SocketMode,
    at_least,
    at_most,
    is_loopback,
)
from keystead.errors import ConfigError
from keystead.provider import Provider, ProviderConfig

API_VERSION: Literal["config.keystead.dev/v1alpha1"] = "config.keystead.dev/v1alpha1"
KIND: Literal["KeysteadConfiguration"] = "KeysteadConfiguration"

ProviderLookup: TypeAlias = Callable[[str], type[Provider[Any]]]
"""Finds a provider by name, or raises `ConfigError`: `keystead.registry.provider_class` outside tests."""


class Section(BaseModel):
    """A mapping of the configuration: no unknown fields, camelCase outside, snake_case inside."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class MemberConfig(Section):
    """A key's part in an endpoint."""

    key: str = Field(description="Name of a key in keys.")
    stage: Literal["active", "decrypt"] = Field(
        description="active: every new local KEK is wrapped under this key, among others. decrypt: this key only "
        "unwraps. Add a new key as decrypt on every node before any node has it active; keep an old one "
        "as decrypt until neither etcd nor a backup needs it."
    )
    role: Literal["online", "recovery"] = Field(
        default="online",
        description="online: this key wraps and unwraps. recovery: every new local KEK is wrapped under it too, and "
        "nothing here ever unwraps with it: for a key whose private half lies in a safe. Needs stage active.",
    )


class LocalKEKConfig(Section):
    """The key-encryption key that Keystead makes, keeps in memory and has wrapped by the remote keys."""

    max_age: Annotated[Duration, at_least("1h")] = Field(
        default="720h",
        validate_default=True,
        description="Duration, at least 1h. Make a new local KEK when the one in use is older, give or take a tenth. "
        "Shorten it if a policy asks for it: the cipher does not need it, and each one costs a call per "
        "key.",
    )
    record_file: AbsolutePath | None = Field(
        default=None,
        description="Absolute path of a record to use instead of making one, in the form of the file current in "
        "stateDir. For nodes that are to share a local KEK: place the same file on all of them, and a new "
        "one to replace it.",
    )


class EndpointConfig(Section):
    """One socket: what one provider entry of kube-apiserver's EncryptionConfiguration talks to."""

    name: EndpointName = Field(
        description="1 to 63 characters of a-z, 0-9 and '-', unique. It names a directory in stateDir, and appears in"
        " logs and metrics. Choose it once: after a change the endpoint starts without its stored record."
    )
    socket: SocketField = Field(
        description="Where to listen, spelled as in the EncryptionConfiguration: unix:///run/keystead/kms.sock. "
        "Whoever can connect can decrypt. unix:///@name is an abstract socket, which has no access "
        "control at all."
    )
    socket_mode: SocketMode = Field(
        default="0600",
        validate_default=True,
        description='Permissions of the socket as quoted octal digits, none for others. "0660", with socketGroup, for'
        " a kube-apiserver that does not run as the same user.",
    )
    socket_group: SocketGroup | None = Field(
        default=None,
        description="Group of the socket, a name or a number; without it, the group of the process. Give the group of"
        ' a kube-apiserver that runs as another user, and set socketMode to "0660".',
    )
    kms_versions: tuple[Literal["v2", "v1beta1"], ...] = Field(
        default=("v2",),
        min_length=1,
        description="Versions of the Kubernetes KMS API to serve. Add v1beta1 only while a cluster has KMS v1 "
        "entries: there every object costs a call, and rotation is not visible.",
    )
    status_version: Literal["v2", "v2beta1"] = Field(
        default="v2",
        description="What Status answers as its version. v2beta1 for kube-apiserver 1.27 and 1.28, which accept "
        "nothing else; v2 from 1.29 on.",
    )
    epoch: Annotated[int, Field(strict=True)] = Field(
        ge=1,
        le=2**32 - 1,
        description="Counter in the key_id, from 1. Raise it by one, on all nodes, with every change of the active "
        "members, so that no key_id is used twice. Never lower it.",
    )
    soak: Duration = Field(
        default="15m",
        validate_default=True,
        description="Duration. How long a new key has to decrypt on this node before it becomes active: longer than it "
        "takes to bring a configuration to all nodes. 0s turns the check off.",
    )
    version_delay: Duration = Field(
        default="2m",
        validate_default=True,
        description="Duration. How long a new version of a key has to be named by the remote, without contradiction, "
        "before it is used: longer than its replicas lag behind each other.",
    )
    on_revoked: Literal["keep", "zeroize"] = Field(
        default="keep",
        description="What to do with the local KEKs in memory when every active key refuses for good. keep: go on, so "
        "that a mistake in a policy is no outage. zeroize: wipe them, which stops reads and writes until a "
        "key is granted again.",
    )
    members: tuple[MemberConfig, ...] = Field(
        min_length=1,
        max_length=8,
        description="The keys of this endpoint, 1 to 8, at least one active. Each active one can unwrap alone: that "
        "survives the loss of the others, and is as weak as the weakest.",
    )
    local_kek: LocalKEKConfig = Field(
        alias="localKEK", default_factory=LocalKEKConfig, description="The endpoint's local key-encryption key."
    )


class HealthConfig(Section):
    """When kube-apiserver is told that something is wrong."""

    grace: Duration = Field(
        default="1h",
        validate_default=True,
        description="Duration. How long a remote may be unreachable before Status says so. Writes and known reads go "
        "on meanwhile; a shorter grace shows an outage in /readyz sooner, and can turn it into one of the"
        " API server.",
    )
    probe_interval: Annotated[Duration, at_least("1s"), at_most("1h")] = Field(
        default="60s",
        validate_default=True,
        description="Duration from 1s to 1h. How often each key is tried in the background. Lengthen it where the "
        "remote charges per call; a revoked key is noticed that much later.",
    )


class HttpTlsConfig(Section):
    """The certificate that the listener shows."""

    cert_file: AbsolutePath = Field(
        description="PEM file of the certificate and those between it and its authority. Read again when it changes."
    )
    key_file: AbsolutePath = Field(description="PEM file of its private key.")


class HttpConfig(Section):
    """The listener for /livez, /readyz and /metrics."""

    address: ListenAddress = Field(
        default="127.0.0.1:9853",
        description='IP address and port; "" turns the listener off. Change the port where it is taken, or where two '
        "instances share a network namespace. Another address than loopback needs tls and tokenFile. Failing to bind "
        "is logged and stops nothing.",
    )
    tls: HttpTlsConfig | None = Field(default=None, description="Speak HTTPS.")
    token_file: AbsolutePath | None = Field(
        default=None,
        description="Absolute path of a file with the token that a request for anything but /livez has to bear. Read "
        "at each request.",
    )

    @model_validator(mode="after")
    def _closed_to_others(self) -> Self:
        if not is_loopback(self.address) and (self.tls is None or self.token_file is None):
            raise ValueError(
                f"{self.address} can be reached from other machines: give tls and tokenFile, or use 127.0.0.1 or [::1]"
            )
        return self


class LoggingConfig(Section):
    """What is written to standard error."""

    format: Literal["json", "console", "auto"] = Field(
        default="auto",
        description="Form of the log lines. auto is console on a terminal and json elsewhere.",
    )
    verbosity: Annotated[int, Field(strict=True)] = Field(
        default=2,
        ge=0,
        le=10,
        description="0 to 10, as kube-apiserver's -v. From 4 on every call is logged, which is much on a busy cluster.",
    )


class ObservabilityConfig(Section):
    """What Keystead tells about itself."""

    admin: AdminSocket = Field(
        default=None,
        description="Socket for `keystead status`, mode 0600, spelled as those of endpoints. Not set, it is admin.sock "
        'beside the first endpoint\'s socket; "" turns it off. It shows more than /metrics and no secret. '
        "Failing to bind is logged and stops nothing.",
    )
    http: HttpConfig = Field(default_factory=HttpConfig, description="The listener for probes and metrics.")
    logging: LoggingConfig = Field(default_factory=LoggingConfig, description="Log lines.")


def default_admin_socket(sockets: Iterable[Socket]) -> Path | None:
    """Beside the first socket that is a file, so that each process of a machine has another one."""
    for socket in sockets:
        if socket.path is not None:
            beside = socket.path.with_name("admin.sock")
            return beside if beside != socket.path else None
    return None


def _key(value: Any, info: ValidationInfo) -> ProviderConfig:
    """Validate an entry of `keys` with the model of the provider that it names."""
    if not isinstance(value, dict):
        return ProviderConfig.model_validate(value)
    base = {field: value[field] for field in ("name", "provider") if field in value}
    if not isinstance(base.get("provider"), str):
        return ProviderConfig.model_validate(base)
    lookup: ProviderLookup = (info.context or {})["provider_class"]
    try:
        provider = lookup(base["provider"])
    except ConfigError as exc:
        raise ValidationError.from_exception_data("key", [*_errors(base), _unknown_provider(base, exc)]) from None
    try:
        key: ProviderConfig = provider.config_type.model_validate(value)
    except ValidationError:
        raise
    except Exception as exc:  # a vendor's validator may raise whatever it likes
        raise ValueError(f"the check of provider {base['provider']} failed: {type(exc).__name__}: {exc}") from exc
    if key.version is not None and not provider.capabilities.has_versions:
        message = f"cannot be set: keys of {key.provider} have no versions; take it away"
        error = PydanticCustomError("version", "{message}", {"message": message})
        raise ValidationError.from_exception_data("key", [{"type": error, "loc": ("version",), "input": key.version}])
    return key


def _errors(base: dict[str, Any]) -> list[InitErrorDetails]:
    """What is wrong with an entry, as far as that can be said without knowing its provider."""
    try:
        ProviderConfig.model_validate(base)
    except ValidationError as exc:
        return [
            {
                "type": PydanticCustomError(
                    error["type"], "{message}", {**error.get("ctx", {}), "message": error["msg"]}
                ),
                "loc": error["loc"],
                "input": error["input"],
            }
            for error in exc.errors(include_url=False)
        ]
    return []


def _unknown_provider(base: dict[str, Any], exc: ConfigError) -> InitErrorDetails:
    reason = PydanticCustomError("provider", "{message}", {"message": str(exc)})
    return {"type": reason, "loc": ("provider",), "input": base["provider"]}


KeyConfig = Annotated[ProviderConfig, PlainValidator(_key)]


class Configuration(Section):
    """Configuration of one Keystead process."""

    api_version: Literal["config.keystead.dev/v1alpha1"] = Field(description="Version of this format.")
    kind: Literal["KeysteadConfiguration"] = Field(description="Name of this format.")
    cluster: ClusterLabel = Field(
        default="",
        description="Label of the cluster, up to 63 characters of a-z, 0-9, '.' and '-', bound into every record: "
        "what another cluster wrote under the same remote key is refused. May be empty only if all keys "
        "have the provider local. Choose it once; a former label goes to acceptClusters.",
    )
    accept_clusters: tuple[ClusterLabel, ...] = Field(
        default=(),
        description="Further labels whose records are decrypted. For a cluster that was renamed, or restored from a "
        "backup of another one, until everything is rewritten. A new label stands here on every node before "
        "cluster has it on any.",
    )
    state_dir: AbsolutePath | None = Field(
        default=None,
        description="Absolute path of a directory for wrapped records, which are no secrets. With it a restart needs "
        "the remote for one unwrap only and goes on with the same local KEK; without it each start makes "
        "a new one.",
    )
    keys: tuple[KeyConfig, ...] = Field(
        min_length=1, description="The remote keys. The fields of an entry depend on its provider."
    )
    endpoints: tuple[EndpointConfig, ...] = Field(
        min_length=1, description="The sockets. One per provider entry in the EncryptionConfiguration."
    )
    health: HealthConfig = Field(default_factory=HealthConfig, description="When to report trouble.")
    unwrap_timeout: Annotated[Duration, at_least("1s"), at_most("60s")] = Field(
        default="10s",
        validate_default=True,
        description="Duration from 1s to 60s. How long one unwrap by the remotes may go on in the background, after "
        "the API server's own call was answered, so that its retry finds the key. Lengthen it for a slow "
        "remote.",
    )
    observability: ObservabilityConfig = Field(
        default_factory=ObservabilityConfig, description="Metrics, probes and logs."
    )

    _digest: str = PrivateAttr(default="")

    @property
    def digest(self) -> str:
        """SHA-256 of the text that this was read from, as hexadecimal."""
        return self._digest

    @property
    def admin_socket(self) -> Path | None:
        """Where `keystead status` finds this process; `None` if nowhere."""
        observability = self.observability
        if "admin" in observability.model_fields_set:
            return observability.admin.path if observability.admin is not None else None
        return default_admin_socket(endpoint.socket for endpoint in self.endpoints)
