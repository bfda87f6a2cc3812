"""A grpcio server with Keystead's settings that sends each request back: the most that Keystead could reach.

A DecryptRequest reads as a DecryptResponse whose plaintext is the ciphertext, for both are field 1; so the same
client can check the answer. With --protobuf the messages are parsed into objects and written again, as in a plugin
that is written in the usual way. It counts nothing, logs nothing and translates no error.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keystead.server.tuning import prepare_environment

prepare_environment()

import grpc  # noqa: E402  after its environment
from google.protobuf.message import Message  # noqa: E402

from keystead._proto.v2 import api_pb2 as v2  # noqa: E402

SERVICE = "v2.KeyManagementService"
_STATUS = v2.StatusResponse(version="v2", healthz="ok", key_id="echo").SerializeToString()


def _raw() -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    def answer(request: bytes, _context: grpc.ServicerContext) -> bytes:
        return request

    # A function object of its own for each method, because a pool for Status hangs on the function.
    def status(request: bytes, _context: grpc.ServicerContext) -> bytes:
        return request or _STATUS

    return {
        "Status": grpc.unary_unary_rpc_method_handler(status),
        "Encrypt": grpc.unary_unary_rpc_method_handler(answer),
        "Decrypt": grpc.unary_unary_rpc_method_handler(answer),
    }


def _protobuf() -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    def handler(request: type[Message], answer: Callable[..., Message]) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(
            lambda message, _context: answer(message),
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    return {
        "Status": handler(v2.StatusRequest, lambda _: v2.StatusResponse(version="v2", healthz="ok", key_id="echo")),
        "Encrypt": handler(
            v2.EncryptRequest, lambda message: v2.EncryptResponse(ciphertext=message.plaintext, key_id=message.uid)
        ),
        "Decrypt": handler(v2.DecryptRequest, lambda message: v2.DecryptResponse(plaintext=message.ciphertext)),
    }


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    methods = _protobuf() if "--protobuf" in sys.argv else _raw()
    methods["Status"].unary_unary.experimental_thread_pool = ThreadPoolExecutor(4)  # type: ignore[union-attr]
    server = grpc.server(
        ThreadPoolExecutor(threads),
        handlers=[grpc.method_handlers_generic_handler(SERVICE, methods)],
        options=[("grpc.so_reuseport", 0)],
    )
    server.add_insecure_port(f"unix:{path}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    main()
