"""Wrapping and unwrapping against a real OpenBao, and what it refuses."""

from __future__ import annotations

import base64
import threading
from typing import Any

import pytest

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    PermissionDenied,
    ProviderError,
    Throttled,
    Unavailable,
    WrapContext,
)
from providers.vault.bao import INSTEAD, Bao, openbao_only
from providers.vault.given import CONTEXT, KEK, Make, soon


def test_what_is_wrapped_unwraps_and_the_ref_names_the_key(bao: Bao, make: Make) -> None:
    key = bao.key("round-trip")
    provider = make(bao, key, token=bao.make_token(key))
    assert provider.open(soon()) == "transit/round-trip"
    assert provider.current_version(soon()) == "1"
    wrapped = provider.wrap(KEK, CONTEXT, "1", soon())
    assert wrapped.version == "1"
    assert provider.unwrap(wrapped.blob, CONTEXT, "1", soon()) == KEK
    assert KEK not in wrapped.blob
    assert base64.b64encode(KEK) not in wrapped.blob


@pytest.mark.parametrize(
    "kind",
    [
        "aes128-gcm96",
        "aes256-gcm96",
        "chacha20-poly1305",
        pytest.param("xchacha20-poly1305", marks=openbao_only),
    ],
)
def test_a_wrap_is_as_small_as_declared_for_each_type_of_key(bao: Bao, make: Make, kind: str) -> None:
    key = bao.key(f"size-{kind}", type=kind)
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    assert 80 < len(wrapped.blob) <= provider.capabilities.max_blob < 4096
    assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK


@pytest.mark.parametrize(
    "context", [WrapContext(bytes(32), "lab"), WrapContext(CONTEXT.kek_id, "other"), WrapContext(CONTEXT.kek_id, "")]
)
def test_a_wrap_does_not_open_with_another_context(bao: Bao, make: Make, context: WrapContext) -> None:
    key = bao.key("context")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    with pytest.raises(InvalidCiphertext, match="message authentication failed"):
        provider.unwrap(wrapped.blob, context, wrapped.version, soon())


def test_a_wrap_is_bound_to_the_context_as_associated_data(bao: Bao, make: Make) -> None:
    key = bao.key("aad")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    ciphertext = bao.encrypt(key, KEK, associated_data=base64.b64encode(CONTEXT.aad).decode())
    assert provider.unwrap(ciphertext.encode(), CONTEXT, "1", soon()) == KEK
    for unbound in (bao.encrypt(key, KEK), bao.encrypt(key, KEK, context=base64.b64encode(CONTEXT.aad).decode())):
        with pytest.raises(InvalidCiphertext):
            provider.unwrap(unbound.encode(), CONTEXT, "1", soon())


def test_damaged_and_foreign_bytes_are_refused(bao: Bao, make: Make) -> None:
    key = bao.key("damage")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    head, body = blob[: len("vault:v1:")], base64.b64decode(blob[len("vault:v1:") :])
    damaged = [head + base64.b64encode(body[:i] + bytes([body[i] ^ 1]) + body[i + 1 :]) for i in range(len(body))]
    damaged += [b"\xff", b"vault:v1:", head, blob[:-4], blob + b"AAAA", blob[:-1], b"vault:v1:QUJD", b"x" + blob]
    damaged += [blob.replace(b"v1", b"v01"), blob.replace(b"v1", b"v2"), bao.encrypt(bao.key("other"), KEK).encode()]
    for bad in damaged:
        with pytest.raises(InvalidCiphertext):
            provider.unwrap(bad, CONTEXT, "1", soon())
    assert len(damaged) == 60 + 11


def test_a_wrap_uses_exactly_the_version_that_is_asked_for(bao: Bao, make: Make) -> None:
    key = bao.key("rotated")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blobs = {"1": provider.wrap(KEK, CONTEXT, "1", soon()).blob}
    for version in ("2", "3"):
        bao.write(f"transit/keys/{key}/rotate")
        assert provider.current_version(soon()) == version
        blobs[version] = provider.wrap(KEK, CONTEXT, None, soon()).blob
        assert provider.wrap(KEK, CONTEXT, "1", soon()).version == "1"
    for version, blob in blobs.items():
        assert blob.startswith(f"vault:v{version}:".encode())
        assert provider.unwrap(blob, CONTEXT, version, soon()) == KEK


def test_no_call_fails_and_each_answer_names_its_version_while_the_key_is_rotated(bao: Bao, make: Make) -> None:
    key = bao.key("rotating")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    over = threading.Event()
    failures: list[ProviderError] = []
    versions: set[str] = set()

    def work() -> None:
        while not over.is_set():
            try:
                wrapped = provider.wrap(KEK, CONTEXT, provider.current_version(soon()), soon())
                versions.add(wrapped.version)
                assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK
            except ProviderError as exc:
                failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        bao.write(f"transit/keys/{key}/rotate")
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    over.set()
    for thread in threads:
        thread.join(10)
    assert not failures
    assert wrapped.version == "11"
    assert versions


def test_a_version_below_min_decryption_version_is_disabled_until_that_is_lowered(bao: Bao, make: Make) -> None:
    key = bao.key("min-decryption")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    bao.write(f"transit/keys/{key}/rotate")
    bao.write(f"transit/keys/{key}/config", min_decryption_version=2)
    restore = "version 1 of transit/min-decryption is switched off .min_decryption_version is 2, .*lower"
    with pytest.raises(KeyDisabled, match=restore):
        provider.unwrap(blob, CONTEXT, "1", soon())
    with pytest.raises(KeyDisabled, match="no such key version"):
        provider.wrap(KEK, CONTEXT, "1", soon())
    bao.write(f"transit/keys/{key}/config", min_decryption_version=1)
    assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK


def test_a_trimmed_version_is_gone_which_is_not_the_same_as_disabled(bao: Bao, make: Make) -> None:
    key = bao.key("trimmed")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    bao.write(f"transit/keys/{key}/rotate")
    bao.write(f"transit/keys/{key}/config", min_decryption_version=2, min_encryption_version=2)
    bao.write(f"transit/keys/{key}/trim", min_available_version=2)
    with pytest.raises(KeyNotFound, match="version 1 of transit/trimmed was trimmed"):
        provider.unwrap(blob, CONTEXT, "1", soon())


def test_the_same_key_name_created_anew_does_not_open_what_the_old_one_wrapped(bao: Bao, make: Make) -> None:
    key = bao.key("again")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blobs = {"1": provider.wrap(KEK, CONTEXT, "1", soon()).blob}
    bao.write(f"transit/keys/{key}/rotate")
    blobs["2"] = provider.wrap(KEK, CONTEXT, "2", soon()).blob
    bao.write(f"transit/keys/{key}/config", deletion_allowed=True)
    bao.call("DELETE", f"transit/keys/{key}")
    with pytest.raises(KeyNotFound):
        provider.current_version(soon())
    # The policy has no `create`, which for a missing key is what encrypting would need.
    with pytest.raises(PermissionDenied):
        provider.wrap(KEK, CONTEXT, None, soon())
    bao.write(f"transit/keys/{key}")
    with pytest.raises(InvalidCiphertext):
        provider.unwrap(blobs["1"], CONTEXT, "1", soon())
    with pytest.raises(Unavailable, match="created anew"):
        provider.unwrap(blobs["2"], CONTEXT, "2", soon())


OPENING: dict[str, tuple[dict[str, Any] | None, dict[str, str], type[ProviderError], str]] = {
    "an asymmetric key": ({"type": "rsa-2048"}, {}, ConfigError, "has type rsa-2048, which cannot bind"),
    "a MAC key": ({"type": "hmac", "key_size": 32}, {}, ConfigError, "has type hmac"),
    "a derived key": ({"derived": True}, {}, ConfigError, "is a derived key"),
    "no key": (None, {}, KeyNotFound, "404"),
    "no engine": (None, {"mount": "nowhere"}, KeyNotFound, "no secrets engine is mounted there"),
    "no namespace": (
        {},
        {"namespace": "nowhere"},
        *(
            (KeyNotFound, "namespace not found .check namespace.")
            if INSTEAD is None
            else (ConfigError, "has no namespaces and would use the root")  # the edition of Vault that is free
        ),
    ),
}


@pytest.mark.parametrize("case", OPENING)
def test_opening_refuses(bao: Bao, make: Make, case: str) -> None:
    options, fields, error, text = OPENING[case]
    key = f"open-{case.replace(' ', '-')}"
    if options is not None:
        bao.key(key, **options)
    provider = make(bao, key, token=bao.token, **fields)
    with pytest.raises(error, match=text):
        provider.open(soon())


def test_opening_never_creates_the_key_even_with_the_right_to(bao: Bao, make: Make) -> None:
    provider = make(bao, "typing-error", token=bao.token)
    for _ in range(2):
        with pytest.raises(KeyNotFound):
            provider.open(soon())
    assert "typing-error" not in bao.call("LIST", "transit/keys")["data"]["keys"]


@openbao_only
def test_a_soft_deleted_key_is_disabled_until_it_is_restored(bao: Bao, make: Make) -> None:
    key = bao.key("soft-deleted")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    bao.write(f"transit/keys/{key}/config", deletion_allowed=True)
    bao.call("DELETE", f"transit/keys/{key}/soft-delete")
    with pytest.raises(KeyDisabled, match="is soft-deleted: restore it"):
        provider.unwrap(blob, CONTEXT, "1", soon())
    with pytest.raises(KeyDisabled, match="is soft-deleted: restore it"):
        provider.current_version(soon())
    bao.write(f"transit/keys/{key}/soft-delete-restore")
    assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK


def test_without_the_right_to_read_the_key_all_but_the_version_works(bao: Bao, make: Make) -> None:
    key = bao.key("unreadable")
    policy = bao.policy("unreadable-policy", f"transit/encrypt/{key}=update", f"transit/decrypt/{key}=update")
    provider = make(bao, key, token=bao.make_token(policy))
    assert provider.open(soon()) == "transit/unreadable"
    assert provider.current_version(soon()) is None
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK
    bao.write(f"transit/keys/{key}/rotate")
    bao.write(f"transit/keys/{key}/config", min_decryption_version=2)
    with pytest.raises(KeyDisabled, match="version 1 of transit/unreadable is switched off: to restore it"):
        provider.unwrap(wrapped.blob, CONTEXT, "1", soon())


WRAPPING = {
    "a version that does not exist yet": ("9", Unavailable, "has not seen the rotation yet"),
    "a version below min_encryption_version": ("1", KeyDisabled, "min_encryption_version is 2"),
    "a version that is no number": ("latest", ConfigError, "'latest' is not a version of a transit key"),
    "version 0": ("0", ConfigError, "'0' is not a version"),
}


@pytest.mark.parametrize("case", WRAPPING)
def test_wrapping_refuses(bao: Bao, make: Make, case: str) -> None:
    version, error, text = WRAPPING[case]
    key = bao.key(f"wrap-{case.replace(' ', '-')}")
    bao.write(f"transit/keys/{key}/rotate")
    bao.write(f"transit/keys/{key}/config", min_encryption_version=2)
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    with pytest.raises(error, match=text):
        provider.wrap(KEK, CONTEXT, version, soon())


def test_a_version_that_a_replica_does_not_know_yet_is_unavailable_not_invalid(bao: Bao, make: Make) -> None:
    key = bao.key("lag")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob.replace(b":v1:", b":v2:")
    with pytest.raises(Unavailable, match="version is too new"):
        provider.unwrap(blob, CONTEXT, "2", soon())


def test_a_rate_limit_is_throttled(bao: Bao, make: Make) -> None:
    key = bao.key("limited")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    bao.write("sys/quotas/rate-limit/limited", path=f"transit/encrypt/{key}", rate=1, interval="60s")
    provider.wrap(KEK, CONTEXT, None, soon())
    with pytest.raises(Throttled, match=r"HTTP 429: .*rate limit quota exceeded"):
        provider.wrap(KEK, CONTEXT, None, soon())


@openbao_only
def test_a_namespace_holds_the_engine_and_the_login_and_is_part_of_the_ref(bao: Bao, make: Make) -> None:
    bao.write("sys/namespaces/team")
    bao.write("team/sys/mounts/transit", type="transit")
    bao.write("team/transit/keys/k")
    bao.write("team/sys/policies/acl/k", policy='path "transit/*" { capabilities = ["read", "update"] }')
    token = bao.write("team/auth/token/create", policies=["k"])["auth"]["client_token"]
    provider = make(bao, "k", token=token, namespace="team", lineage="prod")
    assert provider.open(soon()) == "prod/team/transit/k"
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK


def test_the_provider_starts_no_thread_and_closes_twice(bao: Bao, make: Make) -> None:
    key = bao.key("threads")
    before = threading.active_count()
    provider = make(bao, key, token=bao.make_token(key))
    provider.close()
    provider.open(soon())
    provider.wrap(KEK, CONTEXT, None, soon())
    assert threading.active_count() == before
    provider.close()
    provider.close()
    with pytest.raises(Unavailable, match="not open"):
        provider.wrap(KEK, CONTEXT, None, soon())
