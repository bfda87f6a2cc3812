"""Each way to log in against a real OpenBao, tokens that die in use, and files that are replaced."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import PermissionDenied, ProviderError, Unauthenticated
from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault import certificates
from providers.vault.bao import Bao
from providers.vault.fake import Reply, fake_vault
from providers.vault.given import CONTEXT, KEK, Make, Pki, soon


def works(provider: VaultTransitProvider) -> None:
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK


@dataclass(frozen=True)
class AppRole:
    """A role whose tokens may use one key."""

    bao: Bao
    name: str
    fields: dict[str, str]
    secret_file: Path

    @classmethod
    def create(cls, bao: Bao, directory: Path, key: str, **options: Any) -> AppRole:
        bao.mount("auth/approle", "approle")
        bao.write(f"auth/approle/role/{key}", token_policies=[key], **options)
        role_id = bao.call("GET", f"auth/approle/role/{key}/role-id")["data"]["role_id"]
        (directory / "role-id").write_text(f"{role_id}\n")
        role = cls(
            bao,
            key,
            {
                "method": "approle",
                "roleIDFile": str(directory / "role-id"),
                "secretIDFile": str(directory / "secret-id"),
            },
            directory / "secret-id",
        )
        role.new_secret()
        return role

    def new_secret(self) -> str:
        secret: str = self.bao.write(f"auth/approle/role/{self.name}/secret-id")["data"]["secret_id"]
        self.secret_file.write_text(secret)
        return secret


def test_approle_logs_in(bao: Bao, make: Make, tmp_path: Path) -> None:
    role = AppRole.create(bao, tmp_path, bao.key("approle"))
    provider = make(bao, "approle", auth=role.fields)
    provider.open(soon())
    works(provider)


def test_the_token_of_an_idle_key_outlives_its_time_if_it_is_kept_alive(bao: Bao, make: Make, tmp_path: Path) -> None:
    role = AppRole.create(bao, tmp_path, bao.key("idle"), token_ttl="4s", token_max_ttl="1h")
    provider = make(bao, "idle", auth=role.fields)
    provider.open(soon())
    token = _token(provider)
    ends = time.monotonic() + 8
    while time.monotonic() < ends:
        time.sleep(0.5)
        provider.keep_alive(soon())
        assert provider.credential_expiry is None
    assert _token(provider) == token, "renewed, and not replaced by logins"
    works(provider)


def test_the_end_of_a_token_that_nobody_can_renew_is_told(bao: Bao, make: Make, tmp_path: Path) -> None:
    key = bao.key("ending")
    given = bao.write("auth/token/create", policies=[key], ttl="90m", renewable=False)["auth"]["client_token"]
    provider = make(bao, key, token=given)
    assert provider.credential_expiry is None
    provider.open(soon())
    assert provider.credential_expiry == pytest.approx(time.time() + 90 * 60, abs=20)
    forever = bao.write("auth/token/create", policies=[key], period="1h")["auth"]["client_token"]
    provider = make(bao, key, token=forever)
    provider.open(soon())
    assert provider.credential_expiry is None, "a periodic token lives for as long as it is renewed"


def test_a_jwt_logs_in_and_a_replaced_file_is_used_at_the_next_login(bao: Bao, make: Make, tmp_path: Path) -> None:
    key, signer = bao.key("jwt"), certificates.new_key()
    bao.mount("auth/jwt", "jwt")
    bao.write("auth/jwt/config", jwt_validation_pubkeys=[certificates.public_pem(signer)])
    bao.write("auth/jwt/role/plugin", role_type="jwt", user_claim="sub", bound_audiences=["bao"], token_policies=[key])
    file = tmp_path / "jwt"

    def claims(lifetime: int) -> dict[str, Any]:
        now = int(time.time())
        return {"sub": "plugin", "aud": "bao", "iat": now - 600, "nbf": now - 600, "exp": now + lifetime}

    file.write_text(certificates.jwt(signer, claims(-300)))
    provider = make(bao, key, auth={"method": "jwt", "role": "plugin", "jwtFile": str(file)})
    with pytest.raises(Unauthenticated, match=r"login by jwt: POST auth/jwt/login .*token is expired"):
        provider.open(soon())
    file.write_text(certificates.jwt(signer, claims(300)) + "\n")
    provider.open(soon())
    works(provider)


def test_a_client_certificate_logs_in_and_a_replaced_one_is_shown_at_the_next_login(
    tls_bao: Bao, make: Make, pki: Pki, tmp_path: Path
) -> None:
    key = tls_bao.key("cert")
    tls_bao.mount("auth/cert", "cert")
    tls_bao.write(
        "auth/cert/certs/node",
        certificate=pki.ca.file.read_text(),
        allowed_common_names=["node-2"],
        token_policies=[key],
    )
    shown, shown_key = tmp_path / "shown.crt", tmp_path / "shown.key"

    def show(name: str) -> None:
        for source, target in zip(pki.ca.issue(tmp_path, name), (shown, shown_key), strict=True):
            shutil.copy(source, target)

    show("node-1")
    provider = make(
        tls_bao, key, auth={"method": "cert", "role": "node"}, tls={"certFile": str(shown), "keyFile": str(shown_key)}
    )
    with pytest.raises(Unauthenticated, match="login by cert"):
        provider.open(soon())
    show("node-2")
    provider.open(soon())
    works(provider)
    # A new login on the provider's own pool of connections, which were made with the certificate of node-2.
    token = _token(provider)
    show("node-1")
    tls_bao.write("auth/token/revoke", token=token)
    with pytest.raises(Unauthenticated, match="login by cert"):
        works(provider)
    show("node-2")
    works(provider)
    assert _token(provider) != token


def test_a_service_account_logs_in(bao: Bao, make: Make, tmp_path: Path) -> None:
    """The kube-apiserver that reviews the token is a fake."""
    key, signer, now = bao.key("kubernetes"), certificates.new_key(), int(time.time())
    account = {"namespace": "kube-system", "serviceaccount": {"name": "keystead", "uid": "1"}}
    claims = {"iss": "kubernetes", "sub": "system:serviceaccount:kube-system:keystead", "kubernetes.io": account}
    (tmp_path / "jwt").write_text(certificates.jwt(signer, {**claims, "iat": now, "nbf": now, "exp": now + 300}))
    user = {"username": claims["sub"], "uid": "1", "groups": ["system:serviceaccounts"]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    reviewed = Reply(201, {**review, "status": {"authenticated": True, "user": user}})
    with fake_vault(**{"/apis/authentication.k8s.io/v1/tokenreviews": reviewed}) as kube:
        bao.mount("auth/kubernetes", "kubernetes")
        ca = certificates.Authority.create(tmp_path / "kube-ca.crt")
        bao.write(
            "auth/kubernetes/config",
            kubernetes_host=kube.address,
            kubernetes_ca_cert=ca.file.read_text(),
            disable_local_ca_jwt=True,
            disable_iss_validation=True,
        )
        bao.write(
            "auth/kubernetes/role/plugin",
            bound_service_account_names=["keystead"],
            bound_service_account_namespaces=["kube-system"],
            token_policies=[key],
        )
        auth = {"method": "kubernetes", "role": "plugin", "jwtFile": str(tmp_path / "jwt")}
        provider = make(bao, key, auth=auth)
        provider.open(soon())
        works(provider)
    assert provider.notice is not None
    assert "neither can start" in provider.notice


LOGINS: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "an unknown role ID": (
        lambda files: {"method": "approle", "roleIDFile": str(files / "a"), "secretIDFile": str(files / "b")},
        "login by approle: .*HTTP 400: invalid role or secret ID",
    ),
    "an auth method that is not there": (
        lambda files: {"method": "jwt", "mount": "nowhere", "role": "r", "jwtFile": str(files / "a")},
        "login by jwt: POST auth/nowhere/login at .*HTTP 403",
    ),
    "a token that is not one": (
        lambda files: {"method": "token", "tokenFile": str(files / "a")},
        "the token in .*a is not accepted: expired, revoked or used up",
    ),
    "no file": (
        lambda files: {"method": "token", "tokenFile": str(files / "none")},
        "cannot read .*none: No such file or directory",
    ),
    "an empty file": (
        lambda files: {"method": "token", "tokenFile": str(files / "empty")},
        "empty should hold one secret of printable ASCII, and holds 1 bytes",
    ),
    "two lines": (
        lambda files: {"method": "token", "tokenFile": str(files / "two")},
        "two should hold one secret of printable ASCII, and holds 29 bytes",
    ),
}


@pytest.mark.parametrize("case", LOGINS)
def test_what_does_not_log_in_is_unauthenticated(bao: Bao, make: Make, tmp_path: Path, case: str) -> None:
    auth, text = LOGINS[case]
    bao.mount("auth/approle", "approle")
    key = bao.key("logins")
    for name, content in {
        "a": "canary-secret-a",
        "b": "canary-secret-b",
        "empty": "\n",
        "two": "canary-secret-a\ncanary-secret",
    }.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(Unauthenticated, match=text) as caught:
        make(bao, key, auth=auth(tmp_path)).open(soon())
    assert "canary" not in str(caught.value)


def test_a_policy_that_denies_is_told_apart_from_a_dead_token(bao: Bao, make: Make) -> None:
    key = bao.key("denied")
    token = bao.make_token(bao.policy("only-encrypt", f"transit/encrypt/{key}=update"))
    provider = make(bao, key, token=token)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    with pytest.raises(PermissionDenied, match=r"POST transit/decrypt/denied at .*permission denied"):
        provider.unwrap(blob, CONTEXT, "1", soon())
    bao.write("auth/token/revoke", token=token)
    with pytest.raises(Unauthenticated, match="expired, revoked or used up"):
        provider.unwrap(blob, CONTEXT, "1", soon())


def test_a_token_without_the_default_policy_that_is_denied_is_not_called_dead(
    bao: Bao, make: Make, tmp_path: Path
) -> None:
    key = bao.key("mute")
    role = AppRole.create(bao, tmp_path, key, token_no_default_policy=True)
    bao.policy(key, f"transit/encrypt/{key}=update")
    provider = make(bao, key, auth=role.fields)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    for _ in range(3):
        with pytest.raises(PermissionDenied):
            provider.unwrap(blob, CONTEXT, "1", soon())


def test_a_revoked_token_is_replaced_within_the_call_and_by_one_login_for_many_calls(
    bao: Bao, make: Make, tmp_path: Path
) -> None:
    key = bao.key("revoked")
    role = AppRole.create(bao, tmp_path, key)
    provider = make(bao, key, auth=role.fields)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    bao.write("auth/token/revoke", token=_token(provider))
    before = set(bao.call("LIST", "auth/token/accessors")["data"]["keys"])
    failures: list[BaseException] = []
    start = threading.Barrier(16)

    def work() -> None:
        try:
            start.wait(10)
            assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK
        except (ProviderError, AssertionError) as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert len(set(bao.call("LIST", "auth/token/accessors")["data"]["keys"]) - before) == 1


def _token(provider: VaultTransitProvider) -> str:
    credentials = provider._credentials
    assert credentials is not None
    assert credentials._lease is not None
    return credentials._lease.token


def test_tokens_that_end_every_few_seconds_fail_no_call(bao: Bao, make: Make, tmp_path: Path) -> None:
    key = bao.key("short-lived")
    role = AppRole.create(bao, tmp_path, key, token_ttl="2s", token_max_ttl="5s")
    provider = make(bao, key, auth=role.fields)
    provider.open(soon())
    failures: list[ProviderError] = []
    tokens: set[str] = set()
    calls = 0
    ends = time.monotonic() + 20
    lock = threading.Lock()

    def work() -> None:
        nonlocal calls
        while time.monotonic() < ends:
            try:
                works(provider)
            except ProviderError as exc:
                failures.append(exc)
            with lock:
                calls += 1
                tokens.add(_token(provider))
            time.sleep(0.02)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert calls > 50
    # 20 seconds of at most 5: at least 4 tokens, and far fewer than calls.
    assert 4 <= len(tokens) <= 20


def test_a_token_that_dies_between_two_calls_is_replaced(bao: Bao, make: Make, tmp_path: Path) -> None:
    key = bao.key("idle")
    role = AppRole.create(bao, tmp_path, key, token_ttl="1s", token_max_ttl="1s")
    provider = make(bao, key, auth=role.fields)
    provider.open(soon())
    time.sleep(1.5)
    works(provider)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("one-use", {"token_num_uses": 1}), ("batch", {"token_type": "batch", "token_ttl": "2s"})],
)
def test_tokens_that_cannot_be_renewed_are_replaced(
    bao: Bao, make: Make, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    key = bao.key(f"tokens-{kind}")
    role = AppRole.create(bao, tmp_path, key, **options)
    provider = make(bao, key, auth=role.fields)
    provider.open(soon())
    for _ in range(3):
        works(provider)


def test_a_secret_id_that_is_replaced_is_used_at_the_next_login(bao: Bao, make: Make, tmp_path: Path) -> None:
    key = bao.key("new-secret")
    role = AppRole.create(bao, tmp_path, key)
    old = role.secret_file.read_text()
    provider = make(bao, key, auth=role.fields)
    provider.open(soon())
    bao.write(f"auth/approle/role/{key}/secret-id/destroy", secret_id=old)
    bao.write("auth/token/revoke", token=_token(provider))
    with pytest.raises(Unauthenticated, match="invalid role or secret ID") as caught:
        works(provider)
    assert old not in str(caught.value)
    role.new_secret()
    works(provider)


def test_a_token_file_that_is_replaced_is_used_when_the_old_token_is_refused(
    bao: Bao, make: Make, tmp_path: Path
) -> None:
    key = bao.key("new-token")
    old, new = bao.make_token(key), bao.make_token(key)
    provider = make(bao, key, token=old)
    provider.open(soon())
    bao.write("auth/token/revoke", token=old)
    with pytest.raises(Unauthenticated):
        works(provider)
    (tmp_path / "token").write_text(new)
    works(provider)
    assert _token(provider) == new


def test_a_token_file_that_is_replaced_is_used_after_half_the_life_of_the_old_token(
    bao: Bao, make: Make, tmp_path: Path
) -> None:
    key = bao.key("next-token")
    old, new = bao.make_token(key, ttl="6s"), bao.make_token(key)
    provider = make(bao, key, token=old)
    provider.open(soon())
    (tmp_path / "token").write_text(new)
    works(provider)
    assert _token(provider) == old
    time.sleep(3.1)
    works(provider)
    assert _token(provider) == new


def test_a_token_from_a_file_is_renewed_while_it_can_be(bao: Bao, make: Make) -> None:
    key = bao.key("periodic")
    provider = make(bao, key, token=bao.make_token(key, period="4s"))
    provider.open(soon())
    for _ in range(4):
        time.sleep(1.4)
        works(provider)
