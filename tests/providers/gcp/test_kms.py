"""Wrap, unwrap, versions and rotation: Google's SDK against the fake, over both transports."""

from __future__ import annotations

import pytest

from keystead.provider import ConfigError, InvalidCiphertext, KeyDisabled, KeyNotFound, PermissionDenied, WrapContext
from providers.gcp.fake import KEY, TOKEN, Fault
from providers.gcp.given import CONTEXT, KEK, Make, Served, soon


def test_what_was_wrapped_is_unwrapped(make: Make, served: Served) -> None:
    provider = make(served)
    assert provider.open(soon()) == KEY
    version = provider.current_version(soon())
    wrapped = provider.wrap(KEK, CONTEXT, version, soon())
    assert (version, wrapped.version) == ("1", "1")
    assert len(wrapped.blob) <= provider.capabilities.max_blob
    assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK


def test_what_is_unwrapped_can_be_wiped(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    assert isinstance(provider.unwrap(wrapped.blob, CONTEXT, "1", soon()), bytearray)


@pytest.mark.parametrize(
    "context", [WrapContext(CONTEXT.kek_id, "lab2"), WrapContext(bytes(32), "lab")], ids=["cluster", "kek_id"]
)
def test_a_wrap_opens_in_its_own_context_only(make: Make, served: Served, context: WrapContext) -> None:
    provider = make(served)
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, "1", soon())
    with pytest.raises(InvalidCiphertext, match="wrapped with another key or context"):
        provider.unwrap(wrapped.blob, context, "1", soon())


def test_a_damaged_wrap_is_refused_wherever_the_damage_is(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    damaged = [blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :] for at in (0, 3, 4, 20, len(blob) - 1)]
    for changed in [*damaged, blob[:-1], blob + b"\0", b"", b"x"]:
        with pytest.raises(InvalidCiphertext):
            provider.unwrap(changed, CONTEXT, "1", soon())
    assert served.kms.count("Decrypt") == 9


def test_a_wrap_asks_for_its_version_by_number_whatever_is_primary(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    assert served.kms.rotate() == 2
    assert provider.wrap(KEK, CONTEXT, "1", soon()).version == "1"
    assert served.kms.calls[-1][1] == f"{KEY}/cryptoKeyVersions/1"
    assert provider.wrap(KEK, CONTEXT, "2", soon()).version == "2"
    assert provider.wrap(KEK, CONTEXT, None, soon()).version == "2"
    assert served.kms.calls[-1][1] == KEY


def test_a_rotation_is_seen_and_old_versions_still_unwrap(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    old = provider.wrap(KEK, CONTEXT, provider.current_version(soon()), soon())
    served.kms.rotate()
    assert provider.current_version(soon()) == "2"
    new = provider.wrap(KEK, CONTEXT, "2", soon())
    assert (old.version, new.version) == ("1", "2")
    assert provider.unwrap(old.blob, CONTEXT, "1", soon()) == provider.unwrap(new.blob, CONTEXT, "2", soon()) == KEK


def test_while_the_service_has_not_agreed_on_a_primary_version_the_answer_names_the_one_that_was_used(
    make: Make, served: Served
) -> None:
    provider = make(served)
    provider.open(soon())
    served.kms.rotate()
    served.kms.keys[KEY].seen_by_encrypt = 1
    assert provider.current_version(soon()) == "2"
    assert provider.wrap(KEK, CONTEXT, None, soon()).version == "1"
    assert provider.wrap(KEK, CONTEXT, "2", soon()).version == "2"


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("DISABLED", "enable the version"),
        ("DESTROY_SCHEDULED", "restore the version"),
        ("DESTROYED", "gone for ever"),
    ],
)
def test_a_version_that_is_not_enabled_is_named_with_its_state_and_what_to_do(
    make: Make, served: Served, state: str, hint: str
) -> None:
    provider = make(served)
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, "1", soon())
    served.kms.rotate()
    served.kms.keys[KEY].versions[1].state = state
    with pytest.raises(KeyDisabled, match=f"{KEY}/cryptoKeyVersions/1 is not enabled.*{state}.*{hint}"):
        provider.unwrap(wrapped.blob, CONTEXT, "1", soon())
    with pytest.raises(KeyDisabled, match=f"{state}.*{hint}"):
        provider.wrap(KEK, CONTEXT, "1", soon())
    assert provider.wrap(KEK, CONTEXT, "2", soon()).version == "2"


def test_a_primary_version_that_is_disabled_stops_new_wraps_but_neither_opening_nor_other_versions(
    make: Make, served: Served
) -> None:
    provider = make(served)
    provider.open(soon())
    old = provider.wrap(KEK, CONTEXT, "1", soon())
    served.kms.rotate()
    served.kms.keys[KEY].versions[2].state = "DISABLED"
    fresh = make(served)
    assert fresh.open(soon()) == KEY
    with pytest.raises(KeyDisabled, match=r"version 2 of .* is primary and DISABLED: make another version primary"):
        fresh.current_version(soon())
    assert fresh.unwrap(old.blob, CONTEXT, "1", soon()) == KEK


def test_a_key_without_a_primary_version_says_so(make: Make, served: Served) -> None:
    served.kms.keys[KEY].primary = None
    provider = make(served)
    provider.open(soon())
    with pytest.raises(KeyDisabled, match="has no primary version"):
        provider.current_version(soon())


def test_a_key_of_another_purpose_is_refused_at_opening(make: Make, served: Served) -> None:
    served.kms.create(purpose="ASYMMETRIC_SIGN")
    with pytest.raises(ConfigError, match=r"has the purpose ASYMMETRIC_SIGN; create a key with .*ENCRYPT_DECRYPT"):
        make(served).open(soon())


def test_a_key_that_is_not_there_is_not_found(make: Make, served: Served) -> None:
    with pytest.raises(KeyNotFound, match="check keyName"):
        make(served, keyName=KEY + "-2").open(soon())
    provider = make(served)
    provider.open(soon())
    with pytest.raises(KeyNotFound, match="cryptoKeyVersions/7 not found"):
        provider.wrap(KEK, CONTEXT, "7", soon())


def test_without_the_right_to_look_at_the_key_all_but_the_version_works(make: Make, served: Served) -> None:
    served.kms.denied = {"GetCryptoKey"}
    provider = make(served)
    assert provider.open(soon()) == KEY
    assert provider.current_version(soon()) is None
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    assert wrapped.version == "1"
    assert provider.unwrap(wrapped.blob, CONTEXT, "1", soon()) == KEK


def test_a_right_that_is_missing_is_denied_with_the_name_of_the_right(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, "1", soon())
    served.kms.denied = {"Encrypt", "Decrypt"}
    with pytest.raises(PermissionDenied, match=f"Encrypt {KEY}.*Permission 'cloudkms.x' denied on resource '{KEY}"):
        provider.wrap(KEK, CONTEXT, "1", soon())
    with pytest.raises(PermissionDenied, match=f"Decrypt {KEY}.*Permission 'cloudkms.x' denied on resource '{KEY}"):
        provider.unwrap(wrapped.blob, CONTEXT, "1", soon())


@pytest.mark.parametrize("version", ["", "0", "-1", "1x", "01", "99999999999", "1/../2", "latest"])
def test_a_version_that_cannot_be_is_refused_before_anything_is_sent(make: Make, served: Served, version: str) -> None:
    provider = make(served)
    provider.open(soon())
    with pytest.raises(ConfigError, match="is not a version of a key"):
        provider.wrap(KEK, CONTEXT, version, soon())
    assert served.kms.count("Encrypt") == 0


def test_a_project_that_is_named_by_its_number_is_refused_with_the_spelling_of_the_service(
    make: Make, served: Served
) -> None:
    numbered = KEY.replace("lab-1", "123456789012")
    served.kms.keys[numbered] = served.kms.keys[KEY]
    served.kms.faults.append(Fault("GetCryptoKey", change=lambda answer: setattr(answer, "name", KEY)))
    with pytest.raises(ConfigError, match=f"calls {numbered} {KEY}: write that in keyName"):
        make(served, keyName=numbered).open(soon())


def test_each_call_carries_the_token_and_only_the_operations_that_were_asked_for_are_made(
    make: Make, served: Served
) -> None:
    provider = make(served)
    provider.open(soon())
    provider.unwrap(provider.wrap(KEK, CONTEXT, "1", soon()).blob, CONTEXT, "1", soon())
    assert [(method, authorization) for method, _, authorization in served.kms.calls] == [
        ("GetCryptoKey", f"Bearer {TOKEN}"),
        ("Encrypt", f"Bearer {TOKEN}"),
        ("Decrypt", f"Bearer {TOKEN}"),
    ]
