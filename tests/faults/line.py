"""The line between the plugin and a remote KMS, on real sockets, and the ways in which it can be bad."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from enum import Enum

TRICKLE_SECONDS = 0.1
"""Seconds between two bytes of an answer that trickles: an answer takes longer than any call waits."""
_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send a reset."""


class State(Enum):
    """How the line is."""

    GOOD = "good"
    SILENT = "silent"
    TRICKLING = "trickling"
    RESETTING = "resetting"


class Line:
    """Passes TCP connections on to `target`, HOST:PORT. Each fault is a context manager that repairs what it broke."""

    def __init__(self, target: str) -> None:
        self.heard = bytearray()
        """What clients have sent, of all connections."""
        self._target = target
        self._state = State.GOOD
        self._change = threading.Condition()
        self._ended = False
        self._connections: set[socket.socket] = set()
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"

    def close(self) -> None:
        """Close everything."""
        self._stop_listening()
        with self._change:
            self._ended = True
            self._change.notify_all()
        self.cut()

    def cut(self) -> None:
        """Close the connections that there are; clients make new ones."""
        for connection in tuple(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens."""
        self._stop_listening()
        self.cut()
        try:
            yield
        finally:
            self._listener = self._listen(self._port)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """No packet is answered: connections that exist are silent, and new ones are never accepted."""
        self._stop_listening()
        try:
            with contextlib.ExitStack() as stack, self._being(State.SILENT):
                full = stack.enter_context(socket.create_server(("127.0.0.1", self._port), backlog=0))
                for _ in range(4):  # until the queue of the listener is full
                    one = stack.enter_context(socket.socket())
                    one.setblocking(False)
                    one.connect_ex(full.getsockname())
                yield
        finally:
            self._listener = self._listen(self._port)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Connections are accepted and nothing is answered, as by a process that has been stopped."""
        with self._being(State.SILENT):
            yield

    @contextlib.contextmanager
    def trickling(self) -> Iterator[None]:
        """Answers come byte by byte."""
        with self._being(State.TRICKLING):
            yield

    @contextlib.contextmanager
    def resetting(self) -> Iterator[None]:
        """Of each answer the first half comes, and then a reset."""
        with self._being(State.RESETTING):
            yield

    @contextlib.contextmanager
    def to(self, target: str) -> Iterator[None]:
        """Another server answers at the same address."""
        usual, self._target = self._target, target
        self.cut()
        try:
            yield
        finally:
            self._target = usual
            self.cut()

    @contextlib.contextmanager
    def _being(self, state: State) -> Iterator[None]:
        self._turn(state)
        try:
            yield
        finally:
            self._turn(State.GOOD)

    def _turn(self, state: State) -> None:
        with self._change:
            self._state = state
            self._change.notify_all()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _stop_listening(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        host, _, port = self._target.rpartition(":")
        with client, contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as server:
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections |= {client, server}
            try:
                back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
                back.start()
                self._requests(client, server)
                back.join()
            finally:
                self._connections -= {client, server}

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                self.heard += data
                self._wait_while(State.SILENT)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                self._wait_while(State.SILENT)
                if self._state is State.RESETTING:
                    client.sendall(data[: len(data) // 2])
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                    client.shutdown(socket.SHUT_RD)  # ends the other thread, and then the connection
                    return
                while self._state is State.TRICKLING and data:
                    client.sendall(data[:1])
                    data = data[1:]
                    self._wait_while(State.TRICKLING, TRICKLE_SECONDS)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def _wait_while(self, state: State, seconds: float | None = None) -> None:
        with self._change:
            self._change.wait_for(lambda: self._ended or self._state is not state, seconds)
