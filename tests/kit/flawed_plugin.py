"""A KMS plugin with KMS v1, a key on disk and a rotation, sound unless it is told to have one flaw.

usage: flawed_plugin.py SOCKET DIRECTORY FLAW     FLAW is "none" or a name that this file tests for

It goes on where tests/apiserver/flawed.py ends, whose plugin lives in memory only. The directory has the key of each
generation; a file `rotate` in it makes a new one. A file beside the socket with the ending `.restart` makes another
process of the plugin of that socket: of two plugins that share the keys, as those of two nodes do, only that one.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2

NONCE = 12


class Plugin:
    def __init__(self, directory: Path, flaw: str) -> None:
        self.directory = directory
        self.flaw = flaw
        self.started = time.time_ns()
        self.line = threading.Lock()
        self.calls = 0
        if self.flaw == "a restart loses the key":
            for path in directory.glob("*.key"):
                path.unlink()
        if not self.generations():
            self.make(1)

    def generations(self) -> list[int]:
        return sorted(int(path.stem) for path in self.directory.glob("*.key"))

    def make(self, number: int) -> None:
        new = self.directory / "new"
        new.write_bytes(os.urandom(32))
        new.rename(self.directory / f"{number}.key")

    def key(self, number: int) -> AESGCM:
        return AESGCM((self.directory / f"{number}.key").read_bytes())

    def told_to_rotate(self) -> bool:
        """True for one of the threads, and one of the processes, that see the file."""
        try:
            (self.directory / "rotate").rename(self.directory / "rotated")
        except FileNotFoundError:
            return False
        return True

    def current(self) -> int:
        if self.told_to_rotate():
            latest = self.generations()[-1]
            self.make(latest + 1)
            if self.flaw == "a rotation forgets the old key":
                (self.directory / f"{latest}.key").unlink()
        found = self.generations()
        self.calls += 1
        if self.flaw == "a rotation flips back" and len(found) > 1 and self.calls % 11 == 0:
            return found[-2]
        return found[0] if self.flaw == "a rotation is not noticed" else found[-1]

    def key_id(self) -> str:
        name = f"k{self.current()}"
        if self.flaw == "key_id of the process":
            return f"{name}-{self.started}"
        return "" if self.flaw == "empty key_id" else name

    def seal(self, plain: bytes, api: bytes) -> tuple[bytes, str]:
        name = self.key_id()
        number = self.current()
        nonce = (plain[:1] * NONCE) if self.flaw == "half a nonce" else os.urandom(NONCE)
        if self.flaw == "nonce is reused for other seeds":
            nonce = b"n" * NONCE
        sealed = self.key(number).encrypt(nonce, plain, api + name.encode())
        if self.flaw == "nonce is reused for other seeds":
            return bytes([number]) + nonce + sealed + os.urandom(4), name
        return bytes([number]) + nonce + sealed, name

    def open(self, sealed: bytes, name: str, api: bytes) -> bytes:
        if self.flaw == "nonce is reused for other seeds":
            sealed = sealed[:-4]
        if not sealed or sealed[0] not in self.generations():
            raise InvalidTag
        return self.key(sealed[0]).decrypt(sealed[1 : NONCE + 1], sealed[NONCE + 1 :], api + name.encode())

    def status(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        if self.flaw == "Status waits in the line of Decrypts":
            with self.line:
                time.sleep(0.001)
        healthz = {"healthz in capitals": "OK", "healthz is a sentence": "all is well"}.get(self.flaw, "ok")
        version = "v1" if self.flaw == "Status of another version" else "v2"
        return v2.StatusResponse(version=version, healthz=healthz, key_id=self.key_id())

    def encrypt(self, request: Any, context: grpc.ServicerContext) -> Any:
        if len(request.plaintext) > 1000:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too long")
        sealed, name = self.seal(request.plaintext, b"v2")
        annotations = {"big.example.com": bytes(40_000)} if self.flaw == "annotations too large" else {}
        if self.flaw == "a seed in base64":
            annotations["log.example.com"] = base64.b64encode(b"seed: " + request.plaintext)
        return v2.EncryptResponse(ciphertext=sealed, key_id=name, annotations=annotations)

    def decrypt(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.flaw == "Status waits in the line of Decrypts":
            with self.line:
                time.sleep(0.05)
        annotations = dict(request.annotations)
        if annotations and self.flaw != "annotations too large":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "annotations of somebody else")
        try:
            return v2.DecryptResponse(plaintext=self.open(request.ciphertext, request.key_id, b"v2"))
        except (InvalidTag, ValueError):
            if self.flaw == "returns zeros for damaged data":
                return v2.DecryptResponse(plaintext=bytes(32))
            context.abort(grpc.StatusCode.DATA_LOSS, "does not authenticate")

    def version_v1(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return v1.VersionResponse(version="v1" if self.flaw == "v1: another version" else "v1beta1", runtime_name="x")

    def encrypt_v1(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.flaw == "v1: takes 32 bytes only" and len(request.plain) != 32:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not 32 bytes")
        sealed, name = self.seal(request.plain, b"v2" if self.flaw == "v1: is the same as v2" else b"v1")
        cipher = sealed if self.flaw == "v1: is the same as v2" else name.encode().ljust(8, b"\0") + sealed
        return v1.EncryptResponse(
            cipher=cipher.ljust(70_000, b"\0") if self.flaw == "v1: a cipher of 70 kB" else cipher
        )

    def decrypt_v1(self, request: Any, context: grpc.ServicerContext) -> Any:
        cipher = request.cipher.rstrip(b"\0") if self.flaw == "v1: ignores trailing zeros" else request.cipher
        try:
            return v1.DecryptResponse(plain=self.open(cipher[8:], cipher[:8].rstrip(b"\0").decode(), b"v1"))
        except (InvalidTag, ValueError):
            context.abort(grpc.StatusCode.DATA_LOSS, "does not authenticate")


def main() -> None:
    path, directory, flaw = sys.argv[1:]
    plugin = Plugin(Path(directory), flaw)
    server = grpc.server(ThreadPoolExecutor(16 if flaw == "Status waits in the line of Decrypts" else 96))
    services: dict[str, dict[str, tuple[Any, Any]]] = {
        "v2.KeyManagementService": {
            "Status": (plugin.status, v2.StatusRequest),
            "Encrypt": (plugin.encrypt, v2.EncryptRequest),
            "Decrypt": (plugin.decrypt, v2.DecryptRequest),
        },
        "v1beta1.KeyManagementService": {
            "Version": (plugin.version_v1, v1.VersionRequest),
            "Encrypt": (plugin.encrypt_v1, v1.EncryptRequest),
            "Decrypt": (plugin.decrypt_v1, v1.DecryptRequest),
        },
    }
    for service, methods in services.items():
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=lambda one: one.SerializeToString()
            )
            for name, (method, request) in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    os.chmod(path, 0o777 if flaw == "a socket for everybody" else 0o600)  # noqa: PTH101
    restart = Path(path).with_suffix(".restart")
    while not restart.exists():
        time.sleep(0.02)
    server.stop(0).wait()
    restart.unlink()
    os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    main()
