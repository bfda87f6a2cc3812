"""Where credentials come from: the chain of environment, files and instance, and the roles that are assumed."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.credentials import ProcessProvider, ReadOnlyCredentials, create_credential_resolver
from botocore.exceptions import BotoCoreError, ClientError

from keystead.provider import ProviderError, Throttled, Unauthenticated, Unavailable
from keystead.providers._aws.answers import refusal, scrub
from keystead.providers._aws.config import AssumeRole, AwsKmsConfig, WebIdentity
from keystead.providers._aws.credentials import Grant, Source
from keystead.providers._aws.http import Transport, time_left, until
from keystead.providers._aws.metadata import from_instance
from keystead.providers._aws.regions import Regions
from keystead.providers._aws.sessions import REGIONAL_STS, call, client_config, make_client, send_by
from keystead.providers._files import stamp

LOOK_AGAIN_SECONDS = 60.0
"""How often environment, files and instance are looked at again: botocore does not tell when they end."""
INSTANCE_SECONDS = 2.0
"""The longest that the instance is waited for, which answers in milliseconds."""
_MAX_SECRET = 1 << 16

# In botocore's words. Left out: files of other SDKs, logins that a person has to renew, and metadata services, whose
# clients keep to no deadline; the one of EC2 has its own.
_OF_A_PROFILE = frozenset(
    {"assume-role", "assume-role-with-web-identity", "shared-credentials-file", "config-file", "custom-process"}
)


def source(config: AwsKmsConfig, transport: Transport) -> Source:
    """Return where the configured credentials come from."""
    if config.webIdentity is not None:
        return _WebIdentitySource(config, config.webIdentity, transport)
    if config.assumeRole is not None:
        chain = _Chain(config, config.assumeRole.sourceProfile, transport)
        return _RoleSource(config, config.assumeRole, chain, transport)
    return _Chain(config, config.profile, transport)


class _Chain:
    """botocore's own chain: of one profile if there is one, else of the environment, files and the instance."""

    def __init__(self, config: AwsKmsConfig, profile: str | None, transport: Transport) -> None:
        self._config = config
        self._file = config.sharedCredentialsFile
        self._profile = profile or ("default" if self._file is not None else None)
        self._transport = transport
        self._cache: dict[str, Any] = {}  # of roles that a profile assumes; botocore's, and it looks at their ends

    def stamp(self) -> object:
        return stamp(self._file)

    def fetch(self, deadline: float) -> Grant:
        try:
            return self._find(deadline)
        except ProviderError as exc:
            failure = type(exc)(f"credentials: {exc}")
        except ClientError as exc:
            failure = _rejected(refusal(f"profile {self._profile or 'default'}", exc.response))
        except (BotoCoreError, OSError) as exc:
            failure = Unauthenticated(f"credentials: {scrub(str(exc), ())}{self._where()}")
        except Exception as exc:  # noqa: BLE001  # files and commands that others wrote
            failure = Unauthenticated(f"credentials: {type(exc).__name__}{self._where()}")
        raise failure  # here, where the exception that it is made from is not its context

    def _find(self, deadline: float) -> Grant:
        with until(deadline):
            keys = self._load()
        if keys is not None:
            return Grant(keys, renew_after=LOOK_AGAIN_SECONDS)
        if self._profile is not None:
            raise Unauthenticated(f"profile {self._profile} has none{self._where()}")
        with until(min(deadline, time.monotonic() + INSTANCE_SECONDS)):
            return from_instance(self._direct)

    @functools.cached_property
    def _direct(self) -> Transport:
        """To the instance itself, past any proxy."""
        return Transport()

    def _load(self) -> Any:
        session = botocore.session.Session(profile=self._profile)
        if self._file is not None:
            with self._file.open("rb"):
                pass  # botocore takes a file that it cannot read for an empty one
            session.set_config_variable("credentials_file", str(self._file))
            session.set_config_variable("config_file", os.devnull)
        for name, value in REGIONAL_STS.items():
            session.set_config_variable(name, value)
        session.set_default_client_config(client_config(self._config))
        send_by(session, self._transport)
        chain = create_credential_resolver(session, self._cache, self._config.called_regions[0])
        allowed = _OF_A_PROFILE if self._profile is not None else _OF_A_PROFILE | {"env"}
        chain.providers = [_bounded(one, session) for one in chain.providers if one.METHOD in allowed]
        found = chain.load_credentials()
        return None if found is None else found.get_frozen_credentials()

    def _where(self) -> str:
        return f" in {self._file}" if self._file is not None else ""


def _bounded(provider: Any, session: Any) -> Any:
    """Put a provider that ends its command in time in place of the one that waits for ever."""
    if provider.METHOD != ProcessProvider.METHOD:
        return provider
    profile = session.get_config_variable("profile") or "default"
    return ProcessProvider(profile, lambda: session.full_config, popen=_Command)


class _Command(subprocess.Popen[bytes]):
    """A profile's `credential_process`, which has the time that the call has."""

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002  # subprocess's name
        try:
            return super().communicate(input, timeout=max(0.0, time_left()) if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            super().communicate()
            raise Unavailable("credential_process gave no answer in time") from None


class _StsSource:
    """What the ways to assume a role have in common."""

    def __init__(self, config: AwsKmsConfig, transport: Transport) -> None:
        self._config = config
        self._transport = transport
        # One address is of one region, whatever it is called.
        self._regions = Regions(config.called_regions[:1] if config.stsEndpoint else config.called_regions)

    def _assume(
        self, operation: str, parameters: dict[str, str], deadline: float, secrets: list[str], **how: Any
    ) -> Grant:
        def ask(region: str, deadline: float) -> Any:
            client = make_client(
                "sts", self._config, self._transport, region=region, endpoint=self._config.stsEndpoint, **how
            )
            with until(deadline):
                return call(client, operation, parameters, secrets)

        try:
            answer = self._regions.ask(deadline, ask)
        except ProviderError as exc:
            raise _rejected(exc) from None
        try:
            found = answer["Credentials"]
            keys = ReadOnlyCredentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
            return Grant(keys, found["Expiration"].timestamp())
        except (KeyError, TypeError, AttributeError):
            raise Unavailable(f"credentials: {operation} answered without credentials") from None


class _RoleSource(_StsSource):
    """A role that is assumed with the credentials of the chain."""

    def __init__(self, config: AwsKmsConfig, role: AssumeRole, chain: _Chain, transport: Transport) -> None:
        super().__init__(config, transport)
        self._role = role
        self._chain = chain

    def stamp(self) -> object:
        return self._chain.stamp(), stamp(self._role.externalIDFile)

    def fetch(self, deadline: float) -> Grant:
        parameters = {"RoleArn": self._role.roleARN, "RoleSessionName": self._role.sessionName}
        if self._role.externalIDFile is not None:
            parameters["ExternalId"] = _read(self._role.externalIDFile)
        base = self._chain.fetch(deadline)
        secrets = [parameters.get("ExternalId", ""), base.keys.secret_key, base.keys.token or ""]
        return self._assume("AssumeRole", parameters, deadline, secrets, credentials=_Fixed(base.keys))


class _WebIdentitySource(_StsSource):
    """A role that is assumed with a token from a file. Nothing is signed."""

    def __init__(self, config: AwsKmsConfig, role: WebIdentity, transport: Transport) -> None:
        super().__init__(config, transport)
        self._role = role

    def stamp(self) -> object:
        return stamp(self._role.tokenFile)

    def fetch(self, deadline: float) -> Grant:
        token = _read(self._role.tokenFile)
        parameters = {
            "RoleArn": self._role.roleARN,
            "RoleSessionName": self._role.sessionName,
            "WebIdentityToken": token,
        }
        return self._assume(
            "AssumeRoleWithWebIdentity", parameters, deadline, [token], credentials=None, signature_version=UNSIGNED
        )


class _Fixed:
    """Credentials for one call, in the form that botocore signs with."""

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    def get_frozen_credentials(self) -> Any:
        return self._keys

    def get_deferred_property(self, name: str) -> Any:  # noqa: ARG002  # botocore's signature
        return lambda: None


def _rejected(error: ProviderError) -> ProviderError:
    """Whatever STS refuses is a matter of credentials, unless it only cannot answer now."""
    kind = type(error) if isinstance(error, Unavailable | Throttled) else Unauthenticated
    return kind(f"credentials: {error}")


def _read(file: Path) -> str:
    """Return the one line of a secret's file. Raises `Unauthenticated`, whose text has nothing of the content."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_SECRET + 1)
    except OSError as exc:
        raise Unauthenticated(f"credentials: cannot read {file}: {exc.strerror}") from None
    text = content.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[!-~]+", text) or len(content) > _MAX_SECRET:
        raise Unauthenticated(
            f"credentials: {file} should hold one secret of printable ASCII, and holds {len(content)} bytes"
        )
    return text
