"""The SDK's client over a channel or a session of our own. Importing this module imports the SDK.

The channel notices that the service is back within about a second, where the SDK's own one waits longer after each
attempt; neither reads proxies from the environment.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc
from google.api_core.gapic_v1.client_info import ClientInfo
from google.auth.credentials import AnonymousCredentials
from google.cloud.kms_v1 import KeyManagementServiceClient
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcTransport,
    KeyManagementServiceRestTransport,
)

from keystead.provider import ConfigError
from keystead.providers._gcp.config import GcpKmsConfig
from keystead.providers._gcp.http import Session

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # In spite of its name, the time that one attempt to connect has, TLS included.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 1 << 20),
    # Channels to one address otherwise share a connection, and its state after an outage.
    ("grpc.use_local_subchannel_pool", 1),
)
_LOGGERS = ("google.cloud.kms_v1", "google.auth", "google.api_core")


def make_client(config: GcpKmsConfig, session: Session) -> KeyManagementServiceClient:
    """Return a client that sends nothing yet, and no credentials but those of a call's metadata."""
    _keep_secrets_out_of_logs()
    roots = None if config.caFile is None else _authorities(config.caFile)
    if config.transport == "rest":
        transport = _RestTransport(config.endpoint, session)
        return KeyManagementServiceClient(transport=transport)
    return KeyManagementServiceClient(transport=KeyManagementServiceGrpcTransport(channel=_channel(config, roots)))


def _authorities(file: Path) -> bytes:
    """Return the content of a file of CAs. An unusable one would otherwise show as a service that is not reachable."""
    try:
        ssl.create_default_context(cafile=str(file))
        return file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"caFile {file} is not usable: {exc.strerror}") from None


def _channel(config: GcpKmsConfig, roots: bytes | None) -> grpc.Channel:
    proxy: tuple[str, str | int] = ("grpc.enable_http_proxy", 0)
    if config.proxy is not None:
        proxy = ("grpc.http_proxy", config.proxy)
    return grpc.secure_channel(
        config.endpoint, grpc.ssl_channel_credentials(root_certificates=roots), options=[*CHANNEL_OPTIONS, proxy]
    )


class _RestTransport(KeyManagementServiceRestTransport):
    """The SDK's transport with a session that ends each request in time and repeats none."""

    def __init__(self, endpoint: str, session: Session) -> None:
        super().__init__(host=endpoint, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        self._session = session  # type: ignore[assignment]  # it calls get and post only
        # The methods that its base has prepared are looked up by their session.
        self._prep_wrapped_messages(ClientInfo())  # type: ignore[no-untyped-call]


def _keep_secrets_out_of_logs() -> None:
    """Hold the SDK's loggers above DEBUG, where they write whole requests and answers with plaintexts and tokens."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.INFO, logger.level))
