"""Makes a record for nodes that are to share a local KEK: the content of a file to be placed on all of them."""

from __future__ import annotations

import time

from keystead._core import StateFile
from keystead.config import Configuration, EndpointConfig
from keystead.host.guard import Guard
from keystead.host.members import Member, Members
from keystead.host.mint import mint
from keystead.provider import ProviderConfig
from keystead.registry import provider_class


def make(config: Configuration, endpoint: EndpointConfig) -> StateFile:
    """Wrap a new local KEK under every active key of the endpoint, and unwrap it through each that is online.

    The KEK itself is forgotten at once: whoever needs it unwraps it. Raises the `KeysteadError` of the first key that
    fails, after `unwrapTimeout` at most, and then there is nothing to place.
    """
    keys = {key.name: key for key in config.keys}
    members = tuple(
        Member(_guard(keys[member.key]), active=True, online=member.role == "online")
        for member in endpoint.members
        if member.stage == "active"
    )
    try:
        deadline = time.monotonic() + config.unwrap_timeout
        record, _ = mint(Members(members), config.cluster, {}, time.time, deadline)
    finally:
        for member in members:
            member.guard.close()
    return StateFile(record.key_id(endpoint.epoch), record)


def _guard(key: ProviderConfig) -> Guard:
    provider = provider_class(key.provider)
    return Guard(key, lambda: provider(key))
