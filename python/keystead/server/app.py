"""The process: sockets first, then keys; signals, reload and drain.

Sockets listen before any provider is opened, so that the API server finds a plugin that answers within a second of
its start, whatever the remote does. SIGTERM and SIGINT drain and exit 0; SIGHUP reads the configuration again.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import structlog

from keystead import __version__
from keystead._core import harden_process, memory_report
from keystead.config import ConfigInvalid, Configuration, EndpointConfig
from keystead.errors import ConfigError
from keystead.host.plugin import Plugin
from keystead.server import http, logs, sockets
from keystead.server.listener import Listener
from keystead.server.metrics import Metrics
from keystead.server.services import methods

DRAIN = 5.0
"""Seconds that calls under way get to end after SIGTERM."""

log = structlog.get_logger("keystead.server")


@dataclass(frozen=True, slots=True)
class _Serving:
    config: EndpointConfig
    listener: Listener
    placed: sockets.Placed | None


class Application:
    """One plugin process. `load` reads the configuration anew and raises `ConfigInvalid`."""

    def __init__(self, config: Configuration, load: Callable[[], Configuration], *, take_over: bool = False) -> None:
        self._config = config
        self._load = load
        self._take_over = take_over
        self._metrics = Metrics()
        self._plugin = Plugin(config, self._metrics)
        self._serving: dict[str, _Serving] = {}
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._wake = threading.Event()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises `SocketRefused` if a socket cannot be put in place at the start."""
        self._handle_signals()
        self._harden()
        try:
            for endpoint in self._config.endpoints:
                self._serving[endpoint.name] = self._listen(endpoint)
            self._plugin.start()
            self._metrics.watch(lambda: self._plugin.endpoints)
            web = http.start(self._config.observability.http.address, lambda: self._plugin.endpoints, self._metrics)
            log.info("server.started", version=__version__, endpoints=list(self._serving))
            # What was made so far stays: without this a full collection looks through all of it for 10 ms.
            gc.collect()
            gc.freeze()
            self._wait()
            log.info("server.draining")
            if web is not None:
                web.stop()
        finally:
            self._drain(list(self._serving.values()))
            self._plugin.stop()
        log.info("server.stopped")

    def _harden(self) -> None:
        for refused in harden_process():
            log.warning("process.not_hardened", msg=refused)
        report = memory_report()
        if not report.locked:
            log.warning("memory.not_locked", msg="keys may be written to swap: raise RLIMIT_MEMLOCK or disable swap")
        if not report.undumpable:
            log.warning("memory.dumpable", msg="keys may appear in a core dump: this kernel has no MADV_DONTDUMP")

    def _listen(self, config: EndpointConfig) -> _Serving:
        endpoint = self._plugin.endpoints[config.name]
        log_calls = self._config.observability.logging.verbosity >= logs.CALLS_VERBOSITY
        listener = Listener(config.name, methods(endpoint, config.kms_versions), self._metrics, log_calls=log_calls)
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
        listener.start()
        log.info("endpoint.listening", endpoint=config.name, socket=config.socket.uri, kms=list(config.kms_versions))
        return _Serving(config, listener, placed)

    def _bind_path(self, config: EndpointConfig, listener: Listener) -> sockets.Placed:
        path = config.socket.path
        if path is None:
            raise sockets.SocketRefused(f"{config.socket.uri} names no path")
        warning = sockets.check_parent(path)
        if warning is not None:
            log.warning("socket.exposed", endpoint=config.name, msg=warning)
        sockets.check_path(path, take_over=self._take_over)
        with sockets.temporary_name(path) as temporary:
            listener.bind(f"unix:{temporary}")
            return sockets.place(temporary, path, config.socket_mode, config.socket_group)

    def _handle_signals(self) -> None:
        def on_stop(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()
            self._wake.set()

        def on_reload(_number: int, _frame: FrameType | None) -> None:
            self._reload.set()
            self._wake.set()

        signal.signal(signal.SIGTERM, on_stop)
        signal.signal(signal.SIGINT, on_stop)
        signal.signal(signal.SIGHUP, on_reload)

    def _wait(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            if self._reload.is_set():
                self._reload.clear()
                self._take_up()

    def _take_up(self) -> None:
        """Read the configuration again; a bad one is refused as a whole and the old one goes on."""
        try:
            config = self._load()
            self._plugin.reload(config)
        except ConfigInvalid as exc:
            log.error("config.rejected", problems=[str(problem) for problem in exc.problems])
            return
        except ConfigError as exc:
            log.error("config.rejected", problems=[str(exc)])
            return
        if config.observability != self._config.observability:
            log.warning("config.needs_restart", msg="changes of observability take effect at the next start only")
        before, self._config = self._serving, config
        self._serving = {}
        for wanted in config.endpoints:
            old = before.get(wanted.name)
            if old is not None and _same_socket(old.config, wanted):
                self._serving[wanted.name] = before.pop(wanted.name)
        self._drain(list(before.values()))
        for wanted in config.endpoints:
            if wanted.name not in self._serving:
                try:
                    self._serving[wanted.name] = self._listen(wanted)
                except sockets.SocketRefused as exc:
                    log.error("endpoint.not_listening", endpoint=wanted.name, error=str(exc))
        log.info("config.reloaded", endpoints=list(self._serving))

    def _drain(self, serving: list[_Serving]) -> None:
        waits = [one.listener.stop(DRAIN) for one in serving]
        for wait in waits:
            wait()
        for one in serving:
            if one.placed is not None:
                one.placed.remove()


def _same_socket(old: EndpointConfig, new: EndpointConfig) -> bool:
    return all(
        getattr(old, field) == getattr(new, field)
        for field in ("socket", "socket_mode", "socket_group", "kms_versions")
    )
