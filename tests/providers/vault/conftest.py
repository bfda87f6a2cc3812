from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault.bao import Bao, serving
from providers.vault.certificates import Authority
from providers.vault.given import Make, Pki


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """One unsealed server for all tests that leave it so; each makes keys of its own."""
    with serving(tmp_path_factory.mktemp("bao")) as server:
        server.initialise()
        server.unseal()
        yield server


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    directory = tmp_path_factory.mktemp("pki")
    return Pki(Authority.create(directory / "ca.crt"), directory)


@pytest.fixture(scope="session")
def tls_bao(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Bao]:
    """One unsealed server with TLS, whose certificate is for bao.test and 127.0.0.1."""
    certificate, key = pki.ca.issue(pki.directory, "bao.test", "127.0.0.1")
    with serving(tmp_path_factory.mktemp("tls"), (certificate, key, pki.ca.file)) as server:
        server.initialise()
        server.unseal()
        yield server


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Build a provider that is closed at the end. `token` goes to a file; other fields are the configuration's."""
    pytest.importorskip("hvac", reason="NOT TESTED: no hvac; pip install --require-hashes -r requirements/backends.txt")
    with contextlib.ExitStack() as stack:

        def build(server: Any, transit_key: str = "k", *, token: str | None = None, **fields: Any) -> Any:
            if token is not None:
                (tmp_path / "token").write_text(token + "\n")
            fields.setdefault("auth", {"method": "token", "tokenFile": str(tmp_path / "token")})
            if "addresses" not in fields:
                fields["address"] = server.address
            if getattr(server, "ca_file", None) is not None:
                fields["tls"] = {"caFile": str(server.ca_file), **fields.get("tls", {})}
            config = VaultTransitProvider.config_type.model_validate(
                {"name": "k", "provider": "vault-transit", "transitKey": transit_key, **fields}
            )
            provider = VaultTransitProvider(config)  # type: ignore[arg-type]  # config_type is this class's own
            stack.callback(provider.close)
            return provider

        yield build
