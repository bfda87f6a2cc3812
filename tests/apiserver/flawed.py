"""A small KMS v2 plugin, written in the usual way, which is sound unless it is told to have one flaw.

usage: flawed.py SOCKET FLAW     FLAW is "none" or a name that this file tests for

It shows that each check of the hostile client catches what it is there for, and refuses nothing that is right.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NoReturn

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keystead._proto.v2 import api_pb2 as v2

NONCE, TAG = 12, 16
KEY_ID = "k1"
ANNOTATIONS = {"kind.example.com": b"annotation"}


class Plugin:
    """Seeds under one AES-GCM key; key_id and annotations are authenticated."""

    def __init__(self, flaw: str) -> None:
        self.flaw = flaw
        self._key = AESGCM(os.urandom(32))
        self._statuses = count(1)

    def status(self, _request: v2.StatusRequest, _context: grpc.ServicerContext) -> v2.StatusResponse:
        flips = self.flaw == "status flips" and next(self._statuses) % 7 == 0
        return v2.StatusResponse(version="v2", healthz="ok", key_id="k2" if flips else KEY_ID)

    def encrypt(self, request: v2.EncryptRequest, context: grpc.ServicerContext) -> v2.EncryptResponse:
        if not 1 <= len(request.plaintext) <= 900:
            _refuse(context, grpc.StatusCode.INVALID_ARGUMENT)
        nonce = bytes(NONCE) if self.flaw == "nonce is constant" else os.urandom(NONCE)
        ciphertext = nonce + self._key.encrypt(nonce, request.plaintext, self._aad(request.uid, KEY_ID, ANNOTATIONS))
        if self.flaw == "does not encrypt":
            ciphertext = nonce + request.plaintext + bytes(TAG)
        if self.flaw == "ciphertext too long":
            ciphertext = ciphertext.ljust(1025, b"\0")
        return v2.EncryptResponse(
            ciphertext=ciphertext,
            key_id="k2" if self.flaw == "Encrypt names another key_id" else KEY_ID,
            annotations={"NoDomain": b"x"} if self.flaw == "annotation without a domain" else ANNOTATIONS,
        )

    def decrypt(self, request: v2.DecryptRequest, context: grpc.ServicerContext) -> v2.DecryptResponse:
        sealed, key_id, annotations = request.ciphertext, request.key_id, dict(request.annotations)
        match self.flaw:
            case "hangs on large input" if len(sealed) > 1024:
                time.sleep(4)
            case "dies of an empty request" if not sealed:
                os._exit(1)
            case "ignores trailing zeros":
                sealed = sealed.rstrip(b"\0")
            case "ignores key_id":
                key_id = KEY_ID
            case "ignores unknown annotations":
                annotations = {name: value for name, value in annotations.items() if name in ANNOTATIONS}
            case "does not encrypt":
                return v2.DecryptResponse(plaintext=sealed[NONCE:-TAG])
        try:
            aad = self._aad(request.uid, key_id, annotations)
            return v2.DecryptResponse(plaintext=self._key.decrypt(sealed[:NONCE], sealed[NONCE:], aad))
        except (InvalidTag, ValueError):
            match self.flaw:
                case "lets exceptions out":
                    raise
                case "calls every failure temporary":
                    _refuse(context, grpc.StatusCode.UNAVAILABLE)
                case "explains too much":
                    _refuse(context, grpc.StatusCode.DATA_LOSS, text="no " * 1000)
            _refuse(context, grpc.StatusCode.DATA_LOSS)

    def _aad(self, uid: str, key_id: str, annotations: Mapping[str, bytes]) -> bytes:
        parts = [key_id.encode()]
        if self.flaw == "binds the uid":
            parts.append(uid.encode())
        if self.flaw != "does not authenticate annotations":
            parts += [part for name, value in sorted(annotations.items()) for part in (name.encode(), value)]
        return b"".join(len(part).to_bytes(4) + part for part in parts)


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str = "refused") -> NoReturn:
    context.abort(code, text)


def _handler(method: Any, request: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def main() -> None:
    path, flaw = sys.argv[1:]
    plugin = Plugin(flaw)
    server = grpc.server(ThreadPoolExecutor(64))
    methods = {
        "Status": _handler(plugin.status, v2.StatusRequest),
        "Encrypt": _handler(plugin.encrypt, v2.EncryptRequest),
        "Decrypt": _handler(plugin.decrypt, v2.DecryptRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v2.KeyManagementService", methods),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
