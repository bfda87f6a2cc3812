"""What stands between a client and a server: a proxy that tunnels, and a line that is slow or goes dead."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Passes bytes on after `delay` seconds, and none while it is `dead`."""

    target: tuple[str, int] | None
    delay: float = 0.0
    dead: bool = False
    address: str = ""
    tunnels: list[str] = field(default_factory=list)
    """The first lines of the requests for a tunnel."""

    def serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            target = self.target or self._tunnel(client)
            with socket.create_connection(target, timeout=5) as server:
                server.settimeout(None)
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)

    def _tunnel(self, client: socket.socket) -> tuple[str, int]:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        line = head.split(b"\r\n")[0].decode()
        self.tunnels.append(line)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        host, _, port = line.split()[1].rpartition(":")
        return host, int(port)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                if not self.dead:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(target: str | None = None, delay: float = 0.0) -> Iterator[Relay]:
    """Relay to an address, or as a proxy to where each client asks for."""
    parsed = (target.partition(":")[0], int(target.partition(":")[2])) if target is not None else None
    made = Relay(parsed, delay)
    with socket.create_server(("127.0.0.1", 0), backlog=32) as listener:
        made.address = f"127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=made.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
