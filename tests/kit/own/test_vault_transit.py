"""The provider `vault-transit` keeps the rules on a real OpenBao, with the fault proxy in between."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import WrapContext, Wrapped
from keystead.providers.vault_transit import VaultTransitProvider
from keystead.testing import FaultProxy, ProviderSuite, Sandbox
from providers.vault.bao import INSTEAD, Bao, serving

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with serving(tmp_path_factory.mktemp("bao")) as server:
        server.initialise()
        server.unseal()
        yield server


class BaoSandbox(Sandbox):
    """One transit key and one token, of an operator with all rights."""

    def __init__(self, bao: Bao, key: str, token_file: Path) -> None:
        self._bao = bao
        self._key = key
        self._token_file = token_file
        self._renew()

    def secrets(self) -> list[str]:
        return [self._token, self._bao.token]

    def rotate(self) -> None:
        self._bao.write(f"transit/keys/{self._key}/rotate")

    @contextlib.contextmanager
    def version_disabled(self, version: str) -> Iterator[None]:
        """Transit disables by a floor: this version and all before it."""
        self._bao.write(f"transit/keys/{self._key}/config", min_decryption_version=int(version) + 1)
        yield
        self._bao.write(f"transit/keys/{self._key}/config", min_decryption_version=1)

    @contextlib.contextmanager
    def key_disabled(self) -> Iterator[None]:
        if INSTEAD is not None:
            super().key_disabled()  # only OpenBao can do that, so it is not shown
        self._bao.call("DELETE", f"transit/keys/{self._key}/soft-delete")
        yield
        self._bao.write(f"transit/keys/{self._key}/soft-delete-restore")

    @contextlib.contextmanager
    def key_missing(self) -> Iterator[None]:
        settings = {"deletion_allowed": True, "allow_plaintext_backup": True, "exportable": True}
        self._bao.write(f"transit/keys/{self._key}/config", **settings)
        backup = self._bao.call("GET", f"transit/backup/{self._key}")["data"]["backup"]
        self._bao.call("DELETE", f"transit/keys/{self._key}")
        yield
        self._bao.write(f"transit/restore/{self._key}", backup=backup)

    @contextlib.contextmanager
    def access_denied(self) -> Iterator[None]:
        self._bao.policy(self._key, "transit/keys/nothing=read")
        yield
        self._bao.policy(self._key)

    @contextlib.contextmanager
    def credentials_expired(self) -> Iterator[None]:
        self._bao.write("auth/token/revoke", token=self._token)
        yield
        self._renew()

    @contextlib.contextmanager
    def throttled(self) -> Iterator[None]:
        """A quota of one call a minute, which this method uses up itself."""
        made = self._bao.encrypt(self._key, b"x")
        for operation, body in (("encrypt", {"plaintext": "eA=="}), ("decrypt", {"ciphertext": made})):
            name = f"{self._key}-{operation}"
            path = f"transit/{operation}/{self._key}"
            self._bao.write(f"sys/quotas/rate-limit/{name}", path=path, rate=1, interval="60s")
            self._bao.write(path, **body)
        yield
        for operation in ("encrypt", "decrypt"):
            self._bao.call("DELETE", f"sys/quotas/rate-limit/{self._key}-{operation}")

    @contextlib.contextmanager
    def out_of_order(self) -> Iterator[None]:
        self._bao.seal()
        yield
        self._bao.unseal()

    def foreign_wrap(self, kek: bytes, context: WrapContext) -> Wrapped:
        import base64

        other = self._bao.key(f"other-{self._key}")
        aad = base64.b64encode(context.aad).decode()
        return Wrapped(self._bao.encrypt(other, kek, associated_data=aad).encode(), "1")

    def _renew(self) -> None:
        self._token: str = self._bao.make_token(self._key, ttl="1h")
        self._token_file.write_text(self._token + "\n")


class TestVaultTransit(ProviderSuite):
    @pytest.fixture
    def key(self, bao: Bao) -> str:
        return bao.key(f"k{next(_numbers)}")

    @pytest.fixture
    def sandbox(self, bao: Bao, key: str, tmp_path: Path) -> BaoSandbox:
        return BaoSandbox(bao, key, tmp_path / "token")

    @pytest.fixture
    def provider(
        self, bao: Bao, key: str, sandbox: BaoSandbox, tmp_path: Path, fault_proxy: FaultProxy
    ) -> VaultTransitProvider:
        proxy = fault_proxy.to(bao.address.removeprefix("http://"), tls=True)
        described: dict[str, Any] = {
            "name": "k",
            "provider": "vault-transit",
            "address": f"https://{proxy.address}",
            "transitKey": key,
            "auth": {"method": "token", "tokenFile": str(tmp_path / "token")},
            "tls": {"caFile": str(proxy.ca_file)},
        }
        config: Any = VaultTransitProvider.config_type.model_validate(described)
        return VaultTransitProvider(config)
