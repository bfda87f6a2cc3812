"""A recovery key: what is wrapped here opens with the tool `age` and the private key, and with nothing else here."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from keystead import errors, registry
from keystead._core import ROLE_RECOVERY, Kek, Record, Wrap
from keystead.config import ConfigInvalid, single
from keystead.host.guard import Guard
from keystead.provider import ConfigError, WrapContext
from keystead.providers.age_x25519 import MAX_BLOB, AgeX25519Provider
from support.golang import BUILD_SECONDS, built

TOOL = Path(__file__).with_name("tool")
KEK = bytes(range(100, 132))
CONTEXT = WrapContext(bytes(range(32)), "lab")
RECIPIENT = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"
"""From the documentation of age."""
MOST_OFTEN = 3000

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 60)


@pytest.fixture(autouse=True)
def _library() -> None:
    pytest.importorskip(
        "pyrage", reason="NOT TESTED: no pyrage; pip install --require-hashes -r requirements/backends.txt"
    )


def soon() -> float:
    return time.monotonic() + 5


def make(recipient: str = RECIPIENT, **fields: object) -> AgeX25519Provider:
    """Build the provider as a configuration does."""
    cls = registry.provider_class("age-x25519")
    assert cls is AgeX25519Provider
    return cls(cls.config_type.model_validate({"name": "k", "provider": "age-x25519", "recipient": recipient} | fields))


def refused(recipient: str, **fields: object) -> str:
    """Return what `config lint` says of a recipient."""
    with pytest.raises(ConfigInvalid) as caught:
        single(
            socket="unix:///run/keystead/kms.sock",
            key={"name": "k", "provider": "age-x25519", "recipient": recipient} | fields,
            cluster="lab",
        )
    (problem,) = caught.value.problems
    return str(problem)


def age_file(directory: Path) -> tuple[Path, str]:
    """Make a key pair as the documentation says; return the file of the private key, and the recipient."""
    file = directory / "recovery.key"
    subprocess.run(
        [built(TOOL, "filippo.io/age/cmd/age-keygen", "age-keygen"), "-o", file],
        check=True,
        capture_output=True,
        timeout=30,
    )
    recipient = next(line for line in file.read_text().splitlines() if line.startswith("# public key: "))
    return file, recipient.removeprefix("# public key: ")


def open_with_age(identity: Path, blob: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [built(TOOL, "filippo.io/age/cmd/age", "age"), "-d", "-i", identity, blob],
        check=False,
        capture_output=True,
        timeout=30,
    )


def test_a_wrap_opens_with_the_tool_age_and_the_private_key(tmp_path: Path) -> None:
    identity, recipient = age_file(tmp_path)
    provider = make(recipient)
    assert provider.open(soon()) == recipient
    assert provider.current_version(soon()) == ""
    wrapped = provider.wrap(KEK, CONTEXT, "", soon())
    assert wrapped.version == ""
    (tmp_path / "wrap.age").write_bytes(wrapped.blob)
    opened = open_with_age(identity, tmp_path / "wrap.age")
    assert (opened.returncode, opened.stdout) == (0, KEK), opened.stderr


def test_another_private_key_does_not_open_it_nor_does_the_right_one_open_a_damaged_wrap(tmp_path: Path) -> None:
    identity, recipient = age_file(tmp_path)
    (tmp_path / "other").mkdir()
    stranger, _ = age_file(tmp_path / "other")
    provider = make(recipient)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    file = tmp_path / "wrap.age"
    file.write_bytes(blob)
    assert open_with_age(stranger, file).returncode != 0
    file.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    damaged = open_with_age(identity, file)
    assert damaged.returncode != 0
    assert damaged.stdout == b""


def test_a_wrap_opens_with_the_library_too(tmp_path: Path) -> None:
    from pyrage import decrypt, x25519

    identity = x25519.Identity.generate()
    provider = make(str(identity.to_public()))
    provider.open(soon())
    assert decrypt(provider.wrap(KEK, CONTEXT, None, soon()).blob, [identity]) == KEK


def test_wraps_differ_each_time_and_are_small() -> None:
    provider = make()
    provider.open(soon())
    blobs = {provider.wrap(KEK, CONTEXT, None, soon()).blob for _ in range(MOST_OFTEN)}
    sizes = sorted(map(len, blobs))
    assert len(sizes) == MOST_OFTEN
    assert 200 < sizes[0] <= sizes[-1] < MAX_BLOB / 2
    assert not any(KEK in blob for blob in blobs)


def test_a_record_with_a_recovery_wrap_is_opened_by_hand_and_verified(tmp_path: Path) -> None:
    """What `age -d` writes is the local KEK of the record, which its kek_id and its MAC prove."""
    identity, recipient = age_file(tmp_path)
    guard = Guard(make(recipient).config, lambda: make(recipient))
    kek = Kek.generate()
    ref = guard.open(soon())
    wrapped = guard.wrap(kek.reveal(), WrapContext(kek.kek_id, "lab"), guard.current_version(soon()), soon())
    recovery = Wrap(guard.scheme, ref, wrapped.version, ROLE_RECOVERY, wrapped.blob)
    encoded = kek.encode_record(1, "lab", [recovery, Wrap("local", "k", "1", 1, b"x" * 72)]).encoded
    (found,) = [wrap for wrap in Record.parse(encoded).wraps if wrap.role == ROLE_RECOVERY]
    assert (found.scheme, found.ref, found.version) == ("age-x25519", recipient, "")
    (tmp_path / "wrap.age").write_bytes(found.blob)
    assert kek.equals(open_with_age(identity, tmp_path / "wrap.age").stdout)


def test_it_never_unwraps_and_says_where_the_key_is() -> None:
    provider = make()
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    with pytest.raises(ConfigError, match=rf"the private key of {RECIPIENT} is kept offline.* role recovery"):
        provider.unwrap(blob, CONTEXT, "", soon())


def test_it_binds_nothing_and_needs_no_credentials() -> None:
    can = AgeX25519Provider.capabilities
    assert (can.binds_context, can.has_versions, can.authenticated_wrap) == (False, False, False)
    assert can.max_blob <= 4096
    assert make().credential_expiry is None


def test_before_it_is_open_and_after_it_is_closed_it_wraps_nothing() -> None:
    provider = make()
    for _ in range(2):
        with pytest.raises(errors.Unavailable, match="not open"):
            provider.wrap(KEK, CONTEXT, None, soon())
        provider.open(soon())
        provider.close()
        provider.close()


@pytest.mark.parametrize(
    ("recipient", "told"),
    [
        ("AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ", "is a private key, which must never"),
        ("age-secret-key-1qqqq", "is a private key, which must never be here"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7/", "should be one X25519 recipient of age"),
        ("age1pqc" + "q" * 60, "should be one X25519 recipient of age"),
        ("age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt", "should be one X25519 recipient"),
        (RECIPIENT.upper(), "58 lower-case characters"),
        (f"{RECIPIENT},{RECIPIENT}", "should be one X25519 recipient of age"),
        (f"{RECIPIENT} {RECIPIENT}", "should be one X25519 recipient of age"),
        ("", "should be one X25519 recipient of age"),
        (
            RECIPIENT[:-1] + ("q" if RECIPIENT[-1] != "q" else "p"),
            "a character is wrong, for its checksum does not fit",
        ),
        (RECIPIENT[:20] + RECIPIENT[21] + RECIPIENT[20] + RECIPIENT[22:], "a character is wrong"),
    ],
)
def test_anything_but_one_recipient_is_refused_with_the_reason_and_not_repeated(recipient: str, told: str) -> None:
    said = refused(recipient)
    assert "keys[0].recipient: " in said
    assert told in said
    assert len(recipient) < 10 or recipient not in said


def test_a_version_cannot_be_pinned() -> None:
    assert "keys[0].version: cannot be set: keys of age-x25519 have no versions" in refused(RECIPIENT, version="1")


def test_without_the_library_lint_still_works_and_opening_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyrage", None)
    provider = make()
    with pytest.raises(ConfigError, match=r"pyrage is not installed: install keystead\[age\]"):
        provider.open(soon())
    mistyped = make(RECIPIENT[:-1] + "q")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="recipient is no recipient of age: a character is wrong"):
        mistyped.open(soon())
