"""Calls of KMS for one key, in the regions where it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from keystead.provider import Misbehaved, Unauthenticated, Unavailable
from keystead.providers._aws.answers import request_id
from keystead.providers._aws.config import AwsKmsConfig
from keystead.providers._aws.credentials import Credentials
from keystead.providers._aws.http import Transport, host_of, until
from keystead.providers._aws.regions import Regions
from keystead.providers._aws.sessions import call, make_client
from keystead.providers._aws.sources import source


class Kms:
    """The client of one key. Safe to use from many threads."""

    def __init__(self, config: AwsKmsConfig) -> None:
        self._config = config
        self._transport = Transport(config.proxy, config.caFile)
        self._credentials = Credentials(source(config, self._transport))
        self._regions = Regions(config.called_regions)
        self._clients = {
            region: make_client(
                "kms",
                config,
                self._transport,
                region=region,
                endpoint=config.endpoint,
                credentials=self._credentials,
            )
            for region in config.called_regions
        }

    def call(self, operation: str, deadline: float, **parameters: Any) -> Answer:
        """Call an operation on the key. The answer names this key: another one's is refused."""
        lease = self._credentials.valid(deadline)
        try:
            answer = self._ask(operation, deadline, parameters)
        except Unauthenticated as exc:
            refused = exc
        else:
            self._credentials.renew_if_due(deadline)
            return answer
        if not self._credentials.replaced(lease, deadline):
            raise refused
        return self._ask(operation, deadline, parameters)

    @property
    def credentials(self) -> Credentials:
        """What signs the calls."""
        return self._credentials

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _ask(self, operation: str, deadline: float, parameters: Mapping[str, Any]) -> Answer:
        secrets = [base64.b64encode(value).decode() for value in parameters.values() if isinstance(value, bytes)]

        def ask(region: str, deadline: float) -> Answer:
            client, key = self._clients[region], self._config.key_in(region)
            with until(deadline):
                said = call(client, operation, {"KeyId": key, **parameters}, [*secrets, *self._credentials.secrets()])
            return Answer(said, f"{operation} at {host_of(client.meta.endpoint_url)}", key)

        return self._regions.ask(deadline, ask)


class Answer:
    """What KMS answered with success."""

    def __init__(self, said: Mapping[str, Any], asked: str, key: str) -> None:
        self._said = said
        self._asked = asked
        named = said.get("KeyId") or self.section("KeyMetadata").get("Arn")
        if named is None and not request_id(said.get("ResponseMetadata")):
            raise Unavailable(f"{asked}: something else than AWS answers there")
        if named != key:
            raise self.misbehaved("for another key than the one asked for" if named else "without the key's name")

    def section(self, name: str) -> Mapping[str, Any]:
        """Return the object `name`, which is empty if there is none."""
        value = self._said.get(name)
        return value if isinstance(value, Mapping) else {}

    def content(self, name: str) -> bytes:
        """Return the bytes of field `name`."""
        value = self._said.get(name)
        if not isinstance(value, bytes) or not value:
            raise self.misbehaved(f"without {name}")
        return value

    def misbehaved(self, what: str) -> Misbehaved:
        """Say that a successful answer cannot be right."""
        return Misbehaved(f"{self._asked} answered {what}{request_id(self._said.get('ResponseMetadata'))}")
