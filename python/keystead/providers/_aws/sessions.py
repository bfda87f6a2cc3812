"""boto3 with nothing from the environment: its clients, and the one way to call them.

Importing this module imports the SDK.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointProviderError, ParamValidationError

from keystead.provider import ConfigError, Misbehaved, ProviderError, Unavailable
from keystead.providers._aws.answers import refusal, scrub
from keystead.providers._aws.config import AwsKmsConfig
from keystead.providers._aws.http import Transport, host_of

# At DEBUG botocore prints requests and answers, which hold keys in the clear. Whatever level the rest of the process
# logs at, its loggers say nothing: all that matters is in the errors.
logging.getLogger("botocore").setLevel(logging.CRITICAL)

REGIONAL_STS = {"sts_regional_endpoints": "regional"}
"""An older botocore calls one STS for the whole world unless told otherwise."""

# Variables and files that would change endpoints, retries, proxies or profiles behind the configuration's back.
_FIXED = {"config_file": os.devnull, "credentials_file": os.devnull, **REGIONAL_STS}
_NO_ENVIRONMENT = {
    name: (None, None, _FIXED.get(name, default), convert)
    for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
}

# Descriptions of services and endpoints, read once for all sessions.
_DATA = botocore.loaders.create_loader()


def client_config(config: AwsKmsConfig, **more: Any) -> Config:
    """Return what all clients have in common. The host of a provider retries, so botocore does not."""
    return Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        ignore_configured_endpoint_urls=True,
        use_fips_endpoint=config.fips,
        use_dualstack_endpoint=config.dualStack,
        user_agent_extra="keystead",
        **more,
    )


class _Provided:
    """In place of botocore's chain of credential providers: those that are given."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def make_client(
    service: str,
    config: AwsKmsConfig,
    transport: Transport,
    *,
    region: str,
    endpoint: str | None,
    credentials: Any,
    **more: Any,
) -> Any:
    """Make a client that signs with `credentials` and sends by `transport`."""
    session = botocore.session.Session(session_vars=_NO_ENVIRONMENT)
    session.register_component("data_loader", _DATA)
    session.register_component("credential_provider", _Provided(credentials))
    send_by(session, transport)
    try:
        return boto3.Session(botocore_session=session).client(
            service, region_name=region, endpoint_url=endpoint, config=client_config(config, **more)
        )
    except (BotoCoreError, ValueError) as exc:
        raise ConfigError(f"no client for {service} in {region}: {scrub(str(exc), ())}") from None


def send_by(session: Any, transport: Transport) -> None:
    """Have all clients of a botocore session send by `transport`."""
    session.register("before-send", lambda request, **_: transport.send(request))


def call(client: Any, operation: str, parameters: Mapping[str, Any], secrets: Collection[str]) -> Mapping[str, Any]:
    """Call an operation of a client and return its answer. Raises `ProviderError` whatever happens."""
    outcome = _outcome(client, operation, parameters, secrets)
    if isinstance(outcome, ProviderError):
        raise outcome  # here, where botocore's own exception is not being handled and so is not its context
    return outcome


def _outcome(
    client: Any, operation: str, parameters: Mapping[str, Any], secrets: Collection[str]
) -> Mapping[str, Any] | ProviderError:
    asked = f"{operation} at {host_of(client.meta.endpoint_url)}"
    method = getattr(client, _METHODS[operation])
    try:
        answer: Mapping[str, Any] = method(**parameters)
    except Unavailable as exc:
        return Unavailable(f"{operation} at {exc}")
    except ProviderError as exc:
        return exc
    except ClientError as exc:
        return refusal(asked, exc.response, secrets)
    except EndpointProviderError as exc:
        return ConfigError(f"{operation}: {scrub(str(exc), secrets)}")
    except ParamValidationError:
        # Its text repeats the values.
        return Misbehaved(f"{operation}: botocore refuses the parameters")
    except Exception as exc:  # noqa: BLE001  # a parser fed by a stranger may raise anything
        return Unavailable(f"{asked}: not an answer of AWS ({type(exc).__name__})")
    return answer


_METHODS = {
    "DescribeKey": "describe_key",
    "Encrypt": "encrypt",
    "Decrypt": "decrypt",
    "AssumeRole": "assume_role",
    "AssumeRoleWithWebIdentity": "assume_role_with_web_identity",
}
