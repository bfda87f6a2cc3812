"""The whole plugin without its sockets: keys and endpoints built from a configuration, and rebuilt by a reload."""

from __future__ import annotations

import threading

import structlog

from keystead.config import Configuration, EndpointConfig
from keystead.host.clocks import Clocks
from keystead.host.endpoint import Endpoint
from keystead.host.guard import Guard
from keystead.host.members import Member, Members
from keystead.host.observer import Observer
from keystead.host.target import Target
from keystead.provider import ProviderConfig
from keystead.registry import provider_class

log = structlog.get_logger("keystead.plugin")


class Plugin:
    """Keys and endpoints by name. `start`, then `reload` as often as the configuration changes, then `stop`."""

    def __init__(self, config: Configuration, observer: Observer, clocks: Clocks | None = None) -> None:
        self._observer = observer
        self._clocks = clocks
        self._started = False
        self._guards: dict[str, tuple[ProviderConfig, Guard]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.reload(config)

    def start(self) -> None:
        """Start the endpoints' threads, which open keys and bring local KEKs into use."""
        self._started = True
        for endpoint in self.endpoints.values():
            endpoint.start()

    def reload(self, config: Configuration) -> None:
        """Take up a valid configuration. Keys and endpoints that it leaves as they were are not disturbed.

        Raises `ConfigError` before anything is changed if a provider cannot be loaded.
        """
        guards = {key.name: (key, self._guard_for(key)) for key in config.keys}
        kept = {id(guard) for _, guard in guards.values()}
        replaced = [guard for _, guard in self._guards.values() if id(guard) not in kept]
        self._guards = guards
        endpoints: dict[str, Endpoint] = {}
        for wanted in config.endpoints:
            target = self._target(config, wanted)
            endpoint = self.endpoints.get(wanted.name)
            if endpoint is None:
                state_path = config.state_dir / wanted.name if config.state_dir is not None else None
                endpoint = Endpoint(wanted.name, target, state_path, self._observer, self._clocks)
                if self._started:
                    endpoint.start()
            else:
                endpoint.apply(target)
            endpoints[wanted.name] = endpoint
        gone = [endpoint for name, endpoint in self.endpoints.items() if name not in endpoints]
        self.endpoints = endpoints
        for endpoint in gone:
            endpoint.stop()
        for guard in replaced:
            # Flights that began with the old key may end with it.
            closing = threading.Timer(config.unwrap_timeout + 1, guard.close)
            closing.daemon = True
            closing.start()

    def stop(self) -> None:
        """Stop the endpoints and close the keys."""
        for endpoint in self.endpoints.values():
            endpoint.stop()
        for _, guard in self._guards.values():
            guard.close()

    def _guard_for(self, key: ProviderConfig) -> Guard:
        if key.name in self._guards and self._guards[key.name][0] == key:
            return self._guards[key.name][1]
        provider = provider_class(key.provider)
        guard = Guard(key, lambda: provider(key), self._observer)
        if guard.notice is not None:
            log.warning("key.notice", key=key.name, msg=guard.notice)
        return guard

    def _target(self, config: Configuration, wanted: EndpointConfig) -> Target:
        members = tuple(
            Member(self._guards[member.key][1], active=member.stage == "active") for member in wanted.members
        )
        return Target(
            cluster=config.cluster,
            accept_clusters=(config.cluster, *config.accept_clusters),
            epoch=wanted.epoch,
            members=Members(members),
            status_version=wanted.status_version,
            max_age=wanted.local_kek.max_age,
            unwrap_timeout=config.unwrap_timeout,
            grace=config.health.grace,
            probe_interval=config.health.probe_interval,
        )
