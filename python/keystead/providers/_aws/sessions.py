"""boto3 with nothing from the environment: its clients, and the one way to call them.

Importing this module imports the SDK.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import boto3
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

# Variables and files that would change endpoints, retries, proxies or profiles behind the configuration's back.
_NO_ENVIRONMENT = {
    name: (None, None, default, convert)
    for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
} | dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))


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


def call(client: Any, operation: str, parameters: Mapping[str, Any], secrets: Iterable[str]) -> Mapping[str, Any]:
    """Call an operation of a client and return its answer. Raises `ProviderError` whatever happens."""
    asked = f"{operation} at {host_of(client.meta.endpoint_url)}"
    method = getattr(client, _METHODS[operation])
    try:
        answer: Mapping[str, Any] = method(**parameters)
    except Unavailable as exc:
        raise Unavailable(f"{operation} at {exc}") from None
    except ProviderError:
        raise
    except ClientError as exc:
        raise refusal(asked, exc.response, secrets) from None
    except EndpointProviderError as exc:
        raise ConfigError(f"{operation}: {scrub(str(exc), secrets)}") from None
    except ParamValidationError:
        # Its text repeats the values.
        raise Misbehaved(f"{operation}: botocore refuses the parameters") from None
    except Exception as exc:  # noqa: BLE001  # a parser fed by a stranger may raise anything
        raise Unavailable(f"{asked}: not an answer of AWS ({type(exc).__name__})") from None
    return answer


_METHODS = {
    "DescribeKey": "describe_key",
    "Encrypt": "encrypt",
    "Decrypt": "decrypt",
    "AssumeRole": "assume_role",
    "AssumeRoleWithWebIdentity": "assume_role_with_web_identity",
}
