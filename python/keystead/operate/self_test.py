"""Calls a KMS plugin as kube-apiserver does, Status, Encrypt, Decrypt, and judges the answers by its rules."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from keystead._core import ANNOTATION, Record
from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.errors import MalformedRequest

MAX_KEY_ID = 1024
MAX_CIPHERTEXT = 1024
MAX_ANNOTATIONS = 32 * 1024
SEED_SIZE = 32
# A lower-case DNS name of two labels or more, as upstream's kmsv2.ValidateEncryptedObject demands.
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+\.?")


@dataclass(frozen=True, slots=True)
class Step:
    """One call or check: what was done, whether the API server would be content, and what was seen."""

    name: str
    ok: bool
    seen: str
    seconds: float


class Unreachable(Exception):
    """Nothing answers on the socket."""


class CallFailed(Exception):
    """The plugin answered a call with an error; the message has its code and text."""


Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What an Encrypt answered, for whoever wants to look into it."""

    ciphertext: bytes
    key_id: str
    annotations: Mapping[str, bytes]


class SelfTest:
    """One run against one endpoint. Iterate over `run_v2` or `run_v1`; `sealed` is there after the Encrypt step."""

    def __init__(self, endpoint: str, timeout: float) -> None:
        self.sealed: Sealed | None = None
        self._timeout = timeout
        self._channel = grpc.insecure_channel(grpc_address(endpoint), options=[("grpc.default_authority", "localhost")])

    def run_v2(self) -> Iterator[Step]:
        """Yield each step as it ends; stop at the first call that fails. Raises `Unreachable`."""
        status, seconds = self._call("/v2.KeyManagementService/Status", v2.StatusRequest(), v2.StatusResponse)
        problems = list(_status_problems(status))
        seen = f"version {status.version}, healthz {status.healthz}, key_id {status.key_id}"
        yield _step("Status", problems, seen, seconds)
        seed = secrets.token_bytes(SEED_SIZE)
        request = v2.EncryptRequest(plaintext=seed, uid=str(uuid.uuid4()))
        sealed, seconds = self._call("/v2.KeyManagementService/Encrypt", request, v2.EncryptResponse)
        self.sealed = Sealed(sealed.ciphertext, sealed.key_id, dict(sealed.annotations))
        problems = list(_encrypt_problems(sealed, status.key_id))
        size = sum(len(key) + len(value) for key, value in sealed.annotations.items())
        seen = f"{SEED_SIZE} bytes became {len(sealed.ciphertext)}, and {size} bytes of annotations for each object"
        yield _step("Encrypt", problems, seen, seconds)
        again = v2.DecryptRequest(
            ciphertext=sealed.ciphertext, uid=str(uuid.uuid4()), key_id=sealed.key_id, annotations=sealed.annotations
        )
        opened, seconds = self._call("/v2.KeyManagementService/Decrypt", again, v2.DecryptResponse)
        problems = [] if opened.plaintext == seed else ["the answer is not what was encrypted"]
        yield _step("Decrypt", problems, f"the same {len(opened.plaintext)} bytes came back", seconds)

    def run_v1(self) -> Iterator[Step]:
        """The same for KMS v1, whose health check encrypts the word `ping`."""
        service = "/v1beta1.KeyManagementService"
        told, seconds = self._call(f"{service}/Version", v1.VersionRequest(version="v1beta1"), v1.VersionResponse)
        problems = [] if told.version == "v1beta1" else [f"version must be v1beta1, is {told.version!r}"]
        yield _step("Version", problems, f"{told.version}, {told.runtime_name} {told.runtime_version}", seconds)
        for name, plain in (("ping", b"ping"), ("DEK", secrets.token_bytes(SEED_SIZE))):
            request = v1.EncryptRequest(version="v1beta1", plain=plain)
            sealed, seconds = self._call(f"{service}/Encrypt", request, v1.EncryptResponse)
            problems = [] if 0 < len(sealed.cipher) <= 65535 else ["a ciphertext must have 1 to 65535 bytes"]
            yield _step(f"Encrypt {name}", problems, f"{len(plain)} bytes became {len(sealed.cipher)}", seconds)
            again = v1.DecryptRequest(version="v1beta1", cipher=sealed.cipher)
            opened, seconds = self._call(f"{service}/Decrypt", again, v1.DecryptResponse)
            problems = [] if opened.plain == plain else ["the answer is not what was encrypted"]
            yield _step(f"Decrypt {name}", problems, f"the same {len(opened.plain)} bytes came back", seconds)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _call(self, method: str, request: Message, response_type: type[Answer]) -> tuple[Answer, float]:
        call = self._channel.unary_unary(
            method, request_serializer=_serialize, response_deserializer=response_type.FromString
        )
        started = time.perf_counter()
        try:
            answer = call(request, timeout=self._timeout, wait_for_ready=True)
        except grpc.RpcError as exc:
            code, details = exc.code(), exc.details()
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Unreachable(f"no answer to {method} within {self._timeout:g} s") from None
            raise CallFailed(f"{method}: {code.name}: {details}") from None
        return answer, time.perf_counter() - started


def grpc_address(endpoint: str) -> str:
    """Turn an EncryptionConfiguration's endpoint into the address that gRPC dials. Raises `ValueError`."""
    scheme, separator, path = endpoint.partition("://")
    if scheme != "unix" or not separator or not path.startswith("/"):
        raise ValueError(f"{endpoint} is not of the form unix:///path or unix:///@name")
    return f"unix-abstract:{path[2:]}" if path.startswith("/@") else f"unix:{path}"


def is_annotation_name(name: str) -> bool:
    """Whether kube-apiserver takes this name of an annotation."""
    return len(name) <= 253 and _DOMAIN.fullmatch(name) is not None


def _serialize(message: Message) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def _status_problems(status: v2.StatusResponse) -> Iterator[str]:
    if status.healthz != "ok":
        yield f"healthz is not ok: {status.healthz!r}"
    if status.version not in ("v2", "v2beta1"):
        yield f"version must be v2 (or v2beta1 before Kubernetes 1.29), is {status.version!r}"
    if not 1 <= len(status.key_id.encode()) <= MAX_KEY_ID:
        yield f"key_id must have 1 to {MAX_KEY_ID} bytes, has {len(status.key_id.encode())}"


def _encrypt_problems(sealed: v2.EncryptResponse, status_key_id: str) -> Iterator[str]:
    if not 1 <= len(sealed.ciphertext) <= MAX_CIPHERTEXT:
        yield f"ciphertext must have 1 to {MAX_CIPHERTEXT} bytes, has {len(sealed.ciphertext)}"
    if sealed.key_id != status_key_id:
        yield f"key_id {sealed.key_id!r} differs from that of Status"
    for name in sealed.annotations:
        if not is_annotation_name(name):
            yield f"annotation {name!r} is not a domain name"
    size = sum(len(key.encode()) + len(value) for key, value in sealed.annotations.items())
    if size > MAX_ANNOTATIONS:
        yield f"annotations have {size} bytes, more than {MAX_ANNOTATIONS}"
    if ANNOTATION in sealed.annotations:
        try:
            Record.parse(sealed.annotations[ANNOTATION])
        except MalformedRequest as exc:
            yield f"annotation {ANNOTATION!r}: {exc}"


def _step(name: str, problems: list[str], seen: str, seconds: float) -> Step:
    return Step(name, not problems, "; ".join(problems) or seen, seconds)
