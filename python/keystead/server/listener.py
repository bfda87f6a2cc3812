"""One grpcio server for one socket: raw bytes in and out, errors turned into status codes, calls counted.

A pool of its own answers Status, so that nothing that Decrypts do can delay it. The common pool is larger than the
number of Decrypts that may wait for a remote KMS, so hits always find a thread; threads are made when first needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
import structlog

from keystead import errors
from keystead._core import request_uid
from keystead.host.keyring import WAITING_LIMIT
from keystead.server.codes import code_of, text_of
from keystead.server.metrics import Metrics
from keystead.server.repeats import Fields, Repeats
from keystead.server.services import STATUS, V2, Method

HOT_THREADS = 64
_STATUS_THREADS = 4
_OPTIONS = [("grpc.so_reuseport", 0)]
_UID_SIZE = 64
"""Characters of a uid in the log; what kube-apiserver sends has 36."""

log = structlog.get_logger("keystead.rpc")

Handler = Callable[[bytes, grpc.ServicerContext], bytes]


class _Router(grpc.GenericRpcHandler):
    """Finds the handler of a method. The table is replaced as a whole, under calls that go on."""

    def __init__(self) -> None:
        self.handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self.handlers.get(details.method)


class Listener:
    """A server of one socket. `bind` it, let it `serve` a table of methods, `start` it, and in the end `stop` it."""

    def __init__(self, name: str, metrics: Metrics, failures: Repeats | None = None) -> None:
        self._metrics = metrics
        self._failures = failures or Repeats(log_failure)
        self._router = _Router()
        self._status_pool = ThreadPoolExecutor(_STATUS_THREADS, thread_name_prefix=f"status-{name}")
        self._server = grpc.server(
            ThreadPoolExecutor(WAITING_LIMIT + HOT_THREADS, thread_name_prefix=f"rpc-{name}"),
            handlers=[self._router],
            options=_OPTIONS,
        )

    def bind(self, address: str) -> None:
        """Bind a gRPC address. Raises `RuntimeError` if the system refuses."""
        if self._server.add_insecure_port(address) == 0:
            raise RuntimeError(f"cannot bind {address}")

    def serve(self, endpoint: str, table: Mapping[str, Method], *, log_calls: bool) -> None:
        """Answer these methods from the next call on. Connections and calls under way are not disturbed."""
        handlers = {path: self._handler(endpoint, path, method, log_calls=log_calls) for path, method in table.items()}
        if STATUS in handlers:
            handlers[STATUS].unary_unary.experimental_thread_pool = self._status_pool  # type: ignore[union-attr]
        self._router.handlers = handlers

    def start(self) -> None:
        """Accept calls."""
        self._server.start()

    def stop(self, grace: float) -> Callable[[], Any]:
        """Refuse new calls, and end those under way after `grace` seconds; call the answer to wait for that."""
        return self._server.stop(grace).wait

    def _handler(
        self, endpoint: str, path: str, method: Method, *, log_calls: bool
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        service, name = path[1:].split("/")
        metrics, failures = self._metrics, self._failures
        succeeded = metrics.call(endpoint, service, name)
        clock = time.perf_counter

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            started = clock()
            try:
                response = method(request, context.time_remaining)
            except errors.KeysteadError as exc:
                code, text = code_of(exc), text_of(exc)
                if name == "Decrypt":
                    metrics.refused(endpoint, exc)
            except BaseException as exc:  # noqa: BLE001  whatever happens, the API server gets a code it understands
                # BaseException, for that is what a panic in the Rust core is, and gRPC would never answer such a call.
                # The text of an unforeseen exception may hold anything: the log gets its type and place, no more.
                log.error("rpc.crashed", method=name, error_class=type(exc).__name__, at=_place(exc))
                code, text = grpc.StatusCode.INTERNAL, "internal error; the plugin's log has more"
            else:
                succeeded(clock() - started)
                if log_calls:
                    log.debug(
                        "rpc", method=name, uid=_uid(service, request), code="OK", seconds=round(clock() - started, 6)
                    )
                return response
            metrics.failed_call(endpoint, service, name, code.name, clock() - started)
            fields = {"endpoint": endpoint, "method": name, "uid": _uid(service, request), "code": code.name}
            if log_calls:
                log_failure({**fields, "error": text})
            else:
                failures.say((endpoint, name, code, text), {**fields, "error": text})
            _abort(context, code, text)

        return grpc.unary_unary_rpc_method_handler(answer)


def log_failure(fields: Fields) -> None:
    """Write the line of a failed call."""
    log.warning("rpc", **fields)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)


def _uid(service: str, request: bytes) -> str:
    """The uid that the API server logs too. In v1 that field is the plaintext, so nothing is read there."""
    return request_uid(request)[:_UID_SIZE] if service == V2 else ""


def _place(exc: BaseException) -> str:
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
