"""A token with its session: logged in once, opened again when it was lost. Importing this imports python-pkcs11."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    ProviderError,
    Unauthenticated,
    Unavailable,
)
from keystead_pkcs11.library import Library, one_call

KEY_BITS = 256
TAG_BITS = 128
MAX_ID = 8
"""Bytes of a CKA_ID that is taken for a number."""

# What says that a session, the login or a handle is gone, though token and PIN may be fine.
LOST = (
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.UserNotLoggedIn,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.DeviceRemoved,
    pkcs11.TokenNotPresent,
    pkcs11.OperationNotInitialized,
    pkcs11.OperationActive,
)
DAMAGED = (pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange, pkcs11.DataInvalid, pkcs11.DataLenRange)
FUNCTION_NOT_PERMITTED = 0x68
"""CKR_KEY_FUNCTION_NOT_PERMITTED, for which the library has no class."""
NOT_INITIALIZED = 0x190
"""CKR_CRYPTOKI_NOT_INITIALIZED, likewise."""

T = TypeVar("T")


class Token:
    """Safe to use from many threads. A call of the library cannot be interrupted: a deadline holds before it starts."""

    def __init__(self, module: Path, label: str, pin_file: Path, serial: str | None = None) -> None:
        self._module = module
        self._label = label
        self._serial = serial
        self._pin_file = pin_file
        self._refused: str | None = None
        """The hash of a PIN that the token has refused, which must not be tried again: tokens lock after a few."""
        self._library = Library(module)

    def versions(self, label: str, deadline: float) -> set[int]:
        """Return the versions of a key: the numbers in the CKA_IDs of its AES keys."""

        def look(session: Any) -> set[int]:
            wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label, Attribute.KEY_TYPE: KeyType.AES}
            return {
                int.from_bytes(found.id)
                for found in session.get_objects(wanted)
                if found.key_length == KEY_BITS and len(found.id) <= MAX_ID
            }

        found = self._run(f"find the key {label}", look, deadline)
        if not found:
            raise KeyNotFound(f"token {self._label} has no AES-256 key with the label {label}")
        return found

    def encrypt(self, label: str, version: int, nonce: bytes, plain: bytes, aad: bytes, deadline: float) -> bytes:
        """Encrypt in the token."""

        def work(session: Any) -> bytes:
            key = self._key(session, label, version, "encrypt")
            return bytes(
                key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad, TAG_BITS))
            )

        return self._run(f"wrap under {label}", work, deadline)

    def decrypt(self, label: str, version: int, nonce: bytes, sealed: bytes, aad: bytes, deadline: float) -> bytes:
        """Decrypt in the token. Raises `InvalidCiphertext` if the tag does not fit."""

        def work(session: Any) -> bytes:
            key = self._key(session, label, version, "decrypt")
            parameters = GCMParams(nonce, aad, TAG_BITS)
            try:
                return bytes(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
            except DAMAGED:
                raise InvalidCiphertext(f"version {version} of {label} did not wrap these bytes") from None
            except (pkcs11.GeneralError, pkcs11.FunctionFailed):
                # Some tokens say no more of a tag that does not fit. One that opens what it has just sealed is well.
                _must_be_well(session, key)
                raise InvalidCiphertext(f"version {version} of {label} refuses these bytes, and opens others") from None

        return self._run(f"unwrap under {label}", work, deadline)

    def close(self) -> None:
        """Close the session."""
        with one_call:
            self._drop()

    def __repr__(self) -> str:
        return f"Token({self._label})"

    def _key(self, session: Any, label: str, version: int, use: str) -> Any:
        for size in range(1, MAX_ID + 1):
            if version >= 256**size:
                continue
            try:
                key = session.get_key(
                    object_class=ObjectClass.SECRET_KEY, key_type=KeyType.AES, label=label, id=version.to_bytes(size)
                )
            except pkcs11.NoSuchKey:
                continue
            except pkcs11.MultipleObjectsReturned:
                raise ConfigError(f"token {self._label} has several keys {label} with the CKA_ID {version}") from None
            # python-pkcs11 leaves out the methods that the key's attributes forbid.
            if not hasattr(key, use):
                raise KeyDisabled(f"version {version} of {label} may not {use}: set CKA_{use.upper()} of the key")
            return key
        raise KeyNotFound(f"token {self._label} has no key {label} with the CKA_ID {version}")

    def _run(self, what: str, work: Callable[[Any], T], deadline: float) -> T:
        """Do some work in the session, and once more in a new one if that one was lost."""
        if not one_call.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Unavailable(f"{what}: another call of the library did not end in time")
        try:
            if time.monotonic() >= deadline:
                raise Unavailable(f"{what}: no time left")
            try:
                return work(self._opened())
            except pkcs11.PKCS11Error as exc:
                self._drop()  # whatever operation it was in the middle of
                if not _is_lost(exc):
                    raise
                if _code(exc) == NOT_INITIALIZED:
                    self._library.restart()
                return work(self._opened())
        except pkcs11.PKCS11Error as exc:
            self._drop()
            raise self._translated(what, exc) from None
        finally:
            one_call.release()

    def _opened(self) -> Any:
        return self._library.session or self._library.keep(self._new_session())

    def _new_session(self) -> Any:
        token = self._library.token(self._label, self._serial)
        pin = self._pin()
        marked = hashlib.sha256(pin.encode()).hexdigest()
        if marked == self._refused:
            raise Unauthenticated(
                f"token {self._label} has refused this PIN before; it is not tried again until {self._pin_file} changes"
            )
        try:
            return token.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            return token.open()  # the login is the process's: another session has made it
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinExpired, pkcs11.PinLocked):
            self._refused = marked
            raise

    def _pin(self) -> str:
        try:
            return self._pin_file.read_text().strip("\r\n")
        except UnicodeDecodeError:
            raise Unauthenticated(f"{self._pin_file} is not text in UTF-8, which a PIN is") from None
        except OSError as exc:
            raise Unauthenticated(f"cannot read {self._pin_file}: {exc.strerror}") from None

    def _drop(self) -> None:
        session = self._library.drop()
        if session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):  # it may be gone already
                session.close()

    def _translated(self, what: str, exc: pkcs11.PKCS11Error) -> ProviderError:
        kind: type[ProviderError] = Unavailable
        advice = ""
        if isinstance(exc, pkcs11.PinIncorrect | pkcs11.PinInvalid | pkcs11.PinLenRange):
            kind, advice = Unauthenticated, f": write the right PIN into {self._pin_file}"
        elif isinstance(exc, pkcs11.PinExpired | pkcs11.PinLocked | pkcs11.UserPinNotInitialized):
            kind, advice = Unauthenticated, ": the security officer has to set the PIN anew"
        elif isinstance(exc, pkcs11.NoSuchToken):
            advice = f": is token {self._label} connected? pkcs11-tool --module {self._module} -L lists what there is"
        elif isinstance(exc, pkcs11.MultipleTokensReturned):
            advice = f": several tokens have the label {self._label}: choose one by tokenSerial"
        elif isinstance(exc, pkcs11.MechanismInvalid | pkcs11.MechanismParamInvalid):
            kind, advice = ConfigError, ": this token has no AES-GCM with associated data"
        elif _code(exc) == FUNCTION_NOT_PERMITTED:
            kind, advice = KeyDisabled, ": set CKA_ENCRYPT and CKA_DECRYPT of the key"
        return kind(f"token {self._label}: {what}: {_name(exc)}{advice}")


def _must_be_well(session: Any, key: Any) -> None:
    """Raise an error of PKCS#11 unless the token does its work."""
    if not hasattr(key, "encrypt"):  # an old version that may only decrypt
        session.generate_random(64)
        return
    parameters, plain = GCMParams(os.urandom(12), b"", TAG_BITS), os.urandom(32)
    sealed = key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    if bytes(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)) != plain:
        raise pkcs11.DeviceError


def _is_lost(exc: pkcs11.PKCS11Error) -> bool:
    return isinstance(exc, LOST) or _code(exc) == NOT_INITIALIZED


def _code(exc: pkcs11.PKCS11Error) -> int | None:
    """Return the CKR code of an error that has no class of its own."""
    text = str(exc)
    for word in text.replace("(", " ").replace(")", " ").split():
        if word.lower().startswith("0x"):
            return int(word, 16)
        if word.isdecimal():
            return int(word)
    return None


def _name(exc: pkcs11.PKCS11Error) -> str:
    text = f" {exc}" if str(exc) else ""
    return f"{type(exc).__name__}{text}"[:120]
