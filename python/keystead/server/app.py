"""The process: sockets first, then keys; signals, reload and drain.

Sockets listen before any provider is opened, so that the API server finds a plugin that answers within a second of
its start, whatever the remote does. SIGTERM and SIGINT drain and exit 0; SIGHUP looks at the configuration at once.
"""

from __future__ import annotations

import gc
import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog

from keystead import __version__
from keystead._core import harden_process, memory_report
from keystead.config import Configuration
from keystead.errors import ConfigError
from keystead.host.plugin import Plugin, Prepared
from keystead.host.prove import Unproven
from keystead.server import logs, pages, status
from keystead.server.front import Front
from keystead.server.http import Page
from keystead.server.metrics import Metrics
from keystead.server.reload import Refused, Reloader, Source
from keystead.server.sockets import SocketRefused
from keystead.server.systemd import Systemd
from keystead.server.web import Web

TICK = 5.0
"""Seconds between looks at what may have changed by itself, such as a port that was taken."""

log = structlog.get_logger("keystead.server")


class Application:
    """One plugin process, serving `config`, which `source` gave."""

    def __init__(self, config: Configuration, source: Source, *, take_over: bool = False) -> None:
        self._config = config
        self._metrics = Metrics()
        self._plugin = Plugin(config, self._metrics)
        self._front = Front(self._metrics, take_over=take_over)
        self._reloader = Reloader(source, config, self._take_up)
        self._started_at = time.time()
        public = pages.public(self._metrics, lambda: self._plugin.endpoints, lambda: self._reloader.standing)
        self._web = Web(public, {**public, "/status": lambda _query: self._status()}, take_over=take_over)
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._changing = threading.Lock()
        self._stopping = False
        self._systemd = Systemd()

    def run(self, announce: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT; call `announce` once the sockets listen.

        Raises `SocketRefused` if one cannot be put in place at the start.
        """
        self._handle_signals()
        self._harden()
        try:
            change = self._front.prepare(self._config.endpoints)
            self._front.commit(change, self._plugin.endpoints, log_calls=_log_calls(self._config))
            announce()
            self._systemd.ready()
            self._plugin.start()
            self._metrics.watch(lambda: self._plugin.endpoints, lambda: self._reloader.standing)
            self._web.serve(self._config)
            log.info("server.started", version=__version__, endpoints=list(self._plugin.endpoints))
            # What was made so far stays: without this a full collection looks through all of it for 10 ms.
            gc.collect()
            gc.freeze()
            self._reloader.start()
            self._wait()
            log.info("server.draining")
        finally:
            self._systemd.stopping()
            self._reloader.stop()
            # A reload that is under way is over when this lock is free, and a later one finds that it is too late.
            with self._changing:
                self._stopping = True
            self._web.close()
            self._front.close()
            self._plugin.stop()
        log.info("server.stopped")

    def _status(self) -> Page:
        config, endpoints = self._config, self._plugin.endpoints
        reports = {name: endpoint.report() for name, endpoint in endpoints.items()}
        text = status.encode(status.document(config, reports, self._reloader.standing, self._started_at))
        return Page(200, text, "application/json")

    def _harden(self) -> None:
        for refused in harden_process():
            log.warning("process.not_hardened", msg=refused)
        report = memory_report()
        if not report.locked:
            log.warning("memory.not_locked", msg="keys may be written to swap: raise RLIMIT_MEMLOCK or disable swap")
        if not report.undumpable:
            log.warning("memory.dumpable", msg="keys may appear in a core dump: this kernel has no MADV_DONTDUMP")

    def _handle_signals(self) -> None:
        def on_signal(number: int, _frame: FrameType | None) -> None:
            # A handler interrupts the main thread anywhere, also in another handler. So it must not take a lock that
            # may be held there, as that of an Event may be; this queue is made for it.
            self._signals.put(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, on_signal)

    def _wait(self) -> None:
        """Serve until the signal to stop."""
        pause = min(TICK, self._systemd.pause or TICK)
        while True:
            try:
                number = self._signals.get(timeout=pause)
            except queue.Empty:
                self._web.retry()
                self._front.flush()
                self._sign_of_life()
                continue
            if number != signal.SIGHUP:
                return
            self._reloader.demand()

    def _sign_of_life(self) -> None:
        """Tell the watchdog that Status can be answered: if it cannot, this hangs here too, and a restart is right.

        That a remote is away must never end up here: a restart throws away the KEKs that all still works with.
        """
        if self._systemd.pause is None:
            return
        for endpoint in self._plugin.endpoints.values():
            endpoint.status()
        self._systemd.alive()

    def _take_up(self, config: Configuration) -> None:
        """Put a configuration to use as a whole, or raise `Refused` with nothing changed. The reloader's thread."""
        if config.state_dir != self._config.state_dir:
            raise Refused(
                [f"stateDir changed from {self._config.state_dir} to {config.state_dir}: needs a restart"], retry=False
            )
        try:
            prepared = self._plugin.prepare(config)
        except ConfigError as exc:
            raise Refused([str(exc)], retry=False) from exc
        try:
            self._plugin.prove(prepared)
            self._swap(prepared)
        except Unproven as exc:
            self._plugin.discard(prepared)
            raise Refused([f"not proven: {reason}" for reason in exc.reasons], retry=not exc.hopeless) from exc
        except SocketRefused as exc:
            self._plugin.discard(prepared)
            raise Refused([str(exc)], retry=True) from exc
        self._front.drain()

    def _swap(self, prepared: Prepared) -> None:
        config = prepared.config
        with self._changing:
            if self._stopping:
                raise SocketRefused("the process is about to end")
            change = self._front.prepare(config.endpoints)
            logs.configure(config.observability.logging.format, config.observability.logging.verbosity)
            self._plugin.commit(prepared)
            self._front.commit(change, self._plugin.endpoints, log_calls=_log_calls(config))
            self._web.serve(config)
            self._config = config


def _log_calls(config: Configuration) -> bool:
    return config.observability.logging.verbosity >= logs.CALLS_VERBOSITY
