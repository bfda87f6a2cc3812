"""A TCP proxy on loopback that misbehaves on demand, between a provider and its remote KMS.

    proxy = FaultProxy()
    proxy.to("127.0.0.1:8200", tls=True)      # the provider is configured for proxy.address and proxy.ca_file
    with proxy.black_hole():
        ...                                   # nothing comes through, on old connections and on new ones

With `tls=True` the proxy ends TLS with a certificate of its own CA, so that it can also offer one that has expired.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

HOST = "127.0.0.1"
_CHUNK = 65536
_PAUSE = 0.02
_LINGER_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close send a reset."""


class FaultProxy:
    """Forwards to one target until a fault is switched on. Faults hold for connections that exist already, too."""

    def __init__(self) -> None:
        self.connections = 0
        """Connections accepted so far."""
        self.address = ""
        """host:port to configure the provider with."""
        self.used = False
        """Whether a provider goes through this proxy."""
        self._target: tuple[str, int] = ("", 0)
        self._target_ca: Path | None = None
        self._certificates: Any = None
        self._server_tls: ssl.SSLContext | None = None
        self._place: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._live: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._fault = "none"
        self._delay = (0.0, 0.0)
        self._garbage = b""
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def to(self, target: str, *, tls: bool = False, target_ca: Path | None = None) -> FaultProxy:
        """Forward to `host:port`. With `tls`, speak TLS to the provider; with `target_ca`, also to the target."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._target_ca = target_ca
        if tls:
            from keystead.testing.certificates import Certificates

            self._directory = tempfile.TemporaryDirectory(prefix="keystead-kit-")
            self._certificates = Certificates(Path(self._directory.name))
            self._server_tls = self._certificates.server("good")
        self._listen()
        self.used = True
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the proxy speaks TLS to the provider."""
        return self._server_tls is not None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def ca_file(self) -> Path:
        """The CA to configure the provider with; for `tls=True`."""
        path: Path = self._certificates.ca_file
        return path

    def close(self) -> None:
        """Close the listener and every connection."""
        self._stop_listening()
        self.drop()
        if self._place is not None:
            self._place.close()
        if self._directory is not None:
            self._directory.cleanup()

    def drop(self) -> None:
        """Reset every connection."""
        with self._lock:
            live, self._live = self._live, set()
        for one in live:
            _reset(one)

    @contextlib.contextmanager
    def latency(self, seconds: float, jitter: float = 0.0) -> Iterator[None]:
        """Hold back each piece of an answer by `seconds`, give or take `jitter`."""
        self._delay = (seconds, jitter)
        try:
            yield
        finally:
            self._delay = (0.0, 0.0)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """Accept connections and let nothing through. At the end, reset what hung meanwhile."""
        with self._faulty("black hole"):
            yield

    @contextlib.contextmanager
    def reset_mid_answer(self) -> Iterator[None]:
        """Let half of an answer's first piece through, then reset the connection."""
        with self._faulty("reset"):
            yield

    @contextlib.contextmanager
    def trickle(self, every: float = 0.2) -> Iterator[None]:
        """Let one byte of an answer through every so often, so that no single read of the client waits long."""
        with self.latency(every), self._faulty("trickle"):
            yield

    @contextlib.contextmanager
    def garbage(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<html></html") -> Iterator[None]:
        """Answer every request with these bytes, and close."""
        self._garbage = answer
        with self._faulty("garbage"):
            yield

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """Refuse connections, and reset those that exist."""
        self._stop_listening()
        self.drop()
        try:
            yield
        finally:
            self._listen()

    @contextlib.contextmanager
    def expired_certificate(self) -> Iterator[None]:
        """Offer a certificate of the same CA that expired yesterday."""
        with self._certificate("expired"):
            yield

    @contextlib.contextmanager
    def untrusted_certificate(self) -> Iterator[None]:
        """Offer a certificate of a CA that the provider has not been given."""
        with self._certificate("untrusted"):
            yield

    @contextlib.contextmanager
    def no_names(self) -> Iterator[mock.Mock]:
        """Let no name be resolved by this process, and drop connections. Yields what counts the questions.

        A client that resolves names in native code, as gRPC does, does not ask here.
        """
        failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        with mock.patch("socket.getaddrinfo", side_effect=failure) as asked:
            self.drop()
            yield asked

    @contextlib.contextmanager
    def _certificate(self, kind: str) -> Iterator[None]:
        before, self._server_tls = self._server_tls, self._certificates.server(kind)
        self.drop()
        try:
            yield
        finally:
            self._server_tls = before
            self.drop()

    @contextlib.contextmanager
    def _faulty(self, fault: str) -> Iterator[None]:
        self._fault = fault
        try:
            yield
        finally:
            self._fault = "none"
            self.drop()

    def _listen(self) -> None:
        if self._place is None:
            # Keeps the port while nobody listens, or another program could have it by then.
            self._place = socket.socket()
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._place.bind((HOST, 0))
            self.address = f"{HOST}:{self._place.getsockname()[1]}"
        self._listener = socket.create_server((HOST, self.port), backlog=1024, reuse_port=True)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True, name="fault-proxy").start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._live.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True, name="fault-proxy").start()

    def _serve(self, client: socket.socket) -> None:
        raw, server = client, None
        try:
            while self._fault == "black hole":
                time.sleep(_PAUSE)
            if self._server_tls is not None:
                tls = self._server_tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
                client = self._adopt(raw, tls)
                tls.do_handshake()
            server = socket.create_connection(self._target, timeout=5)
            server.settimeout(None)
            if self._target_ca is not None:
                upstream = ssl.create_default_context(cafile=str(self._target_ca))
                if isinstance(client, ssl.SSLSocket) and (protocol := client.selected_alpn_protocol()):
                    upstream.set_alpn_protocols([protocol])
                server = upstream.wrap_socket(server, server_hostname=self._target[0])
            with self._lock:
                self._live.add(server)
            self._carry(client, server)
        except (OSError, ValueError):
            pass  # a reset, by either side or by this proxy; a socket that is closed has no descriptor to wait for
        finally:
            for one in (client, server):
                if one is not None:
                    self._forget(one)

    def _adopt(self, old: socket.socket, new: ssl.SSLSocket) -> ssl.SSLSocket:
        with self._lock:
            self._live.discard(old)
            self._live.add(new)
        return new

    def _forget(self, one: socket.socket) -> None:
        with self._lock:
            self._live.discard(one)
        with contextlib.suppress(OSError):
            one.close()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry both ways until the remote is done, in one thread, for a TLS connection is not made for two."""
        sources = [client, server]
        while True:
            for source in _readable(sources):
                while self._fault == "black hole":
                    time.sleep(_PAUSE)
                data = _received(source)
                if data is None:
                    continue
                if source is client and data:
                    if self._fault == "garbage":
                        client.sendall(self._garbage)
                        return
                    server.sendall(data)
                elif source is client:
                    sources.remove(client)
                    server.shutdown(socket.SHUT_WR)
                elif not data or not self._answer(data, client):
                    return

    def _answer(self, data: bytes, client: socket.socket) -> bool:
        """Pass a piece of an answer on, as the fault of the moment will have it; whether to go on."""
        seconds, jitter = self._delay
        if self._fault == "trickle":
            for byte in data:
                if self._fault != "trickle":
                    return False
                client.sendall(bytes([byte]))
                time.sleep(seconds)
            return True
        if seconds:
            time.sleep(max(0.0, seconds + random.uniform(-jitter, jitter)))  # noqa: S311  no secret
        if self._fault == "reset":
            client.sendall(data[: len(data) // 2])
            _reset(client)
            return False
        client.sendall(data)
        return True


def _readable(sources: list[socket.socket]) -> list[socket.socket]:
    """Wait for the first of the sockets that has bytes, which TLS may have read ahead."""
    ahead: list[socket.socket] = [one for one in sources if isinstance(one, ssl.SSLSocket) and one.pending()]
    if ahead:
        return ahead
    poll = select.poll()
    for one in sources:
        poll.register(one, select.POLLIN)
    found = {descriptor for descriptor, _ in poll.poll()}
    return [one for one in sources if one.fileno() in found]


def _received(source: socket.socket) -> bytes | None:
    """Read what is there: `None` if TLS has only had something of its own, such as a session ticket."""
    source.setblocking(False)
    try:
        return source.recv(_CHUNK)
    except (ssl.SSLWantReadError, BlockingIOError):
        return None
    finally:
        source.setblocking(True)


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    # A read that another thread is in would keep the connection open after close alone.
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()
