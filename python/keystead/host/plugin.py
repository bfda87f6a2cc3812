"""The whole plugin without its sockets: keys and endpoints built from a configuration, and rebuilt by a reload.

A reload goes in three steps, so that a bad one changes nothing: `prepare` makes the keys that are new, `prove` tries
them beside those in use, `commit` swaps. Only `commit` is seen by callers, and it cannot fail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from keystead.config import Configuration, EndpointConfig
from keystead.host.clocks import Clocks
from keystead.host.endpoint import Endpoint
from keystead.host.guard import Guard
from keystead.host.members import Member, Members
from keystead.host.observer import Observer
from keystead.host.prove import prove
from keystead.host.target import Target
from keystead.provider import ProviderConfig
from keystead.registry import provider_class

log = structlog.get_logger("keystead.plugin")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration with a guard for each of its keys; not in use yet."""

    config: Configuration
    guards: dict[str, tuple[ProviderConfig, Guard]]
    fresh: frozenset[str]
    """Names of the keys that are new or changed."""


class Plugin:
    """Keys and endpoints by name. `start`, then `reload` as often as the configuration changes, then `stop`."""

    def __init__(self, config: Configuration, observer: Observer, clocks: Clocks | None = None) -> None:
        self._observer = observer
        self._clocks = clocks
        self._started = False
        self._guards: dict[str, tuple[ProviderConfig, Guard]] = {}
        self._targets: dict[str, Target] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.commit(self.prepare(config))

    def start(self) -> None:
        """Start the endpoints' threads, which open keys and bring local KEKs into use."""
        self._started = True
        for endpoint in self.endpoints.values():
            endpoint.start()

    def reload(self, config: Configuration) -> None:
        """Take up a valid configuration without a trial. Raises `ConfigError` before anything is changed."""
        self.commit(self.prepare(config))

    def prepare(self, config: Configuration) -> Prepared:
        """Make the keys that are new or changed, not open yet. Raises `ConfigError` if a provider cannot be loaded."""
        made: list[Guard] = []
        guards: dict[str, tuple[ProviderConfig, Guard]] = {}
        try:
            for key in config.keys:
                known = self._guards.get(key.name)
                if known is not None and known[0] == key:
                    guards[key.name] = known
                else:
                    made.append(self._guard(key))
                    guards[key.name] = (key, made[-1])
        except BaseException:
            _close(made)
            raise
        return Prepared(config, guards, frozenset(guard.name for guard in made))

    def prove(self, prepared: Prepared) -> None:
        """Try the new and changed keys of a prepared configuration, for `unwrapTimeout` at most. Raises `Unproven`.

        Those that it keeps need no proof, nor do those that no endpoint uses, which are never opened.
        """
        stages: dict[str, set[str]] = {}
        for endpoint in prepared.config.endpoints:
            for member in endpoint.members:
                # Nobody unwraps with a recovery key, so it has nothing to prove but that it opens.
                stages.setdefault(member.key, set()).add(member.stage if member.role == "online" else member.role)
        new = {name: prepared.guards[name][1] for name in prepared.fresh if name in stages}
        active = [guard for name, guard in new.items() if "active" in stages[name]]
        others = [guard for name, guard in new.items() if "active" not in stages[name]]
        prove(active, others, prepared.config.cluster, time.monotonic() + prepared.config.unwrap_timeout)

    def discard(self, prepared: Prepared) -> None:
        """Close what `prepare` made for a configuration that will not be used."""
        _close(prepared.guards[name][1] for name in prepared.fresh)

    def commit(self, prepared: Prepared) -> None:
        """Put a prepared configuration to use. Keys and endpoints that it leaves as they were are not disturbed."""
        config = prepared.config
        kept = {id(guard) for _, guard in prepared.guards.values()}
        replaced = [guard for _, guard in self._guards.values() if id(guard) not in kept]
        self._guards = prepared.guards
        for name in sorted(prepared.fresh):
            notice = prepared.guards[name][1].notice
            if notice is not None:
                log.warning("key.notice", key=name, msg=notice)
            reads = prepared.guards[name][1].reads
            if reads is not None:
                log.warning("key.compat", key=name, reads=reads, msg="it decrypts what another plugin wrote, too")
        targets: dict[str, Target] = {}
        endpoints: dict[str, Endpoint] = {}
        for wanted in config.endpoints:
            target = self._target(config, wanted)
            endpoint = self.endpoints.get(wanted.name)
            if endpoint is None:
                state_path = config.state_dir / wanted.name if config.state_dir is not None else None
                endpoint = Endpoint(wanted.name, target, state_path, self._observer, self._clocks)
                if self._started:
                    endpoint.start()
            elif target != self._targets[wanted.name]:
                endpoint.apply(target)
            targets[wanted.name], endpoints[wanted.name] = target, endpoint
        gone = [endpoint for name, endpoint in self.endpoints.items() if name not in endpoints]
        self.endpoints, self._targets = endpoints, targets
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

    def _guard(self, key: ProviderConfig) -> Guard:
        provider = provider_class(key.provider)
        return Guard(key, lambda: provider(key), self._observer)

    def _target(self, config: Configuration, wanted: EndpointConfig) -> Target:
        members = tuple(
            Member(self._guards[member.key][1], active=member.stage == "active", online=member.role == "online")
            for member in wanted.members
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
            soak=wanted.soak,
            version_delay=wanted.version_delay,
            zeroize=wanted.on_revoked == "zeroize",
            record_file=wanted.local_kek.record_file,
        )


def _close(guards: Iterable[Guard]) -> None:
    for guard in guards:
        guard.close()
