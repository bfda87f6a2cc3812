"""What a configuration may say, and what it is told otherwise."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from keystead import registry
from keystead.provider import ConfigError, Provider
from keystead.providers._vault import config as module
from keystead.providers._vault.config import VaultTransitConfig
from keystead.providers.vault_transit import VaultTransitProvider

BASE: dict[str, Any] = {
    "name": "k",
    "provider": "vault-transit",
    "address": "https://vault.example:8200",
    "transitKey": "k8s",
    "auth": {"method": "token", "tokenFile": "/run/token"},
}
CERT = {"method": "cert"}
APPROLE = {"method": "approle", "roleIDFile": "/run/role", "secretIDFile": "/run/secret"}


def parsed(**changes: Any) -> VaultTransitConfig:
    fields = {name: value for name, value in (BASE | changes).items() if value is not None}
    return VaultTransitConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("changes", "ref"),
    [
        ({}, "transit/k8s"),
        ({"mount": "teams/a/transit"}, "teams/a/transit/k8s"),
        ({"namespace": "admin/team"}, "admin/team/transit/k8s"),
        ({"namespace": "admin", "lineage": "prod-eu"}, "prod-eu/admin/transit/k8s"),
        ({"lineage": "prod-eu"}, "prod-eu/transit/k8s"),
        ({"address": None, "addresses": ["https://b:1", "https://a:1"]}, "transit/k8s"),
        ({"auth": APPROLE}, "transit/k8s"),
    ],
)
def test_the_ref_has_nothing_of_the_address_and_the_login(changes: dict[str, Any], ref: str) -> None:
    assert parsed(**changes).ref == ref


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no address": ({"address": None}, "give either address or addresses"),
    "both": ({"addresses": ["https://a:1"]}, "give either address or addresses"),
    "none of several": ({"address": None, "addresses": []}, "at least 1 item"),
    "a server twice": ({"address": None, "addresses": ["https://a:443", "https://A"]}, "names a server twice"),
    "no scheme": ({"address": "vault:8200"}, "should be https://host:port"),
    "a path": ({"address": "https://vault:8200/ui"}, "without a path"),
    "a password": ({"address": "https://a:b@vault:8200"}, "should be https://host:port"),
    "a port too high": ({"address": "https://vault:82000"}, "Port out of range"),
    "another scheme": ({"address": "unix:///run/vault"}, "should be https://host:port"),
    "a mount with dots": ({"mount": "a/../b"}, "pattern"),
    "a mount with a slash": ({"mount": "/transit/"}, "pattern"),
    "a key with a slash": ({"transitKey": "a/b"}, "pattern"),
    "a key with a question mark": ({"transitKey": "a?b"}, "pattern"),
    "a namespace with a space": ({"namespace": "a b"}, "pattern"),
    "a lineage with a slash": ({"lineage": "a/b"}, "pattern"),
    "an unknown method": ({"auth": {"method": "userpass"}}, "'token', 'approle', 'jwt', 'cert', 'kubernetes'"),
    "a token itself": ({"auth": {"method": "token", "token": "s.x"}}, "Extra inputs are not permitted"),
    "a relative file": ({"auth": {"method": "token", "tokenFile": "token"}}, "should be an absolute path"),
    "no secret": ({"auth": {"method": "approle", "roleIDFile": "/a"}}, "secretIDFile"),
    "cert without a certificate": ({"auth": CERT}, "auth.method cert needs tls.certFile"),
    "a certificate without a key": ({"auth": CERT, "tls": {"certFile": "/a"}}, "give both certFile and keyFile"),
    "tls without https": ({"address": "http://vault:8200", "tls": {"caFile": "/a"}}, "begin with https"),
    "a proxy with a password": ({"proxy": "http://a:b@proxy:3128"}, "should be https://host:port"),
    "a proxy of another kind": ({"proxy": "socks5://proxy:1080"}, "should be http://host:port"),
    "a proxy that would see the token": ({"address": "http://vault:8200", "proxy": "http://p:3128"}, "see the token"),
    "a typing error": ({"tls": {"cafile": "/a"}}, "Extra inputs are not permitted"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_configuration_is_refused(case: str) -> None:
    changes, text = REFUSED[case]
    with pytest.raises(ValidationError, match=text):
        parsed(**changes)


def test_an_address_has_one_spelling() -> None:
    assert parsed(address="https://Vault.Example").servers == ("https://vault.example:443",)
    assert parsed(address="http://[::1]:8200/").servers == ("http://[::1]:8200",)


def test_what_an_operator_must_know_is_said_at_start() -> None:
    kubernetes = {"method": "kubernetes", "role": "r"}
    assert VaultTransitProvider(parsed()).notice is None
    assert "neither can start" in str(VaultTransitProvider(parsed(auth=kubernetes)).notice)
    assert "in the clear" in str(VaultTransitProvider(parsed(address="http://vault:8200")).notice)
    assert VaultTransitProvider(parsed(address="http://127.0.0.1:8200")).notice is None


def test_each_field_is_described_and_no_default_is_a_secret() -> None:
    sections = [
        section
        for section in vars(module).values()
        if isinstance(section, type) and issubclass(section, BaseModel) and section.__module__ == module.__name__
    ]
    described = 0
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description or name == "provider", f"{section.__name__}.{name}"
            described += 1
    assert described > 25


def test_the_sdk_is_not_imported_before_a_key_is_opened() -> None:
    code = (
        "import sys, keystead.providers.vault_transit\n"
        "assert not {'hvac', 'requests', 'urllib3'} & set(sys.modules), 'the SDK was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_the_sdk_opening_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hvac", None)
    monkeypatch.setitem(sys.modules, "hvac.adapters", None)
    monkeypatch.delitem(sys.modules, "keystead.providers._vault.http", raising=False)
    with pytest.raises(ConfigError, match=r"is not installed: install keystead\[vault\]"):
        VaultTransitProvider(parsed()).open(time.monotonic() + 1)


def test_the_provider_is_found_by_its_entry_point_and_follows_the_interface() -> None:
    found: type[Provider[Any]] = registry.provider_class("vault-transit")
    assert found is VaultTransitProvider
