"""What the conformance rules cannot know: PINs that lock a token, sessions that die, versions by CKA_ID."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from keystead_pkcs11 import Pkcs11Provider
from keystead_pkcs11.library import one_call
from keystead_pkcs11.token import Token
from softhsm import HsmSandbox, SoftHsm, module
from pydantic import ValidationError

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Unauthenticated,
    Unavailable,
    WrapContext,
)

Make = Callable[..., Pkcs11Provider]
CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def opened(make: Make, **fields: object) -> Pkcs11Provider:
    provider = make(**fields)
    provider.open(soon())
    return provider


def test_a_wrap_has_60_bytes_and_the_ref_is_made_of_labels(make: Make, sandbox: HsmSandbox) -> None:
    provider = make(lineage="dc1")
    assert provider.open(soon()) == f"dc1/{sandbox.label.replace(' ', '%20')}/kek"
    assert len(provider.wrap(KEK, CONTEXT, None, soon()).blob) == 60


def test_sessions_that_end_are_opened_again(make: Make, sandbox: HsmSandbox) -> None:
    provider = opened(make)
    made = provider.wrap(KEK, CONTEXT, None, soon())
    for _ in range(3):
        sandbox.forget()
        assert provider.unwrap(made.blob, CONTEXT, made.version, soon()) == KEK
        assert provider.wrap(KEK, CONTEXT, None, soon()).version == "1"


def test_sessions_that_end_under_load_cost_no_wrong_answer_and_are_opened_again(
    make: Make, sandbox: HsmSandbox
) -> None:
    provider = opened(make)
    made = provider.wrap(KEK, CONTEXT, None, soon())

    def unwrap(number: int) -> str:
        if number == 100:
            sandbox.forget()
        try:
            return "right" if provider.unwrap(made.blob, CONTEXT, made.version, soon()) == KEK else "WRONG"
        except Unavailable:
            return "unavailable"

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(unwrap, range(400)))
    assert "WRONG" not in said
    assert said.count("right") >= 350
    assert provider.unwrap(made.blob, CONTEXT, made.version, soon()) == KEK


class CountsLogins:
    """The library, and how often somebody logs in to a token of it."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.logins = 0

    def get_token(self, **wanted: Any) -> Any:
        found = self._library.get_token(**wanted)
        counter = self

        class Token:
            def open(self, user_pin: str | None = None) -> Any:
                counter.logins += user_pin is not None
                return found.open(user_pin=user_pin)

        return Token()

    def reinitialize(self) -> None:
        self._library.reinitialize()


def test_a_refused_pin_is_not_tried_again_until_the_file_changes(sandbox: HsmSandbox) -> None:
    sandbox.forget()
    sandbox.pin_file.write_text("0000")
    token = Token(module(), sandbox.label, sandbox.pin_file)
    token._library._loaded = counted = CountsLogins(token._library._loaded)
    with pytest.raises(Unauthenticated, match="PinIncorrect: write the right PIN into"):
        token.versions("kek", soon())
    for _ in range(20):
        with pytest.raises(Unauthenticated, match="has refused this PIN before; it is not tried again until"):
            token.versions("kek", soon())
    assert counted.logins == 1
    sandbox.pin_file.write_text(sandbox.pin)
    assert token.versions("kek", soon()) == {1}
    token.close()


def test_versions_are_numbers_in_cka_id_and_the_highest_wraps(make: Make, sandbox: HsmSandbox) -> None:
    provider = opened(make)
    old = provider.wrap(KEK, CONTEXT, None, soon())
    sandbox.make(300)  # of two bytes
    assert provider.current_version(soon()) == "300"
    new = provider.wrap(KEK, CONTEXT, None, soon())
    assert (old.version, new.version) == ("1", "300")
    for made in (old, new):
        assert provider.unwrap(made.blob, CONTEXT, made.version, soon()) == KEK
    for version in ("2", "0", "99999999999999999999", "x", "", "٣"):
        with pytest.raises(KeyNotFound):
            provider.wrap(KEK, CONTEXT, version, soon())


def test_a_key_that_may_only_decrypt_tells_damage_from_an_outage(make: Make, sandbox: HsmSandbox) -> None:
    provider = opened(make)
    made = provider.wrap(KEK, CONTEXT, "1", soon())
    sandbox._set(1, pkcs11.Attribute.ENCRYPT, False)
    assert provider.unwrap(made.blob, CONTEXT, "1", soon()) == KEK
    with pytest.raises(InvalidCiphertext, match="refuses these bytes, and opens others"):
        provider.unwrap(made.blob[:-1] + b"x", CONTEXT, "1", soon())
    with pytest.raises(KeyDisabled, match="may not encrypt: set CKA_ENCRYPT"):
        provider.wrap(KEK, CONTEXT, "1", soon())


def test_two_keys_with_one_label_and_cka_id_are_refused(make: Make, sandbox: HsmSandbox) -> None:
    sandbox.make(1)
    provider = opened(make)
    with pytest.raises(ConfigError, match="several keys kek with the CKA_ID 1"):
        provider.wrap(KEK, CONTEXT, "1", soon())


def test_what_is_missing_is_said(make: Make, sandbox: HsmSandbox, tmp_path: Path) -> None:
    with pytest.raises(KeyNotFound, match="has no AES-256 key with the label nothing"):
        make(keyLabel="nothing").open(soon())
    with pytest.raises(Unavailable, match="is token away connected"):
        make(tokenLabel="away").open(soon())
    with pytest.raises(ConfigError, match=r"cannot load .*none\.so.*: install the library of the HSM"):
        make(module=tmp_path / "none.so").open(soon())
    sandbox.forget()
    with pytest.raises(Unauthenticated, match=r"cannot read .*no-pin"):
        make(pinFile=tmp_path / "no-pin").open(soon())
    with pytest.raises(ValidationError, match="should be an absolute path"):
        make(module="softhsm.so")


def test_without_python_pkcs11_the_message_says_what_to_install(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("token", "library"):
        monkeypatch.delitem(sys.modules, f"keystead_pkcs11.{name}")
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigError, match=r"pkcs11 is not installed: pip install 'python-pkcs11>=0\.10'"):
        make().open(soon())


def test_of_two_tokens_with_one_label_the_serial_number_chooses(hsm: SoftHsm, tmp_path: Path, make: Make) -> None:
    one, other = (hsm.token(tmp_path / name, "twins") for name in ("one", "other"))
    with pytest.raises(Unavailable, match="several tokens have the label twins: choose one by tokenSerial"):
        make(tokenLabel="twins", pinFile=one.pin_file).open(soon())
    providers = [
        opened(make, tokenLabel="twins", pinFile=two.pin_file, tokenSerial=two.serial.decode()) for two in (one, other)
    ]
    made = providers[0].wrap(KEK, CONTEXT, None, soon())
    assert providers[0].unwrap(made.blob, CONTEXT, made.version, soon()) == KEK
    with pytest.raises(InvalidCiphertext):
        providers[1].unwrap(made.blob, CONTEXT, made.version, soon())


def test_a_token_that_was_not_there_at_first_is_found_without_a_restart(make: Make, sandbox: HsmSandbox) -> None:
    with sandbox.out_of_order():
        provider = make()
        with pytest.raises(Unavailable, match=r"is token .* connected\?"):
            provider.open(soon())
        with sandbox.back():
            provider.open(soon())
            assert provider.current_version(soon()) == "1"


def test_when_the_library_starts_again_no_token_uses_a_session_of_another(
    hsm: SoftHsm, tmp_path: Path, make: Make
) -> None:
    """Handles begin at 1 again: that of a session from before may now be one of another token, with equal labels."""
    boxes = [hsm.token(tmp_path / name) for name in ("a", "b")]
    tokens = [Token(module(), box.label, box.pin_file) for box in boxes]
    sealed = [token.encrypt("kek", 1, bytes(12), KEK, b"", soon()) for token in tokens]
    assert sealed[0] != sealed[1]
    for first, second in ((0, 1), (1, 0), (0, 1)):
        with one_call:
            tokens[first]._library.restart()
        assert tokens[first].encrypt("kek", 1, bytes(12), KEK, b"", soon()) == sealed[first]
        assert tokens[second].encrypt("kek", 1, bytes(12), KEK, b"", soon()) == sealed[second]
    for token in tokens:
        token.close()


def test_a_call_that_hangs_in_the_library_lets_others_end_at_their_deadline(make: Make, sandbox: HsmSandbox) -> None:
    provider = opened(make)
    hanging, ended = threading.Event(), threading.Event()

    def hang() -> None:
        with one_call:
            hanging.set()
            ended.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    hanging.wait()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="another call of the library did not end in time"):
        provider.wrap(KEK, CONTEXT, "1", soon(0.3))
    assert time.monotonic() - started < 2
    ended.set()
    thread.join()
    assert provider.wrap(KEK, CONTEXT, "1", soon()).version == "1"


def test_the_key_cannot_be_read_out(sandbox: HsmSandbox) -> None:
    with sandbox.session() as session:
        key = session.get_key(label="kek", object_class=pkcs11.ObjectClass.SECRET_KEY)
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]
