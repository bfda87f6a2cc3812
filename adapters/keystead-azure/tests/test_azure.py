"""What the conformance rules cannot know: tokens, versions by time, signatures, words of errors."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import build
from fake_azure import HASHED, OAEP, PSS, AzureSandbox, FakeAzure, Refusal
from keystead_azure import SIGNED, AzureProvider, KeyVaultProvider
from keystead_azure.config import KeyVaultConfig, ManagedHsmConfig
from keystead_azure.http import Answer
from keystead_azure.tokens import Tokens
from keystead_azure.vault import KeyVersion, refusal
from pydantic import ValidationError

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    Throttled,
    Unauthenticated,
    Unavailable,
    WrapContext,
)

CONTEXT = WrapContext(bytes(range(32)), "lab")
KEK = bytes(range(100, 132))


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def provider(azure: FakeAzure, sandbox: AzureSandbox) -> AzureProvider[Any]:
    made = build(azure, sandbox)
    made.open(soon())
    return made


def test_the_ref_is_the_vaults_own_name_and_the_keys_in_lower_case(azure: FakeAzure, sandbox: AzureSandbox) -> None:
    suffix = "managedhsm.azure.net" if azure.keys["kek"].kind == "oct-HSM" else "vault.azure.net"
    assert build(azure, sandbox).open(soon()) == f"lab.{suffix}/kek"
    elsewhere = build(azure, sandbox, dnsSuffix="vault.usgovcloudapi.net")
    assert elsewhere.open(soon()) == "lab.vault.usgovcloudapi.net/kek"


def test_a_wrap_has_the_size_that_the_page_says(azure: FakeAzure, provider: AzureProvider[Any]) -> None:
    size = 60 if azure.keys["kek"].kind == "oct-HSM" else 512
    assert len(provider.wrap(KEK, CONTEXT, None, soon()).blob) == size


def test_an_rsa_wrap_that_was_made_with_the_public_key_alone_is_refused(
    azure: FakeAzure, provider: AzureProvider[Any]
) -> None:
    key = azure.keys["kek"]
    if key.kind != "RSA":
        pytest.skip("only an RSA key has a public half")
    secret = key.versions[key.current].secret
    sealed = secret.public_key().encrypt(KEK, OAEP)
    version = provider.current_version(soon())
    genuine = provider.wrap(KEK, CONTEXT, None, soon()).blob
    before = [one for one in azure.seen if one.endswith("unwrapkey")]
    for signature in (bytes(256), os.urandom(256), genuine[256:]):
        with pytest.raises(InvalidCiphertext, match="did not sign this wrap in this context"):
            provider.unwrap(sealed + signature, CONTEXT, str(version), soon())
    assert [one for one in azure.seen if one.endswith("unwrapkey")] == before, "nothing unsigned is unwrapped"
    digest = hashlib.sha256(SIGNED + CONTEXT.aad + sealed).digest()
    signed = sealed + secret.sign(digest, PSS, HASHED)
    assert provider.unwrap(signed, CONTEXT, str(version), soon()) == KEK


def test_versions_begin_with_their_time_so_that_a_later_one_can_be_told(
    azure: FakeAzure, provider: AzureProvider[Any], sandbox: AzureSandbox
) -> None:
    old = provider.wrap(KEK, CONTEXT, None, soon())
    sandbox.rotate()
    new = provider.wrap(KEK, CONTEXT, None, soon())
    assert int(old.version.partition("-")[0]) < int(new.version.partition("-")[0])
    assert [one.version.partition("-")[2] for one in (old, new)] == list(azure.keys["kek"].versions)
    for one in (old, new):
        assert provider.unwrap(one.blob, CONTEXT, one.version, soon()) == KEK


def test_a_version_can_be_pinned_by_its_name_in_azure(azure: FakeAzure, provider: AzureProvider[Any]) -> None:
    name = azure.keys["kek"].current
    made = provider.wrap(KEK, CONTEXT, name, soon())
    assert made.version == name
    assert provider.unwrap(made.blob, CONTEXT, name, soon()) == KEK
    for wrong in ("1", "", "latest", name.upper(), f"-{name}", f"{name}\n", "../other"):
        with pytest.raises(KeyNotFound, match="is no version of a key"):
            provider.wrap(KEK, CONTEXT, wrong, soon())


def test_without_the_right_to_look_at_the_key_everything_else_works(azure: FakeAzure, sandbox: AzureSandbox) -> None:
    azure.denied = {"get"}
    provider = build(azure, sandbox)
    provider.open(soon())
    assert provider.current_version(soon()) is None
    made = provider.wrap(KEK, CONTEXT, None, soon())
    assert made.version == azure.keys["kek"].current
    assert provider.unwrap(made.blob, CONTEXT, made.version, soon()) == KEK


def test_a_key_that_cannot_do_it_is_refused_at_once(azure: FakeAzure, sandbox: AzureSandbox) -> None:
    key, made = azure.keys["kek"], build(azure, sandbox)
    missing = key.operations[-1]
    key.operations = key.operations[:-1]
    with pytest.raises(ConfigError, match=f"key kek may not {missing}: add to its key_ops"):
        made.open(soon())
    key.kind, wanted = "EC", key.kind
    with pytest.raises(ConfigError, match=f"key kek is of the type EC, and {wanted}.* is needed"):
        type(made)(made.config).open(soon())


def test_a_wrap_by_another_version_than_asked_for_is_not_taken(
    azure: FakeAzure, provider: AzureProvider[Any], sandbox: AzureSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = azure.keys["kek"].current
    real = azure.key
    monkeypatch.setattr(azure, "key", lambda *given: real(*given) | {"kid": f"https://x/keys/kek/{'0' * 32}"})
    with pytest.raises(Misbehaved, match=f"version {name} was asked, and 0000"):
        provider.wrap(KEK, CONTEXT, name, soon())


@pytest.mark.parametrize(
    ("auth", "asked"),
    [
        ({"method": "managedIdentity"}, {"api-version": "2018-02-01", "resource": "https://{suffix}"}),
        ({"method": "managedIdentity", "clientID": "node"}, {"client_id": "node"}),
        (
            {"method": "workloadIdentity", "tenantID": "lab", "clientID": "node", "tokenFile": "{file}"},
            {"client_assertion": "{secret}", "grant_type": "client_credentials", "scope": "https://{suffix}/.default"},
        ),
        (
            {"method": "clientSecret", "tenantID": "lab", "clientID": "node", "secretFile": "{file}"},
            {"client_secret": "{secret}", "client_id": "node"},
        ),
    ],
)
def test_each_way_to_a_token_asks_for_one_of_the_vault(
    azure: FakeAzure, sandbox: AzureSandbox, auth: dict[str, str], asked: dict[str, str]
) -> None:
    suffix = "managedhsm.azure.net" if azure.keys["kek"].kind == "oct-HSM" else "vault.azure.net"
    place = {"file": str(sandbox.file), "secret": azure.secret, "suffix": suffix}
    filled = {name: value.format(**place) for name, value in auth.items()} | {"address": f"http://{azure.address}"}
    build(azure, sandbox, auth=filled).open(soon())
    (form,) = azure.asked_for_tokens
    assert form.items() >= {name: value.format(**place) for name, value in asked.items()}.items()


def test_many_calls_share_one_token(azure: FakeAzure, provider: AzureProvider[Any]) -> None:
    for _ in range(5):
        provider.wrap(KEK, CONTEXT, None, soon())
    assert len(azure.asked_for_tokens) == 1


def test_a_refusal_of_entra_says_what_it_says_and_not_the_secret(azure: FakeAzure, sandbox: AzureSandbox) -> None:
    sandbox.file.write_text("wrong-canary")
    with pytest.raises(Unauthenticated, match=r"token by clientSecret .* AADSTS7000215: Invalid client") as raised:
        build(azure, sandbox).open(soon())
    assert "canary" not in str(raised.value)
    sandbox.file.unlink()
    with pytest.raises(Unauthenticated, match=r"cannot read .*secret: No such file"):
        build(azure, sandbox).open(soon())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_replaced_at_half_its_life_and_a_failure_tells_when_it_ends() -> None:
    clock, given, fails = Clock(), [], False

    def get(_: float) -> tuple[str, float]:
        if fails:
            raise Unavailable("away")
        given.append(f"t{len(given)}")
        return given[-1], 3600.0

    tokens = Tokens(get, clock)
    assert tokens.current(soon()).text == "t0"
    clock.now = 1799
    tokens.keep_alive(soon())
    assert (given, tokens.expiry) == (["t0"], None)
    clock.now = 1800
    fails = True
    with pytest.raises(Unavailable):
        tokens.keep_alive(soon())
    assert tokens.current(soon()).text == "t0", "the old one is still good"
    assert tokens.expiry == pytest.approx(time.time() + 1800, abs=5)
    fails = False
    tokens.keep_alive(soon())
    assert (tokens.current(soon()).text, tokens.expiry) == ("t1", None)
    clock.now += 3600
    assert tokens.current(soon()).text == "t2"


def test_a_token_that_is_refused_is_replaced_once_a_second() -> None:
    clock, given = Clock(), []
    tokens = Tokens(lambda _: (given.append(0) or f"t{len(given)}", 3600.0), clock)
    first = tokens.current(soon())
    assert not tokens.refused(first)
    clock.now = 2
    assert tokens.refused(first)
    assert tokens.current(soon()).text == "t2"
    assert len(given) == 2


@pytest.mark.parametrize("text", ["", "with space", "line\nfeed", "ü", "x" * 20_000])
def test_a_token_that_is_none_is_not_sent(text: str) -> None:
    with pytest.raises(Misbehaved, match="has no token"):
        Tokens(lambda _: (text, 60.0)).current(soon())


@pytest.mark.parametrize(
    ("status", "code", "inner", "message", "operation", "kind"),
    [
        (401, "Unauthorized", "", "AKV10022: Invalid audience", "encrypt", Unauthenticated),
        (403, "Forbidden", "ForbiddenByRbac", "Caller is not authorized", "decrypt", PermissionDenied),
        (403, "Forbidden", "ForbiddenByFirewall", "Client address is not authorized", "decrypt", PermissionDenied),
        (
            403,
            "Forbidden",
            "KeyDisabled",
            "Operation decrypt is not allowed on a disabled key.",
            "decrypt",
            KeyDisabled,
        ),
        (403, "Forbidden", "", "Operation wrapKey is not allowed on an expired key.", "wrapkey", KeyDisabled),
        (403, "Forbidden", "KeyNotYetValid", "", "wrapkey", KeyDisabled),
        (404, "KeyNotFound", "", "A key with (name/id) kek was not found", "sign", KeyNotFound),
        (
            409,
            "Conflict",
            "ObjectIsDeletedButRecoverable",
            "is in a deleted but recoverable state",
            "sign",
            KeyNotFound,
        ),
        (400, "BadParameter", "", "The parameter is incorrect.", "unwrapkey", InvalidCiphertext),
        (400, "BadParameter", "", "Key and algorithm are incompatible", "wrapkey", ConfigError),
        (429, "Throttled", "", "too many requests", "encrypt", Throttled),
        (500, "InternalServerError", "", "", "encrypt", Unavailable),
        (503, "ServiceUnavailable", "", "", "decrypt", Unavailable),
        (302, "Moved", "", "", "decrypt", Misbehaved),
    ],
)
def test_each_error_has_the_class_of_what_an_operator_does(
    status: int, code: str, inner: str, message: str, operation: str, kind: type[Exception]
) -> None:
    error = refusal(f"POST /keys/kek/{operation}", Answer(status, Refusal(status, code, message, inner).body))
    assert type(error) is kind
    assert f"HTTP {status}" in str(error)
    assert message in str(error)


def test_an_error_shows_nothing_that_looks_like_a_token_or_a_ciphertext() -> None:
    long = "A" * 60
    answer = Answer(400, {"error": {"code": "BadParameter", "message": f"value {long} is wrong"}})
    assert long not in str(refusal("POST /keys/kek/sign", answer))
    assert "value [removed] is wrong" in str(refusal("POST /keys/kek/sign", answer))


def test_what_is_not_json_is_not_azure() -> None:
    assert isinstance(refusal("GET /keys/kek", Answer(200, None)), Unavailable)
    assert "not what Key Vault answers" in str(refusal("GET /keys/kek", Answer(403, None)))


def test_mistakes_in_the_configuration_are_named(tmp_path: Path) -> None:
    good: dict[str, Any] = {"name": "k", "provider": "azure-key-vault", "vault": "lab", "keyName": "kek"}
    auth = {"method": "managedIdentity"}
    assert KeyVaultConfig(**good, auth=auth).host == "lab.vault.azure.net"
    assert ManagedHsmConfig(**(good | {"provider": "azure-managed-hsm"}), auth=auth).host == "lab.managedhsm.azure.net"
    for wrong, words in (
        ({"vault": "lab.vault.azure.net"}, "vault"),
        ({"keyName": "kek/1"}, "keyName"),
        ({"address": "lab"}, "should be https://"),
        ({"address": "https://lab/keys"}, "without a path"),
        ({"caFile": "ca.pem"}, "absolute path"),
        ({"auth": {"method": "password"}}, "method"),
        ({"auth": {"method": "clientSecret", "tenantID": "t", "clientID": "c", "secret": "x"}}, "secretFile"),
    ):
        with pytest.raises(ValidationError, match=words):
            KeyVaultConfig.model_validate(good | {"auth": auth} | wrong)


@pytest.mark.parametrize("text", [f"17-{'a' * 32}", "b" * 32])
def test_a_version_reads_as_it_was_written(text: str) -> None:
    assert str(KeyVersion.parse(text)) == text


def test_a_ca_file_that_is_none_says_so(azure: FakeAzure, sandbox: AzureSandbox, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.pem", "No such file"), (sandbox.file, "holds no certificate")):
        with pytest.raises(ConfigError, match=words):
            build(azure, sandbox, f"https://{azure.address}", caFile=str(path)).open(soon())


def test_the_class_says_what_its_records_rely_on() -> None:
    assert KeyVaultProvider.capabilities.authenticated_wrap
    assert KeyVaultProvider.capabilities.binds_context
