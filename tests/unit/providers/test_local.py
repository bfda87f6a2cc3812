"""The provider `local`: what its files must be, and what its wraps are bound to."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from pydantic import ValidationError

from keystead import errors
from keystead.provider import WrapContext
from keystead.providers.local import LocalConfig, LocalProvider

SOON = time.monotonic() + 3600
KEK = bytes(range(32))
CONTEXT = WrapContext(bytes(range(64, 96)), "prod-eu-1")


def key_file(path: Path, content: bytes | None = None, mode: int = 0o600) -> Path:
    path.write_bytes(os.urandom(32) if content is None else content)
    path.chmod(mode)
    return path


def provider_of(files: Path | dict[str, Path]) -> LocalProvider:
    fields: dict[str, Any] = {"keyFile": files} if isinstance(files, Path) else {"keyFiles": files}
    return LocalProvider(LocalConfig(name="lab", provider="local", **fields))


def opened(files: Path | dict[str, Path]) -> LocalProvider:
    provider = provider_of(files)
    assert provider.open(SOON) == "lab"
    return provider


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_file(tmp_path / "key")


# Files.


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_file_of_its_owner_only_is_taken(tmp_path: Path, mode: int) -> None:
    provider = opened(key_file(tmp_path / "key", mode=mode))
    assert provider.current_version(SOON) == "1"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o620, 0o602, 0o666])
def test_a_key_file_that_lets_others_in_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path / "key", mode=mode)
    with pytest.raises(errors.ConfigError, match=f"has mode {mode:04o}, which lets others in: chmod 0600 {path}$"):
        provider_of(path).open(SOON)


def test_a_missing_key_file_is_reported_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(errors.KeyNotFound, match=r"does not exist; restore it, or make one: \(umask 077; head -c 32"):
        provider_of(tmp_path / "key").open(SOON)


@pytest.mark.parametrize("size", [0, 31, 33, 64, 100_000])
def test_a_key_file_of_another_size_is_refused_by_its_size(tmp_path: Path, size: int) -> None:
    path = key_file(tmp_path / "key", b"s" * size)
    with pytest.raises(errors.ConfigError, match=f"must hold exactly 32 bytes, and holds {size}$") as caught:
        provider_of(path).open(SOON)
    assert "ssss" not in str(caught.value)


def test_a_directory_and_a_link_to_one_are_refused(tmp_path: Path) -> None:
    directory, link = tmp_path / "directory", tmp_path / "link"
    directory.mkdir(mode=0o700)
    link.symlink_to(directory)
    for path in (directory, link):
        with pytest.raises(errors.ConfigError, match=f"^{path} is not a regular file$"):
            provider_of(path).open(SOON)


def test_a_link_to_a_key_file_is_followed_as_mounted_secrets_are_links(tmp_path: Path, key: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key)
    wrapped = opened(link).wrap(KEK, CONTEXT, None, SOON)
    assert opened(key).unwrap(wrapped.blob, CONTEXT, "1", SOON) == KEK


def test_a_named_pipe_is_refused_at_once_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    said: list[BaseException] = []

    def attempt() -> None:
        try:
            provider_of(path).open(SOON)
        except errors.ProviderError as exc:
            said.append(exc)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    waited = thread.is_alive()
    if waited:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    assert not waited
    assert [type(error) for error in said] == [errors.ConfigError]


def test_a_device_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="not a regular file"):
        provider_of(Path("/dev/zero")).open(SOON)


def test_a_key_file_is_opened_again_after_it_was_mended(tmp_path: Path) -> None:
    provider = provider_of(tmp_path / "key")
    with pytest.raises(errors.KeyNotFound):
        provider.open(SOON)
    key_file(tmp_path / "key")
    assert provider.open(SOON) == "lab"


def test_one_bad_file_among_several_versions_refuses_all(tmp_path: Path, key: Path) -> None:
    short = key_file(tmp_path / "short", b"x")
    with pytest.raises(errors.ConfigError, match="short must hold"):
        provider_of({"1": key, "2": short}).open(SOON)


# Configuration.


def test_exactly_one_of_key_file_and_key_files_is_given(key: Path) -> None:
    for fields in ({}, {"keyFile": key, "keyFiles": {"1": key}}):
        with pytest.raises(ValidationError, match="give either keyFile or keyFiles"):
            LocalConfig(name="lab", provider="local", **fields)  # type: ignore[arg-type]


def test_paths_are_absolute() -> None:
    for fields in ({"keyFile": "key"}, {"keyFiles": {"1": "/etc/key", "2": "./key"}}):
        with pytest.raises(ValidationError, match="key is not an absolute path"):
            LocalConfig(name="lab", provider="local", **fields)


@pytest.mark.parametrize("version", ["0", "01", "-1", "1.0", "latest", "", "1234567890", "٣"])
def test_versions_are_numbers_from_1(version: str, key: Path) -> None:
    with pytest.raises(ValidationError):
        LocalConfig(name="lab", provider="local", keyFiles={version: key})


def test_key_files_names_one_version_at_least() -> None:
    with pytest.raises(ValidationError):
        LocalConfig(name="lab", provider="local", keyFiles={})


def test_it_warns_that_it_is_not_for_production() -> None:
    assert LocalProvider.notice is not None
    assert "for development and tests" in LocalProvider.notice


# Wraps.


def test_a_wrap_is_72_bytes_and_unwraps_to_bytes_that_can_be_wiped(key: Path) -> None:
    provider = opened(key)
    wrapped = provider.wrap(KEK, CONTEXT, "1", SOON)
    assert (len(wrapped.blob), wrapped.version) == (72, "1")
    assert len(wrapped.blob) == LocalProvider.capabilities.max_blob
    answer = provider.unwrap(wrapped.blob, CONTEXT, "1", SOON)
    assert isinstance(answer, bytearray)
    assert answer == KEK
    assert provider.wrap(KEK, CONTEXT, "1", SOON).blob != wrapped.blob


def test_a_wrap_opens_with_an_independent_xaes_256_gcm_and_the_documented_context(key: Path) -> None:
    blob = opened(key).wrap(KEK, CONTEXT, None, SOON).blob
    aad = b"keystead.dev/wrap/v1\x00" + CONTEXT.kek_id + b"\x09prod-eu-1"
    nonce, sealed = blob[:24], blob[24:]

    def part(number: int) -> bytes:
        mac = CMAC(AES(key.read_bytes()))
        mac.update(bytes([0, number, 0x58, 0]) + nonce[:12])
        return mac.finalize()

    assert AESGCM(part(1) + part(2)).decrypt(nonce[12:], sealed, aad) == KEK


@pytest.mark.parametrize(
    "other",
    [WrapContext(bytes(32), "prod-eu-1"), WrapContext(CONTEXT.kek_id, "prod-eu-2"), WrapContext(CONTEXT.kek_id, "")],
)
def test_a_wrap_does_not_open_for_another_kek_or_cluster(key: Path, other: WrapContext) -> None:
    provider = opened(key)
    blob = provider.wrap(KEK, CONTEXT, None, SOON).blob
    with pytest.raises(errors.InvalidCiphertext, match="version 1 did not wrap these 72 bytes"):
        provider.unwrap(blob, other, "1", SOON)


def test_a_wrap_does_not_open_under_another_key(tmp_path: Path, key: Path) -> None:
    blob = opened(key).wrap(KEK, CONTEXT, None, SOON).blob
    with pytest.raises(errors.InvalidCiphertext):
        opened(key_file(tmp_path / "other")).unwrap(blob, CONTEXT, "1", SOON)


def test_a_blob_of_any_other_length_is_refused_as_such(key: Path) -> None:
    provider = opened(key)
    blob = provider.wrap(KEK, CONTEXT, None, SOON).blob
    cut = [*(blob[:length] for length in range(len(blob))), blob + b"\x00"]
    assert len(cut) == 73
    for damaged in cut:
        with pytest.raises(errors.InvalidCiphertext):
            provider.unwrap(damaged, CONTEXT, "1", SOON)


def test_a_blob_with_any_bit_flipped_is_refused(key: Path) -> None:
    provider = opened(key)
    blob = provider.wrap(KEK, CONTEXT, None, SOON).blob
    tried = 0
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(errors.InvalidCiphertext):
            provider.unwrap(bytes(damaged), CONTEXT, "1", SOON)
        tried += 1
    assert tried == 576


# Versions.


def test_the_highest_number_wraps_and_every_version_unwraps(tmp_path: Path) -> None:
    files = {number: key_file(tmp_path / number) for number in ("2", "10", "9")}
    provider = opened(files)
    assert provider.current_version(SOON) == "10"
    assert provider.wrap(KEK, CONTEXT, None, SOON).version == "10"
    for number in files:
        wrapped = provider.wrap(KEK, CONTEXT, number, SOON)
        assert wrapped.version == number
        assert provider.unwrap(wrapped.blob, CONTEXT, number, SOON) == KEK
        for other in files.keys() - {number}:
            with pytest.raises(errors.InvalidCiphertext):
                provider.unwrap(wrapped.blob, CONTEXT, other, SOON)


def test_a_key_file_is_version_1_of_key_files(tmp_path: Path, key: Path) -> None:
    wrapped = opened(key).wrap(KEK, CONTEXT, None, SOON)
    later = opened({"1": key, "2": key_file(tmp_path / "2")})
    assert later.unwrap(wrapped.blob, CONTEXT, wrapped.version, SOON) == KEK


def test_a_version_without_a_file_is_named_with_those_that_have_one(tmp_path: Path, key: Path) -> None:
    provider = opened({"2": key, "10": key_file(tmp_path / "10")})
    for version in ("1", "", "latest"):
        with pytest.raises(errors.KeyNotFound, match=rf"^version '{version}' has no key file; configured are 2, 10$"):
            provider.unwrap(b"x" * 72, CONTEXT, version, SOON)
        with pytest.raises(errors.KeyNotFound):
            provider.wrap(KEK, CONTEXT, version, SOON)


def test_before_open_and_after_close_it_has_no_key(key: Path) -> None:
    provider = provider_of(key)
    for _ in range(2):
        with pytest.raises(errors.Misbehaved, match=r"^not open$"):
            provider.current_version(SOON)
        with pytest.raises(errors.Misbehaved, match=r"^not open$"):
            provider.wrap(KEK, CONTEXT, None, SOON)
        with pytest.raises(errors.KeyNotFound):
            provider.unwrap(b"x" * 72, CONTEXT, "1", SOON)
        provider.open(SOON)
        provider.close()
        provider.close()
