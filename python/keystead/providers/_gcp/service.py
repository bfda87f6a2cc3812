"""The three calls that are made of Cloud KMS, with a token, a deadline, and checksums both ways."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import google_crc32c
import grpc
import urllib3
from google.api_core.exceptions import GoogleAPICallError
from google.protobuf.json_format import Error as NotJson
from google.protobuf.message import DecodeError

from keystead.provider import Misbehaved, ProviderError, Unauthenticated, Unavailable
from keystead.providers._files import FromFile
from keystead.providers._gcp.answers import Damaged, refusal
from keystead.providers._gcp.client import make_client
from keystead.providers._gcp.config import GcpKmsConfig
from keystead.providers._gcp.http import Session, reason
from keystead.providers._gcp.tokens import Tokens, source

_NO_ANSWER = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)
_EARLY = 0.05
"""A call's own time limit may end this many seconds before the deadline: gRPC counts milliseconds."""
_UNREADABLE = (NotJson, DecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What the SDK raises for an answer that is not one of Cloud KMS, or for a channel that is closed meanwhile."""


def crc32c(data: bytes) -> int:
    """Return the checksum that Cloud KMS uses."""
    return int(google_crc32c.value(data))


class Service:
    """One client for all threads, and its token."""

    def __init__(self, config: GcpKmsConfig) -> None:
        self._endpoint = config.endpoint
        self._session = Session(config.caFile, config.proxy)
        self._tokens = Tokens(source(config.credentialsFile, self._session))
        # A channel that is replaced ends with the last call on it, when nothing refers to it any more.
        self._clients = FromFile(config.caFile, lambda: make_client(config, self._session))
        self._closed = False

    def key(self, name: str, deadline: float) -> Any:
        """Return what the service tells about a key."""
        return self._call("GetCryptoKey", self._clients.get().get_crypto_key, {"name": name}, deadline)

    def encrypt(self, name: str, plaintext: bytes, aad: bytes, deadline: float) -> Any:
        """Encrypt under a key or a version. Raises `Misbehaved` if a checksum is wrong twice."""
        request = {
            "name": name,
            "plaintext": plaintext,
            "plaintext_crc32c": crc32c(plaintext),
            "additional_authenticated_data": aad,
            "additional_authenticated_data_crc32c": crc32c(aad),
        }

        def check(answer: Any) -> None:
            if not answer.verified_plaintext_crc32c or not answer.verified_additional_authenticated_data_crc32c:
                raise Damaged("that it did not see the checksums of the request")
            if answer.ciphertext_crc32c != crc32c(answer.ciphertext):
                raise Damaged("with a ciphertext that does not match its checksum")

        return self._checked("Encrypt", self._clients.get().encrypt, request, deadline, check, (plaintext, aad))

    def decrypt(self, name: str, ciphertext: bytes, aad: bytes, deadline: float) -> Any:
        """Decrypt with the version of the key that the ciphertext names. Raises as `encrypt` does."""
        request = {
            "name": name,
            "ciphertext": ciphertext,
            "ciphertext_crc32c": crc32c(ciphertext),
            "additional_authenticated_data": aad,
            "additional_authenticated_data_crc32c": crc32c(aad),
        }

        def check(answer: Any) -> None:
            # There is no flag for the request's checksums here: a request that fails them is refused.
            if answer.plaintext_crc32c != crc32c(answer.plaintext):
                raise Damaged("with a plaintext that does not match its checksum")

        return self._checked("Decrypt", self._clients.get().decrypt, request, deadline, check, (ciphertext, aad))

    @property
    def tokens(self) -> Tokens:
        """What gives the calls their right."""
        return self._tokens

    def close(self) -> None:
        """Close all connections; calls that wait end with `Unavailable`."""
        self._closed = True
        self._clients.get().transport.close()  # type: ignore[no-untyped-call]
        self._session.close()

    def _checked(
        self,
        operation: str,
        method: Callable[..., Any],
        request: Mapping[str, Any],
        deadline: float,
        check: Callable[[Any], None],
        secrets: Iterable[bytes],
    ) -> Any:
        """Call once more if a checksum is wrong: a bit may flip once on the way."""
        damage = ""
        for _ in range(2):
            try:
                answer = self._call(operation, method, request, deadline, secrets)
                check(answer)
                return answer
            except Damaged as exc:
                damage = str(exc)
        asked = self._asked(operation, request)
        raise Misbehaved(f"{asked} answered {damage}, twice: something on the way changes bytes")

    def _call(
        self,
        operation: str,
        method: Callable[..., Any],
        request: Mapping[str, Any],
        deadline: float,
        secrets: Iterable[bytes] = (),
    ) -> Any:
        """Call with a token, and once more with another if the token is refused."""
        while True:
            token = self._tokens.current(deadline)
            outcome = self._attempt(operation, method, request, deadline, token.text, secrets)
            if isinstance(outcome, Unauthenticated) and self._tokens.refused(token):
                continue
            if isinstance(outcome, ProviderError | Damaged):
                raise outcome
            self._tokens.renew_early(deadline)
            return outcome

    def _attempt(
        self,
        operation: str,
        method: Callable[..., Any],
        request: Mapping[str, Any],
        deadline: float,
        token: str,
        secrets: Iterable[bytes],
    ) -> Any:
        asked = self._asked(operation, request)
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return Unavailable(f"{asked}: no time left")
        headers = [("authorization", f"Bearer {token}")]
        try:
            return method(request=request, retry=None, timeout=seconds, metadata=headers)
        except GoogleAPICallError as exc:
            if exc.grpc_status_code is grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() >= deadline - _EARLY:
                return Unavailable(f"{asked}: no complete answer within {seconds:.1f} s")
            return refusal(asked, exc, [*secrets, token.encode()], decrypts=operation == "Decrypt")
        except _NO_ANSWER as exc:
            return Unavailable(f"{asked}: {reason(exc, seconds)}")
        except _UNREADABLE as exc:
            if self._closed:
                return Unavailable("not open")
            return Unavailable(f"{asked}: the answer is not one of Cloud KMS ({type(exc).__name__})")

    def _asked(self, operation: str, request: Mapping[str, Any]) -> str:
        return f"{operation} {request['name']} at {self._endpoint}"
