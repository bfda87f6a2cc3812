"""What `keystead doctor` says of a real OpenBao."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from keystead.operate.doctor.remote import Trial, of_key
from keystead.providers._vault.config import VaultTransitConfig
from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault.bao import Bao
from providers.vault.given import Make, Pki, soon

TRIAL = Trial(wraps=True, unwraps=True, records=(), cluster="lab")


def found(bao: Bao, key: str, token: str, tmp_path: Path, **fields: Any) -> dict[str, str]:
    """The ids of what is found, each with what was seen."""
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(token)
    config = VaultTransitConfig.model_validate(
        {
            "name": "k",
            "provider": "vault-transit",
            "address": bao.address,
            "transitKey": key,
            "auth": {"method": "token", "tokenFile": str(file)},
            **fields,
        }
    )
    return {one.check.id: one.got for one in of_key(config, VaultTransitProvider, TRIAL, time.time())}


def test_nothing_is_found_of_a_key_with_its_smallest_policy(bao: Bao, tmp_path: Path) -> None:
    bao.key("well")
    assert found(bao, "well", bao.make_token("well", period="24h"), tmp_path) == {}


@pytest.mark.parametrize(
    ("missing", "check"), [("encrypt", "KS-D035"), ("decrypt", "KS-D036")], ids=["encrypt", "decrypt"]
)
def test_a_policy_with_one_right_only_is_found(bao: Bao, tmp_path: Path, missing: str, check: str) -> None:
    bao.key("half")
    right = "decrypt" if missing == "encrypt" else "encrypt"
    bao.policy(f"only-{right}", f"transit/{right}/half=update", "transit/keys/half=read")
    said = found(bao, "half", bao.make_token(f"only-{right}", period="24h"), tmp_path)
    assert {number for number, got in said.items() if got != "nothing here is wrapped under it: it decrypts only"} == {
        check
    }
    assert "permission denied" in said[check]


def test_a_key_that_may_be_deleted_or_exported_is_found(bao: Bao, tmp_path: Path) -> None:
    bao.key("loose", exportable=True)
    bao.write("transit/keys/loose/config", deletion_allowed=True)
    said = found(bao, "loose", bao.make_token("loose", period="24h"), tmp_path)
    assert said.keys() == {"KS-D039"}


def test_each_caution_says_what_to_do(bao: Bao, make: Make, tmp_path: Path) -> None:
    bao.key("open", exportable=True, allow_plaintext_backup=True)
    bao.write("transit/keys/open/config", deletion_allowed=True)
    (tmp_path / "token").write_text(bao.make_token("open"))
    provider = make(bao, "open")
    provider.open(soon())
    said = list(provider.cautions(soon()))
    assert len(said) == 3
    assert "write deletion_allowed=false to transit/keys/open/config" in said[0]


def test_a_token_that_is_refused_is_a_login_that_fails(bao: Bao, tmp_path: Path) -> None:
    bao.key("token")
    assert {"KS-D032"} <= found(bao, "token", "s.wrong", tmp_path).keys() <= {"KS-D032", "KS-D035", "KS-D036"}


def test_a_certificate_of_somebody_else_is_told_from_a_server_that_is_away(
    tls_bao: Bao, pki: Pki, tmp_path: Path
) -> None:
    tls_bao.key("tls")
    token = tls_bao.make_token("tls", period="24h")
    assert found(tls_bao, "tls", token, tmp_path, tls={"caFile": str(pki.ca.file)}) == {}
    said = found(tls_bao, "tls", token, tmp_path)
    assert {"KS-D031"} <= said.keys() <= {"KS-D031", "KS-D035", "KS-D036"}
    assert "issuer" in said["KS-D031"]


def test_the_policy_that_the_provider_says_is_all_that_its_key_needs(bao: Bao, make: Make, tmp_path: Path) -> None:
    bao.key("said")
    policy = make(bao, "said").policy(["lab"])
    bao.write("sys/policies/acl/said-by-provider", policy=policy)
    token = bao.make_token("said-by-provider", period="24h")
    assert found(bao, "said", token, tmp_path) == {}
    for right in ("encrypt", "decrypt"):
        weaker = "".join(line for line in policy.splitlines(keepends=True) if f"/{right}/" not in line)
        bao.write("sys/policies/acl/weaker", policy=weaker)
        weak = found(bao, "said", bao.make_token("weaker", period="24h"), tmp_path)
        assert {"encrypt": "KS-D035", "decrypt": "KS-D036"}[right] in weak
