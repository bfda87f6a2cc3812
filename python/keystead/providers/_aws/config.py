"""The configuration of the provider `aws-kms`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from keystead.provider import ProviderConfig

_KEY_ARN = re.compile(r"(arn:aws[a-z-]{0,16}:kms):([a-z0-9-]{0,32}):([0-9]{12}):key/([a-z0-9-]{1,64})")
_ROLE_ARN = r"^arn:aws[a-z-]{0,16}:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}$"
_REGION = r"^[a-z]{2,8}(-[a-z]{2,16}){1,2}-[0-9]{1,2}$"
_PROFILE = r"^[A-Za-z0-9_.@+/-]{1,128}$"


def _key_id(value: str) -> str:
    if _KEY_ARN.fullmatch(value):
        return value
    if value.startswith("alias/") or ":alias/" in value:
        raise ValueError(
            "is an alias, which can be pointed at another key while records still need this one: "
            "write the key's ARN, which `aws kms describe-key` shows"
        )
    if re.fullmatch(r"[A-Za-z0-9-]{1,64}", value):
        raise ValueError(
            "is an id alone, which names neither account nor region: write the key's ARN, "
            "which `aws kms describe-key` shows"
        )
    raise ValueError("should be a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID")


def _url(value: str) -> str:
    """Return `scheme://host[:port]`. There is no room for a password: secrets are in files only."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+/?", value):
        raise ValueError("should be https://host:port, without a path and without a password")
    parts = urlsplit(value)
    if not parts.hostname:
        raise ValueError("should be https://host:port, and has no host")
    _ = parts.port  # raises ValueError for a port that is not a number up to 65535
    return value.rstrip("/").lower()


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("should be an absolute path")
    return path


KeyID = Annotated[str, AfterValidator(_key_id), Field(json_schema_extra={"pattern": f"^{_KEY_ARN.pattern}$"})]
Url = Annotated[str, AfterValidator(_url), Field(json_schema_extra={"pattern": "^https?://"})]
File = Annotated[Path, AfterValidator(_absolute)]
Region = Annotated[str, Field(pattern=_REGION)]
Profile = Annotated[str, Field(pattern=_PROFILE)]
RoleARN = Annotated[str, Field(pattern=_ROLE_ARN)]
SessionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9+=,.@_-]{2,64}$")]

ROLE = "ARN of the role to assume."
SESSION = "Name of the role's session, which CloudTrail shows."


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AssumeRole(_Section):
    """A role that is assumed with other credentials."""

    roleARN: RoleARN = Field(description=ROLE)
    externalIDFile: File | None = Field(
        default=None, description="File that holds the external ID that the role's trust policy asks for."
    )
    sessionName: SessionName = Field(default="keystead", description=SESSION)
    sourceProfile: Profile | None = Field(
        default=None,
        description="Profile whose credentials may assume the role. Without it, and without sharedCredentialsFile, "
        "the default chain.",
    )


class WebIdentity(_Section):
    """A role that is assumed with the token of an OpenID Connect provider."""

    roleARN: RoleARN = Field(description=ROLE)
    tokenFile: File = Field(description="File that holds the token. Read each time the role is assumed.")
    sessionName: SessionName = Field(default="keystead", description=SESSION)


class Compat(_Section):
    """Another KMS plugin, whose ciphertexts are read until they are rewritten."""

    reader: Literal["aws-encryption-provider"] = Field(description="Name of the plugin.")
    encryptionContext: dict[str, str] | None = Field(
        default=None,
        max_length=16,
        description="What the plugin was given as --encryption-context. Without it, none.",
    )

    @model_validator(mode="after")
    def _is_not_ours(self) -> Self:
        if any(name.startswith("keystead:") for name in self.encryptionContext or ()):
            raise ValueError("encryptionContext names a pair of Keystead's own wraps, which a reader must never open")
        return self


class AwsKmsConfig(ProviderConfig):
    """A symmetric key of AWS KMS."""

    provider: Literal["aws-kms"]
    keyID: KeyID = Field(
        description="ARN of the key. Aliases and bare ids are refused. The region may be empty for a multi-Region key."
    )
    region: Region | None = Field(
        default=None,
        description="Region to call. The ARN's unless set; another one is possible for a multi-Region key only.",
    )
    regions: tuple[Region, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="Regions of a multi-Region key (mrk-), instead of region. They are tried in this order.",
    )
    endpoint: Url | None = Field(
        default=None, description="Address of KMS, such as that of a VPC endpoint without private DNS."
    )
    stsEndpoint: Url | None = Field(
        default=None, description="Address of STS, for assumeRole and webIdentity. The region's own unless set."
    )
    fips: bool = Field(default=False, strict=True, description="Call the FIPS endpoints of the region.")
    dualStack: bool = Field(default=False, strict=True, description="Call the endpoints that have IPv6 as well.")
    profile: Profile | None = Field(
        default=None,
        description="Profile whose credentials are used, and no others. In the user's own files unless "
        "sharedCredentialsFile is set.",
    )
    sharedCredentialsFile: File | None = Field(
        default=None,
        description="File with the credentials of profiles, used instead of the user's own files. Read again when it "
        "changes.",
    )
    assumeRole: AssumeRole | None = Field(default=None, description="A role to assume with other credentials.")
    webIdentity: WebIdentity | None = Field(default=None, description="A role to assume with an OIDC token.")
    proxy: Url | None = Field(
        default=None, description="HTTP proxy to KMS and STS. Proxies of the environment are ignored."
    )
    caFile: File | None = Field(
        default=None,
        description="PEM file of the CAs that may sign the certificates of KMS, STS and the proxy. Without it, those "
        "that boto3 brings.",
    )

    compat: Compat | None = Field(
        default=None,
        description="Read also what another plugin wrote with this key, in the endpoints that have it as a member. "
        "Take it away once everything is rewritten.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_regions()
        if self.endpoint is not None and (self.fips or self.dualStack):
            raise ValueError("endpoint is called as it is: remove fips and dualStack, or endpoint")
        if self.webIdentity is not None and (self.assumeRole or self.profile or self.sharedCredentialsFile):
            raise ValueError(
                "webIdentity needs no other credentials: remove assumeRole, profile, sharedCredentialsFile"
            )
        if self.assumeRole is not None and self.profile is not None:
            raise ValueError("write the profile that may assume the role as assumeRole.sourceProfile")
        if self.stsEndpoint is not None:
            if self.assumeRole is None and self.webIdentity is None:
                raise ValueError("stsEndpoint needs assumeRole or webIdentity")
            if self.fips or self.dualStack:
                raise ValueError("stsEndpoint is called as it is: remove fips and dualStack, or stsEndpoint")
        return self

    def _check_regions(self) -> None:
        home = self.arn[1]
        if self.region is not None and self.regions is not None:
            raise ValueError("give either region or regions")
        if self.is_multi_region:
            if not self.called_regions:
                raise ValueError("keyID has no region: give region or regions")
        elif not home:
            raise ValueError("keyID has no region, which only the ARN of a multi-Region key (mrk-) can do without")
        elif self.regions is not None:
            raise ValueError("regions is for multi-Region keys, whose id begins with mrk-")
        elif self.region not in (None, home):
            raise ValueError(f"region is {self.region}, but the key is in {home}")
        if len(set(self.called_regions)) != len(self.called_regions):
            raise ValueError("regions names a region twice")
        if self.endpoint is not None and len(self.called_regions) > 1:
            raise ValueError("endpoint is the address of one region: give one region")

    @property
    def arn(self) -> tuple[str, str, str, str]:
        """The parts of the ARN: what it begins with, region, account, and the key's id."""
        match = _KEY_ARN.fullmatch(self.keyID)
        assert match is not None  # noqa: S101  # the field's own check
        return match[1], match[2], match[3], match[4]

    @property
    def is_multi_region(self) -> bool:
        """The key may exist in several regions with one id and one material."""
        return self.arn[3].startswith("mrk-")

    @property
    def called_regions(self) -> tuple[str, ...]:
        """The regions in the order in which they are tried."""
        if self.regions is not None:
            return self.regions
        one = self.region or self.arn[1]
        return (one,) if one else ()

    def is_named(self, arn: str) -> bool:
        """Whether this is the key's ARN, in any of its regions if it has several."""
        match = _KEY_ARN.fullmatch(arn)
        if match is None or (match[1], match[3], match[4]) != (self.arn[0], *self.arn[2:]):
            return False
        return self.is_multi_region or match[2] == self.arn[1]

    def key_in(self, region: str) -> str:
        """The key's ARN in one of its regions."""
        head, _, account, key = self.arn
        return f"{head}:{region}:{account}:key/{key}"

    @property
    def ref(self) -> str:
        """What records call the key. A multi-Region key has one name, whichever region wrapped."""
        return self.key_in("") if self.is_multi_region else self.keyID

    @property
    def notice(self) -> str | None:
        """What an operator has to know before relying on this configuration."""
        notices = []
        if self.webIdentity is not None:
            notices.append(
                "webIdentity needs a token. If it is issued by the cluster whose API server waits for this plugin, "
                "neither can start: take the token from elsewhere"
            )
        if exposed := [url for url in (self.endpoint, self.stsEndpoint) if url is not None and _is_exposed(url)]:
            notices.append(f"{', '.join(exposed)} is not https: keys and tokens cross the network in the clear")
        return "; ".join(notices) or None


def _is_exposed(address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
