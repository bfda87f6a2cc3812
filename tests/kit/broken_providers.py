"""Providers that are broken on purpose, each in one way that real adapters are. `breaks` names the rule for it."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from keystead.errors import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    PermissionDenied,
    ProviderError,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from keystead.provider import Capabilities, WrapContext, Wrapped
from keystead.testing import FakeKmsConfig, FakeKmsProvider
from keystead.testing.fake_provider import Client

BROKEN: list[type[Broken]] = []
log = logging.getLogger("acme")


class Broken(FakeKmsProvider):
    """The base: sound, until a subclass changes something. The docstring of each says what."""

    breaks: ClassVar[str] = ""
    fields: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        BROKEN.append(cls)


def replace_client(provider: Broken, kind: type[Client]) -> None:
    """Give an opened provider another client for the same service."""
    provider._client = kind(provider.config.url, provider.config.tokenFile, provider.config.caFile)


# What the class says of itself.


class SpeaksAnotherApi(Broken):
    """was written for an interface of the future"""

    breaks = "KS-R001"
    api = 99


class PromisesHugeBlobs(Broken):
    """declares blobs that fit in no record"""

    breaks = "KS-R003"
    capabilities = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=65536)


class LaxConfig(FakeKmsConfig):
    model_config = ConfigDict(extra="ignore")


class IgnoresMisspeltFields(Broken):
    """takes a configuration with misspelt fields"""

    breaks = "KS-R004"
    config_type = LaxConfig


class SilentConfig(FakeKmsConfig):
    region: str = "eu"


class DescribesNothing(Broken):
    """has a field that nobody describes"""

    breaks = "KS-R005"
    config_type = SilentConfig


class OpenConfig(FakeKmsConfig):
    accessToken: str = Field(default="", description="The token.")  # noqa: N815


class TakesTokenInline(Broken):
    """takes the token itself in the configuration"""

    breaks = "KS-R006"
    config_type = OpenConfig


class ReadsWhenMade(Broken):
    """reads its token when the instance is made"""

    breaks = "KS-R008"

    def __init__(self, config: FakeKmsConfig) -> None:
        super().__init__(config)
        self.token = Path(config.tokenFile).read_text()


# Opening and closing.


class RefWithSpaces(Broken):
    """returns a ref with spaces"""

    breaks = "KS-R010"

    def open(self, deadline: float) -> str:
        return f"Acme key {super().open(deadline)}"


class RefOfTheSession(Broken):
    """makes its ref of a random session id"""

    breaks = "KS-R011"

    def open(self, deadline: float) -> str:
        return f"{super().open(deadline)}/{os.urandom(4).hex()}"


class RefOfTheAddress(Broken):
    """has the address in its ref"""

    breaks = "KS-R012"

    def open(self, deadline: float) -> str:
        return f"{self.config.url}/{super().open(deadline)}"


class OpensOnce(Broken):
    """refuses a second open"""

    breaks = "KS-R013"

    def open(self, deadline: float) -> str:
        if self._client is not None:
            raise RuntimeError("already open")
        return super().open(deadline)


class StaysBroken(Broken):
    """remembers that open failed"""

    breaks = "KS-R014"
    failure: ProviderError | None = None

    def open(self, deadline: float) -> str:
        if self.failure is not None:
            raise self.failure
        try:
            return super().open(deadline)
        except ProviderError as exc:
            self.failure = exc
            raise


class OpensSlowly(Broken):
    """opens with a time limit of its own"""

    breaks = "KS-R015"

    def open(self, deadline: float) -> str:
        return super().open(deadline + 1)


class ClosesOnce(Broken):
    """fails to close what is not open"""

    breaks = "KS-R016"

    def close(self) -> None:
        self._client.token  # type: ignore[union-attr]  # noqa: B018
        super().close()


class FallsWhenClosed(Broken):
    """raises AttributeError after close"""

    breaks = "KS-R017"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        self._client.call  # type: ignore[union-attr]  # noqa: B018
        return super()._call(operation, deadline, body)


class RaisesWhenKeptAlive(Broken):
    """lets an exception out of keep_alive"""

    breaks = "KS-R018"

    def keep_alive(self, deadline: float) -> None:
        raise OSError("renewal failed")


class LooksUpItsExpiry(Broken):
    """reads a file to say when its credentials end"""

    breaks = "KS-R019"

    @property
    def credential_expiry(self) -> float | None:
        return self.config.tokenFile.stat().st_mtime if self.config.tokenFile.read_text() else None


# Wrapping.


class ReturnsAnotherKey(Broken):
    """returns a key with its last byte changed"""

    breaks = "KS-R020"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        kek = super().unwrap(blob, context, version, deadline)
        kek[-1] ^= 1
        return kek


class ReturnsBytearrayBlob(Broken):
    """returns the blob as a bytearray"""

    breaks = "KS-R021"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        made = super().wrap(kek, context, version, deadline)
        return Wrapped(bytearray(made.blob), made.version)  # type: ignore[arg-type]


class OutgrowsItsPromise(Broken):
    """makes larger blobs than it declares"""

    breaks = "KS-R021"
    capabilities = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=64)


class StoresTheKeyBeside(Broken):
    """puts the key into the blob, for debugging"""

    breaks = "KS-R022"
    capabilities = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=200)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        made = super().wrap(kek, context, version, deadline)
        return Wrapped(made.blob + kek.hex().encode(), made.version)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob[:-64], context, version, deadline)


class ReturnsAView(Broken):
    """returns a memoryview"""

    breaks = "KS-R023"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return memoryview(super().unwrap(blob, context, version, deadline))  # type: ignore[return-value]


class SharesItsCache(Broken):
    """caches keys, and hands out the cached object"""

    breaks = "KS-R024"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        cache = self.__dict__.setdefault("cache", {})
        if blob not in cache:
            cache[blob] = super().unwrap(blob, context, version, deadline)
        found: bytearray = cache[blob]
        return found


class TreatsKeysAsText(Broken):
    """strips line feeds, as from a file"""

    breaks = "KS-R025"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return super().wrap(kek.rstrip(b"\r\n"), context, version, deadline)


class KeepsAPartToItself(Broken):
    """mixes a secret of the instance into what it wraps"""

    breaks = "KS-R026"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return super().wrap(self._mixed(kek), context, version, deadline)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return bytearray(self._mixed(super().unwrap(blob, context, version, deadline)))

    def _mixed(self, kek: bytes | bytearray) -> bytes:
        secret = self.__dict__.setdefault("secret", os.urandom(32))
        return bytes(one ^ other for one, other in zip(kek, secret, strict=True))


class RemembersTheLastContext(Broken):
    """uses the context of its last wrap for every unwrap"""

    breaks = "KS-R027"
    last: WrapContext | None = None

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        self.last = context
        return super().wrap(kek, context, version, deadline)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, self.last or context, version, deadline)


class BelongsToOneThread(Broken):
    """works in the thread that opened it only"""

    breaks = "KS-R028"

    def open(self, deadline: float) -> str:
        self.owner = threading.get_ident()
        return super().open(deadline)

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if threading.get_ident() != self.owner:
            raise RuntimeError("objects created in a thread can only be used in that same thread")
        return super()._call(operation, deadline, body)


# Refusing.


class Guesses(Broken):
    """returns some key where the remote refuses"""

    breaks = "KS-R030"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        try:
            return super().unwrap(blob, context, version, deadline)
        except InvalidCiphertext:
            return bytearray(os.urandom(32))


class CallsDamageUnavailable(Broken):
    """calls a failed integrity check Unavailable"""

    breaks = "KS-R030"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        try:
            return super().unwrap(blob, context, version, deadline)
        except InvalidCiphertext as exc:
            raise Unavailable(str(exc)) from None


class IndexesBlindly(Broken):
    """raises IndexError for a blob that is too short"""

    breaks = "KS-R031"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        if blob[1] > 200 or blob[40] < 0:
            raise InvalidCiphertext("a strange version")
        return super().unwrap(blob, context, version, deadline)


class TakesTheTail(Broken):
    """gives another key for a blob with bytes behind it"""

    breaks = "KS-R032"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        kek = super().unwrap(blob[:74], context, version, deadline)
        return bytearray((bytes(kek) + blob[74:])[-32:])


class DecodesBlobs(Broken):
    """raises UnicodeDecodeError for a blob that is no text"""

    breaks = "KS-R033"
    capabilities = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=200)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        made = super().wrap(kek, context, version, deadline)
        return Wrapped(made.blob.hex().encode(), made.version)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        text = blob.decode()
        if len(text) != 148 or not set(text) <= set("0123456789abcdef"):
            raise InvalidCiphertext("not hexadecimal")
        return super().unwrap(bytes.fromhex(text), context, version, deadline)


class DiscoversTheKey(Broken):
    """asks for every key of the account until one opens the blob"""

    breaks = "KS-R034"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        try:
            return super().unwrap(blob, context, version, deadline)
        except InvalidCiphertext:
            other = type(self)(self.config.model_copy(update={"key": "other"}))
            other._client = self._client
            return FakeKmsProvider.unwrap(other, blob, context, version, deadline)


class WrapsInHalves(Broken):
    """wraps two halves of the key by themselves"""

    breaks = "KS-R035"
    capabilities = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=116)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        one, other = (
            super(WrapsInHalves, self).wrap(half, context, version, deadline) for half in (kek[:16], kek[16:])
        )
        return Wrapped(one.blob + other.blob, one.version)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        if len(blob) != 116:
            raise InvalidCiphertext("not two halves")
        halves = (
            super(WrapsInHalves, self).unwrap(half, context, version, deadline) for half in (blob[:58], blob[58:])
        )
        return bytearray(b"".join(halves))


# Binding.


class BindsTheClusterOnly(Broken):
    """leaves the kek_id out of what it binds"""

    breaks = "KS-R040"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return super().wrap(kek, WrapContext(bytes(32), context.cluster), version, deadline)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, WrapContext(bytes(32), context.cluster), version, deadline)


class BindsTheKekOnly(Broken):
    """leaves the cluster out of what it binds"""

    breaks = "KS-R041"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return super().wrap(kek, WrapContext(context.kek_id, ""), version, deadline)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, WrapContext(context.kek_id, ""), version, deadline)


class RefusesEmptyLabels(Broken):
    """takes an empty label for a mistake"""

    breaks = "KS-R042"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        if not context.cluster:
            raise ConfigError("no cluster")
        return super().wrap(kek, context, version, deadline)


# Versions.


class NumbersVersions(Broken):
    """returns the version as a number"""

    breaks = "KS-R050"

    def current_version(self, deadline: float) -> str | None:
        return int(super().current_version(deadline) or "0")  # type: ignore[return-value]


class CountsLookups(Broken):
    """returns another version at every call"""

    breaks = "KS-R050"
    count = 0

    def current_version(self, deadline: float) -> str | None:
        self.count += 1
        return f"{super().current_version(deadline)}.{self.count}"


class NamesTheLatest(Broken):
    """calls every version `latest`"""

    breaks = "KS-R051"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return Wrapped(super().wrap(kek, context, None, deadline).blob, "latest")

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, context, str(int.from_bytes(blob[:2])), deadline)


class NamesVersionsInFull(Broken):
    """answers with a longer name than was asked for"""

    breaks = "KS-R052"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        made = super().wrap(kek, context, version, deadline)
        return Wrapped(made.blob, made.version if version is None else f"versions/{made.version}")


class ClaimsWhatWasAsked(Broken):
    """copies the version that was asked for into the answer"""

    breaks = "KS-R053"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        made = super().wrap(kek, context, None, deadline)
        return Wrapped(made.blob, version or made.version)


class FallsOverVersions(Broken):
    """raises ValueError for a version that is no number"""

    breaks = "KS-R054"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, context, str(int(version)), deadline)


class LooksOnce(Broken):
    """keeps the version that was current at its first look"""

    breaks = "KS-R055"

    def current_version(self, deadline: float) -> str | None:
        if "version" not in self.__dict__:
            self.version = super().current_version(deadline)
        return self.version


class TrustsTheQuestion(Broken):
    """says the version that was asked for, while the remote takes the current one"""

    breaks = "KS-R056"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        made = super().wrap(kek, context, None, deadline)
        return Wrapped(made.blob, version or made.version)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, context, str(int.from_bytes(blob[:2])), deadline)


class CallsDisabledDamaged(Broken):
    """calls a disabled version InvalidCiphertext"""

    breaks = "KS-R057"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        try:
            return super().unwrap(blob, context, version, deadline)
        except KeyDisabled as exc:
            raise InvalidCiphertext(str(exc)) from None


# What the remote says.


class MapsErrors(Broken):
    """The base of those that give a class of the remote's failures another name."""

    instead: ClassVar[dict[type[ProviderError], type[Exception]]] = {}

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            return super()._call(operation, deadline, body)
        except ProviderError as exc:
            raise self.instead.get(type(exc), type(exc))(str(exc)) from None


BROKEN.remove(MapsErrors)


class CallsThrottlingDenial(MapsErrors):
    """calls a rate limit PermissionDenied"""

    breaks = "KS-R060"
    instead = {Throttled: PermissionDenied}


class CallsOutageDamage(MapsErrors):
    """calls an outage InvalidCiphertext"""

    breaks = "KS-R061"
    instead = {Unavailable: InvalidCiphertext}


class ConfusesDenials(MapsErrors):
    """calls a denial Unauthenticated"""

    breaks = "KS-R062"
    instead = {PermissionDenied: Unauthenticated}


class RaisesTheBase(MapsErrors):
    """raises ProviderError itself, which has no class"""

    breaks = "KS-R062"
    instead = {PermissionDenied: ProviderError}


class KeepsItsToken(Broken):
    """reads the token once"""

    breaks = "KS-R063"

    def open(self, deadline: float) -> str:
        ref = super().open(deadline)
        token = self._client._token  # type: ignore[union-attr]
        self._client._read_token = lambda: token  # type: ignore[union-attr,method-assign]
        return ref


class RemembersRefusals(Broken):
    """remembers that the key was disabled"""

    breaks = "KS-R064"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if "refusal" in self.__dict__:
            raise KeyDisabled("disabled, as before")
        try:
            return super()._call(operation, deadline, body)
        except KeyDisabled as exc:
            self.__dict__["refusal"] = exc
            raise


class HidesLostKeys(MapsErrors):
    """calls a key that is gone Unavailable"""

    breaks = "KS-R065"
    instead = {KeyNotFound: Unavailable}


class PadsKeys(Broken):
    """pads short answers to 32 bytes"""

    breaks = "KS-R066"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        return super().unwrap(blob, context, version, deadline).ljust(32, b"\0")


class RawClient(Client):
    """Parses answers without care."""

    def _exchange(
        self, method: str, path: str, deadline: float, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        left = max(0.01, deadline - time.monotonic())
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\nConnection: close\r\n"
        answer = b""
        with socket.create_connection((self._host, self._port), timeout=left) as plain:
            assert self._tls is not None
            with self._tls.wrap_socket(plain, server_hostname=self._host) as sock:
                sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
                while chunk := self.read(sock, deadline):
                    answer += chunk
        return int(answer[9:12]), json.loads(answer.partition(b"\r\n\r\n")[2])

    def read(self, sock: ssl.SSLSocket, deadline: float) -> bytes:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        return sock.recv(65536)


class WithClient(Broken):
    """The base of those whose client is at fault."""

    kind: ClassVar[type[Client]] = Client

    def open(self, deadline: float) -> str:
        ref = super().open(deadline)
        replace_client(self, self.kind)
        return ref


BROKEN.remove(WithClient)


class LetsParsersOut(WithClient):
    """lets the exceptions of a JSON parser out"""

    breaks = "KS-R067"
    kind = RawClient


# Time.


class MindsNoDeadline(Broken):
    """gives a negative time to the socket"""

    breaks = "KS-R070"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with socket.socket() as probe:
            probe.settimeout(deadline - time.monotonic())
        return super()._call(operation, deadline, body)


class HasItsOwnLimit(Broken):
    """waits for three seconds, whatever the deadline"""

    breaks = "KS-R071"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return super()._call(operation, time.monotonic() + 3 if time.monotonic() < deadline else deadline, body)


class PerReadClient(RawClient):
    """Has a limit for each read, as most SDKs do."""

    def _exchange(
        self, method: str, path: str, deadline: float, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        self.limit = max(0.01, deadline - time.monotonic())
        try:
            return super()._exchange(method, path, deadline, body)
        except OSError as exc:
            raise Unavailable(str(exc)) from None

    def read(self, sock: ssl.SSLSocket, deadline: float) -> bytes:
        sock.settimeout(self.limit)
        return sock.recv(65536)


class LimitsEachRead(WithClient):
    """has a time limit for each read only"""

    breaks = "KS-R072"
    kind = PerReadClient


class IsImpatient(Broken):
    """gives up after a tenth of a second"""

    breaks = "KS-R073"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return super()._call(operation, min(deadline, time.monotonic() + 0.1), body)


# The network.


class LetsSocketsOut(WithClient):
    """lets the exceptions of a broken connection out"""

    breaks = "KS-R076"
    kind = RawClient


class BacksOff(Broken):
    """asks nobody for ten seconds after a failure"""

    breaks = "KS-R077"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if time.monotonic() < self.__dict__.get("closed_until", 0.0):
            raise Unavailable("the circuit is open")
        try:
            return super()._call(operation, deadline, body)
        except Unavailable:
            self.__dict__["closed_until"] = time.monotonic() + 10
            raise


class KeepsOneConnection(Broken):
    """keeps a connection, and never makes another"""

    breaks = "KS-R078"

    def open(self, deadline: float) -> str:
        ref = super().open(deadline)
        host, _, port = self.config.url.removeprefix("https://").partition(":")
        self.kept = socket.create_connection((host, int(port)))
        return ref

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        self.kept.settimeout(0.05)
        try:
            if self.kept.recv(1) == b"":
                raise Unavailable("the connection was closed")
        except TimeoutError:
            pass
        except OSError as exc:
            raise Unavailable(str(exc)) from None
        return super()._call(operation, deadline, body)

    def close(self) -> None:
        if "kept" in self.__dict__:
            self.kept.close()
        super().close()


class TriesFiveTimes(Broken):
    """tries each call five times"""

    breaks = "KS-R079"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        for _ in range(4):
            try:
                return super()._call(operation, deadline, body)
            except Unavailable:
                time.sleep(0.01)
        return super()._call(operation, deadline, body)


class CarelessClient(Client):
    """Verifies no certificate."""

    def __init__(self, url: str, token_file: Path, ca_file: Path | None = None) -> None:
        super().__init__(url, token_file, ca_file)
        assert self._tls is not None
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE


class VerifiesNothing(WithClient):
    """accepts an expired certificate"""

    breaks = "KS-R080"
    kind = CarelessClient


class TrustsAnybody(WithClient):
    """accepts a certificate of an unknown CA"""

    breaks = "KS-R081"
    kind = CarelessClient


class BlamesTheConfiguration(MapsErrors):
    """calls a name that does not resolve ConfigError"""

    breaks = "KS-R082"
    instead = {Unavailable: ConfigError}


# Load.


class KeepsStateOfACall(Broken):
    """keeps the arguments of a call on the instance"""

    breaks = "KS-R085"

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:
        self.now = (blob, context)
        time.sleep(random.uniform(0, 0.002))
        blob, context = self.now
        return super().unwrap(blob, context, version, deadline)


class TakesOneCallAtATime(Broken):
    """refuses a call while another one is under way"""

    breaks = "KS-R086"

    def __init__(self, config: FakeKmsConfig) -> None:
        super().__init__(config)
        self.busy = threading.Lock()

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if not self.busy.acquire(blocking=False):
            raise Throttled("a call is under way")
        try:
            return super()._call(operation, deadline, body)
        finally:
            self.busy.release()


class LeavesAThread(Broken):
    """starts a thread that renews something for ever"""

    breaks = "KS-R087"

    def open(self, deadline: float) -> str:
        threading.Thread(target=time.sleep, args=(30,), daemon=True, name="renewal").start()
        return super().open(deadline)


class LeaksDescriptors(Broken):
    """opens a file at every open, and closes none"""

    breaks = "KS-R088"
    kept: ClassVar[list[Any]] = []

    def open(self, deadline: float) -> str:
        self.kept.append(self.config.tokenFile.open())
        return super().open(deadline)


# Secrecy.


class LogsRequests(Broken):
    """logs what it sends, at DEBUG"""

    breaks = "KS-R090"

    def _call(self, operation: str | None, deadline: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        log.debug("request %s %s", operation, body)
        return super()._call(operation, deadline, body)


class QuotesItsInput(Broken):
    """says in an error what it was asked to wrap"""

    breaks = "KS-R091"

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        try:
            return super().wrap(kek, context, version, deadline)
        except ProviderError as exc:
            raise type(exc)(f"wrap({kek!r}): {exc}") from None


@dataclass
class Credentials:
    token: str


class PrintsItsToken(Broken):
    """keeps the token in an object whose repr shows it"""

    breaks = "KS-R092"

    def open(self, deadline: float) -> str:
        self.credentials = Credentials(self.config.tokenFile.read_text())
        return super().open(deadline)
