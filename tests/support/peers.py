"""PEER-LIKE plugins: what other KMS plugins answer, after their public source, and a gRPC server around one.

None of their code is here. Each class cites the file of the plugin's repository that it follows, as of the commits that
were public in 2026. They call the same fakes and servers as the tests of our providers.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal, Protocol

import grpc

from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.provider import Foreign
from providers.aws.fake import ACCESS, SECRET, FakeAws
from providers.gcp.fake import REQUESTS, FakeKms, crc32c
from providers.vault.bao import Bao


class Peer(Protocol):
    """What a plugin does with the bytes of an Encrypt of KMS v2."""

    def status_key_id(self) -> str: ...

    def encrypt(self, plaintext: bytes) -> tuple[bytes, str]:
        """Return the ciphertext and the key_id beside it."""
        ...

    def decrypt(self, ciphertext: bytes, key_id: str) -> bytes: ...

    def annotations(self) -> Mapping[str, bytes]:
        """Return what is beside the next ciphertext of KMS v2: with most, nothing."""
        return {}

    def of_v1(self) -> Peer:
        """Return what answers KMS v1: most treat the bytes alike."""
        return self


def foreign(peer: Peer, plaintext: bytes, api: str = "v2") -> Foreign:
    """What is stored of one Encrypt."""
    if api != "v2":
        return Foreign("v1beta1", peer.of_v1().encrypt(plaintext)[0])
    ciphertext, key_id = peer.encrypt(plaintext)
    return Foreign("v2", ciphertext, key_id, tuple(peer.annotations().items()))


@dataclass
class AwsEncryptionProvider(Peer):
    """kubernetes-sigs/aws-encryption-provider: pkg/plugin/plugin.go, plugin_v2.go, pkg/kmsplugin/kms.go.

    The byte `1`, then the blob of KMS; the key_id is the flag --key; no annotations.
    """

    aws: FakeAws
    key: str
    context: dict[str, str] = field(default_factory=dict)

    def status_key_id(self) -> str:
        return self.key

    def encrypt(self, plaintext: bytes) -> tuple[bytes, str]:
        answer = self._client().encrypt(KeyId=self.key, Plaintext=plaintext, **self._context)
        return b"1" + answer["CiphertextBlob"], self.key

    def decrypt(self, ciphertext: bytes, key_id: str) -> bytes:  # as that plugin, it ignores it
        if ciphertext[:1] != b"1":
            raise ValueError("another version of the storage")
        # That plugin lets the blob name the key; the fake wants it named, which is the same while there is one.
        answer = self._client().decrypt(KeyId=self.key, CiphertextBlob=ciphertext[1:], **self._context)
        plaintext: bytes = answer["Plaintext"]
        return plaintext

    @property
    def _context(self) -> dict[str, Any]:
        return {"EncryptionContext": self.context} if self.context else {}

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "kms",
            region_name=self.aws.region,
            endpoint_url=self.aws.address,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
        )


@dataclass
class VaultKubernetesKms(Peer):
    """FalcoSuessgott/vault-kubernetes-kms: pkg/plugin/plugin_v1.go, plugin_v2.go, pkg/vault/transit.go.

    Transit's answer as it is; the key_id is `latest_version` of the key as a decimal number, read after the encryption,
    and in the first releases the Unix time at which the version was made.
    """

    bao: Bao
    key: str

    def status_key_id(self) -> str:
        return str(self.bao.call("GET", f"transit/keys/{self.key}")["data"]["latest_version"])

    def first_key_id(self) -> str:
        """The key_id of the first releases."""
        key = self.bao.call("GET", f"transit/keys/{self.key}")["data"]
        return str(key["keys"][str(key["latest_version"])])

    def encrypt(self, plaintext: bytes) -> tuple[bytes, str]:
        return self.bao.encrypt(self.key, plaintext).encode(), self.status_key_id()

    def decrypt(self, ciphertext: bytes, key_id: str) -> bytes:  # as that plugin, it ignores it
        answer = self.bao.call("POST", f"transit/decrypt/{self.key}", {"ciphertext": ciphertext.decode()})
        return base64.b64decode(answer["data"]["plaintext"])


@dataclass
class K8sCloudKmsPlugin(Peer):
    """GoogleCloudPlatform/k8s-cloudkms-plugin: plugin/v1/plugin.go, plugin/v2/plugin.go.

    The service's ciphertext as it is; the key_id is the name of the version that encrypted, then `:` and the flag
    --key-suffix if there is one. Decrypt asks the key that the key_id names.
    """

    kms: FakeKms
    key: str
    suffix: str = ""

    def status_key_id(self) -> str:
        return self.encrypt(b"ping")[1]

    def encrypt(self, plaintext: bytes) -> tuple[bytes, str]:
        request = REQUESTS["Encrypt"](name=self.key, plaintext=plaintext)
        request.plaintext_crc32c.value = crc32c(plaintext)
        answer = self.kms.Encrypt(request)
        return answer.ciphertext, answer.name + (f":{self.suffix}" if self.suffix else "")

    def decrypt(self, ciphertext: bytes, key_id: str) -> bytes:  # there is one key here
        plaintext: bytes = self.kms.Decrypt(REQUESTS["Decrypt"](name=self.key, ciphertext=ciphertext)).plaintext
        return plaintext


@dataclass
class KubernetesKms(Peer):
    """Azure/kubernetes-kms: pkg/plugin/keyvault.go, kms_v2_server.go, server.go.

    RSA by one version of a key; the key_id is the SHA-256 of that version's URL in hex. KMS v2 has RSA-OAEP-256 and
    annotations, KMS v1 RSA1_5. The SDK that it had at first, `autorest`, gives the vault's base64url text for bytes,
    and three headers of the vault's answer become annotations. With the newer `azkeys` the ciphertext is bytes, and
    what is encrypted is text: the plugin goes on to encode it, although this SDK does so as well.
    """

    azure: Any
    """The fake, from the tests of keystead-azure."""
    version: str
    """The flag --key-version. It has no other one, whatever becomes of the key."""
    sdk: Literal["autorest", "azkeys"]
    algorithm: str = "RSA-OAEP-256"
    vault: str = "https://lab.vault.azure.net"
    key: str = "kek"

    @property
    def key_id(self) -> str:
        return hashlib.sha256(f"{self.vault}/keys/{self.key}/{self.version}".encode()).hexdigest()

    def status_key_id(self) -> str:
        return self.encrypt(b"healthcheck")[1]

    def encrypt(self, plaintext: bytes) -> tuple[bytes, str]:
        given = _text(plaintext) if self.sdk == "autorest" else _text(_text(plaintext).encode())
        answer = self._ask("encrypt", given)
        if hashlib.sha256(answer["kid"].encode()).hexdigest() != self.key_id:
            raise ValueError("another key encrypted")
        sealed: str = answer["value"]
        return (sealed.encode() if self.sdk == "autorest" else _bytes(sealed)), self.key_id

    def decrypt(self, ciphertext: bytes, key_id: str) -> bytes:
        if key_id not in ("", self.key_id):  # KMS v1 has none
            raise ValueError("another key_id")
        given = ciphertext.decode() if self.sdk == "autorest" else _text(ciphertext)
        answer = self._ask("decrypt", given)
        plaintext = _bytes(answer["value"])
        return plaintext if self.sdk == "autorest" else _bytes(plaintext.decode())

    def annotations(self) -> Mapping[str, bytes]:
        said = {"version.azure.akv.io": b"1", "algorithm.azure.akv.io": self.algorithm.encode()}
        if self.sdk == "azkeys":
            return said
        return said | {
            "date.azure.akv.io": formatdate(usegmt=True).encode(),
            "x-ms-request-id.azure.akv.io": os.urandom(16).hex().encode(),
            "x-ms-keyvault-region.azure.akv.io": b"westeurope",
        }

    def of_v1(self) -> Peer:
        return replace(self, algorithm="RSA1_5")

    def _ask(self, operation: str, value: str) -> dict[str, Any]:
        token = self.azure.token({"client_secret": self.azure.secret})["access_token"]
        body = {"alg": self.algorithm, "value": value}
        answer: dict[str, Any] = self.azure.key("POST", f"/keys/{self.key}/{self.version}/{operation}", token, body)
        return answer


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextlib.contextmanager
def serving(peer: Peer, socket: Path) -> Iterator[None]:
    """Serve both versions of the KMS API on one socket, as all of them do or can."""
    old = peer.of_v1()

    def handler(request: Any, answer: Callable[[Any], Any]) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(
            lambda message, _: answer(message),
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def encrypt_v2(request: Any) -> Any:
        ciphertext, key_id = peer.encrypt(request.plaintext)
        return v2.EncryptResponse(ciphertext=ciphertext, key_id=key_id, annotations=peer.annotations())

    services = {
        "v2": {
            "Status": handler(
                v2.StatusRequest,
                lambda _: v2.StatusResponse(version="v2", healthz="ok", key_id=peer.status_key_id()),
            ),
            "Encrypt": handler(v2.EncryptRequest, encrypt_v2),
            "Decrypt": handler(
                v2.DecryptRequest, lambda r: v2.DecryptResponse(plaintext=peer.decrypt(r.ciphertext, r.key_id))
            ),
        },
        "v1beta1": {
            "Version": handler(
                v1.VersionRequest,
                lambda _: v1.VersionResponse(version="v1beta1", runtime_name="peer-like", runtime_version="0.0.1"),
            ),
            "Encrypt": handler(v1.EncryptRequest, lambda r: v1.EncryptResponse(cipher=old.encrypt(r.plain)[0])),
            "Decrypt": handler(v1.DecryptRequest, lambda r: v1.DecryptResponse(plain=old.decrypt(r.cipher, ""))),
        },
    }
    server = grpc.server(ThreadPoolExecutor(4))
    for version, methods in services.items():
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(f"{version}.KeyManagementService", methods),)
        )
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()
