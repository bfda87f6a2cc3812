"""A real SoftHSM with tokens of its own, for one process: the library reads where they are when it is loaded."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from keystead_pkcs11.library import one_call
from pkcs11 import Attribute, KeyType, ObjectClass

from keystead.provider import WrapContext, Wrapped
from keystead.testing import Sandbox

PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
MISSING = "NOT TESTED on a real token: no SoftHSM; apt-get install softhsm2"


def module() -> Path:
    """The library. Without it the test is skipped, and the summary counts it."""
    found = next((Path(place) for place in PLACES if Path(place).exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        pytest.skip(MISSING)
    return found


@dataclass
class SoftHsm:
    """The directory with the tokens."""

    directory: Path
    made: int = 0

    @classmethod
    def at(cls, directory: Path) -> SoftHsm:
        (directory / "tokens").mkdir()
        file = directory / "softhsm2.conf"
        file.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(file)
        return cls(directory)

    def token(self, pin_file: Path, label: str = "") -> HsmSandbox:
        """Make a token with one key, version 1, and write its PIN into a file."""
        self.made += 1
        label, pin = label or f"token {self.made}", "1234-canary"
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "5678-canary"]
        with one_call:
            library = pkcs11.lib(str(module()))
            before = {one.serial for one in library.get_tokens(token_label=label)}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            library.reinitialize()  # it has looked for tokens before
            (serial,) = {one.serial for one in library.get_tokens(token_label=label)} - before
        made = HsmSandbox(self, label, serial, pin, pin_file)
        pin_file.write_text(pin + "\n")
        pin_file.chmod(0o600)
        made.make(1)
        return made


class HsmSandbox(Sandbox):
    """One token, as its owner sees it."""

    def __init__(self, hsm: SoftHsm, label: str, serial: bytes, pin: str, pin_file: Path) -> None:
        self.hsm = hsm
        self.label = label
        self.serial = serial
        self.pin = pin
        self.pin_file = pin_file

    def secrets(self) -> list[str]:
        return [self.pin]

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        """A session that may write."""
        with one_call:
            token = pkcs11.lib(str(module())).get_token(token_label=self.label, token_serial=self.serial)
            try:
                made = token.open(rw=True, user_pin=self.pin)
            except pkcs11.UserAlreadyLoggedIn:
                made = token.open(rw=True)
            try:
                yield made
            finally:
                with contextlib.suppress(pkcs11.PKCS11Error):
                    made.close()

    def make(self, number: int, label: str = "kek") -> None:
        with self.session() as session:
            template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.MODIFIABLE: True}
            identifier = number.to_bytes(max(1, (number.bit_length() + 7) // 8))
            session.generate_key(KeyType.AES, 256, label=label, id=identifier, store=True, template=template)

    def rotate(self) -> None:
        with self.session() as session:
            keys = session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: "kek"})
            latest = max(int.from_bytes(key.id) for key in keys)
        self.make(latest + 1)

    def _set(self, number: int, attribute: Attribute, value: object) -> None:
        with self.session() as session:
            wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: bytes([number])}
            for key in list(session.get_objects(wanted)):
                key[attribute] = value

    @contextlib.contextmanager
    def version_disabled(self, version: str) -> Iterator[None]:
        self._set(int(version), Attribute.DECRYPT, False)
        self._set(int(version), Attribute.ENCRYPT, False)
        yield
        self._set(int(version), Attribute.DECRYPT, True)
        self._set(int(version), Attribute.ENCRYPT, True)

    def key_disabled(self) -> contextlib.AbstractContextManager[None]:
        return self.version_disabled("1")

    @contextlib.contextmanager
    def key_missing(self) -> Iterator[None]:
        self._set(1, Attribute.LABEL, "elsewhere")
        yield
        self._set(1, Attribute.LABEL, "kek")

    @contextlib.contextmanager
    def out_of_order(self) -> Iterator[None]:
        """The tokens are gone, as those of an HSM whose cable was pulled."""
        with self._moved("tokens", "away"):
            self.forget()
            yield
        self.forget()

    def back(self) -> contextlib.AbstractContextManager[None]:
        """Within `out_of_order`: the tokens are there again, and nobody has told the library."""
        return self._moved("away", "tokens")

    @contextlib.contextmanager
    def _moved(self, source: str, target: str) -> Iterator[None]:
        there, here = self.hsm.directory / source, self.hsm.directory / target
        if here.exists():
            here.rmdir()
        there.rename(here)
        there.mkdir()
        yield
        if there.exists():
            there.rmdir()
        here.rename(there)

    @contextlib.contextmanager
    def credentials_expired(self) -> Iterator[None]:
        """Another PIN, which is in the file at the end; and sessions that end, for those that exist stay logged in."""
        new = "9876-canary"
        with self.session() as session:
            session.set_pin(self.pin, new)
        self.forget()
        yield
        self.pin = new
        self.pin_file.write_text(new)

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:
        self.make(1, "other")
        nonce = os.urandom(12)
        with self.session() as session:
            key = session.get_key(object_class=ObjectClass.SECRET_KEY, label="other")
            parameters = pkcs11.GCMParams(nonce, context.aad, 128)
            sealed = key.encrypt(kek, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters)
        return Wrapped(nonce + bytes(sealed), "1")

    def forget(self) -> None:
        """End every session of the process."""
        with one_call:
            pkcs11.lib(str(module())).reinitialize()
