"""A KMS v2 plugin that is broken on purpose: kube-apiserver has to refuse it, or the test that uses it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc

from .plugin import Status
from .wire import encode


@dataclass
class BrokenPlugin:
    """Serves on a socket from `__enter__` to `__exit__`, in this process."""

    socket: str
    status: Status
    """What Status answers."""
    encrypt_key_id: str
    """What Encrypt calls its key."""
    calls: list[str] = field(default_factory=list)
    """The methods that were called, in order."""

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self._answer(name)) for name in ("Status", "Encrypt")
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v2.KeyManagementService", methods),)
        )
        self._server.add_insecure_port(self.socket.replace("unix://", "unix:"))
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop(None).wait()

    def _answer(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        status = self.status
        answers = {
            "Status": encode((1, status.version.encode()), (2, status.healthz.encode()), (3, status.key_id.encode())),
            "Encrypt": encode((1, b"broken on purpose"), (2, self.encrypt_key_id.encode())),
        }

        def answer(_request: bytes, _context: grpc.ServicerContext) -> bytes:
            self.calls.append(method)
            return answers[method]

        return answer
