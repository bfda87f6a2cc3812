"""Every socket of the process: which is open, and which endpoint answers on it.

A socket is known by its address. It stays open under its connections whatever else a reload changes: who may connect,
which versions it speaks, even which endpoint is behind it. `prepare` does all that can fail, and takes it back if one
thing does; the `Change` that it returns cannot fail.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from keystead.config import EndpointConfig
from keystead.host.endpoint import Endpoint
from keystead.server import sockets
from keystead.server.listener import Listener, log_failure
from keystead.server.metrics import Metrics
from keystead.server.repeats import Repeats
from keystead.server.services import methods

DRAIN = 5.0
"""Seconds that calls under way get to end when their socket is closed."""

log = structlog.get_logger("keystead.server")


@dataclass(slots=True)
class _Open:
    """One socket that is bound."""

    listener: Listener
    placed: sockets.Placed | None
    config: EndpointConfig
    started: bool = False

    def close(self) -> Callable[[], object]:
        """Refuse new calls and take the path away; call the answer to wait for those under way."""
        if not self.started:
            # A server that never started keeps what it bound.
            self.listener.start()
        wait = self.listener.stop(DRAIN)
        if self.placed is not None:
            self.placed.remove()
        return wait


@dataclass(frozen=True, slots=True)
class Change:
    """Sockets for the endpoints of a new configuration, bound and not yet served."""

    opened: Mapping[str, _Open]
    """By address."""
    endpoints: Sequence[tuple[str, EndpointConfig]]
    """Each with the address of its socket."""


class Front:
    """The sockets. `prepare` and `commit` at the start and at each reload, `close` in the end."""

    def __init__(self, metrics: Metrics, *, take_over: bool = False) -> None:
        self._metrics = metrics
        self._failures = Repeats(log_failure)
        self._take_over = take_over
        self._open: dict[str, _Open] = {}
        self._leaving: list[Callable[[], object]] = []

    def prepare(self, endpoints: Sequence[EndpointConfig]) -> Change:
        """Bind what is new and set who may connect. Raises `SocketRefused`, and then nothing has changed."""
        opened: dict[str, _Open] = {}
        addressed: dict[str, EndpointConfig] = {}
        with contextlib.ExitStack() as undo:
            for config in endpoints:
                address = _address(config)
                if address in addressed:
                    raise sockets.SocketRefused(
                        f"the sockets of the endpoints {addressed[address].name} and {config.name} are one file"
                    )
                addressed[address] = config
                known = self._open.get(address)
                if known is None:
                    opened[address] = self._bind(config)
                    undo.callback(opened[address].close)
                elif known.placed is not None and _permissions(known.config) != _permissions(config):
                    restore = known.placed.permit(config.socket_mode, config.socket_group)
                    undo.callback(_quietly, restore)
            undo.pop_all()
        return Change(opened, tuple(addressed.items()))

    def commit(self, change: Change, endpoints: Mapping[str, Endpoint], *, log_calls: bool) -> None:
        """Serve these endpoints on the sockets of a change; close the sockets that it does not have."""
        before, self._open = self._open, {}
        for address, config in change.endpoints:
            served = before.pop(address, None) or change.opened[address]
            served.config = config
            table = methods(endpoints[config.name], config.kms_versions)
            served.listener.serve(config.name, table, log_calls=log_calls)
            if not served.started:
                served.listener.start()
                served.started = True
                versions = list(config.kms_versions)
                log.info("endpoint.listening", endpoint=config.name, socket=config.socket.uri, kms=versions)
            self._open[address] = served
        self._leaving = [one.close() for one in before.values()]

    def flush(self) -> None:
        """Tell in the log how often calls have failed in a way that was told before. To be called now and then."""
        self._failures.flush()

    def drain(self) -> None:
        """Wait until the calls on closed sockets have ended, for 5 s at most."""
        for wait in self._leaving:
            wait()

    def close(self) -> None:
        """Close every socket, and wait for the calls under way, for 5 s at most."""
        self._leaving += [one.close() for one in self._open.values()]
        self._open = {}
        self.drain()

    def _bind(self, config: EndpointConfig) -> _Open:
        listener = Listener(config.name, self._metrics, self._failures)
        placed = None
        try:
            if config.socket.abstract is not None:
                warning = "an abstract socket has no permissions: every process in this network namespace can decrypt"
                log.warning("socket.exposed", endpoint=config.name, msg=warning)
                listener.bind(f"unix-abstract:{config.socket.abstract}")
            else:
                placed = self._bind_path(config, listener)
        except RuntimeError as exc:
            raise sockets.SocketRefused(f"cannot listen on {config.socket.uri}: {exc}") from exc
        return _Open(listener, placed, config)

    def _bind_path(self, config: EndpointConfig, listener: Listener) -> sockets.Placed:
        path = _path(config)
        warning = sockets.check_parent(path)
        if warning is not None:
            log.warning("socket.exposed", endpoint=config.name, msg=warning)
        sockets.check_path(path, take_over=self._take_over)
        with sockets.temporary_name(path) as temporary:
            listener.bind(f"unix:{temporary}")
            return sockets.place(temporary, path, config.socket_mode, config.socket_group)


def _address(config: EndpointConfig) -> str:
    """What is the same for two spellings of one socket, such as below /run and /var/run."""
    if config.socket.abstract is not None:
        return f"@{config.socket.abstract}"
    path = _path(config)
    return str(path.parent.resolve() / path.name)


def _path(config: EndpointConfig) -> Path:
    if config.socket.path is None:
        raise sockets.SocketRefused(f"{config.socket.uri} names no path")
    return config.socket.path


def _permissions(config: EndpointConfig) -> tuple[int, int | None]:
    return config.socket_mode, config.socket_group


def _quietly(restore: Callable[[], None]) -> None:
    with contextlib.suppress(sockets.SocketRefused):
        restore()
