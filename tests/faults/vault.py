"""A real OpenBao, and what can be wrong with a key there. What it does not do on demand, a FAKE of it answers."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.line import Line
from faults.remotes import RemoteOnALine
from keystead.providers._vault.config import VaultTransitConfig
from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault.bao import serving
from providers.vault.fake import Reply, data, errors, fake_vault

KEY = "k8s"
DECRYPT = f"transit/decrypt/{KEY}"
LIMITED = "rate limit quota exceeded"
SCRIPTED: dict[str, Reply] = {
    "redirect to a foreign host": Reply(307, b"", {"Location": f"http://foreign.example/v1/{DECRYPT}"}),
    "rate limit with Retry-After": Reply(429, {"errors": [LIMITED]}, {"Retry-After": "30"}),
    "internal error": errors(500, "internal error"),
    "replica that lags": errors(400, "invalid ciphertext: version is too new"),
    "another key returned": data(plaintext=base64.b64encode(bytes(32)).decode()),
}


class Vault(RemoteOnALine):
    """Transit with one key of two versions. The token is in a file."""

    name = "vault-transit"
    peer_version = "1"

    def __init__(self, directory: Path, tls: tuple[Path, Path, Path] | None = None) -> None:
        """Run a server; `tls` is its certificate, its key and the CA."""
        super().__init__()
        (directory / "bao").mkdir()
        self.bao = self.stack.enter_context(serving(directory / "bao", tls))
        self.bao.initialise()
        self.bao.unseal()
        self.bao.key(KEY)
        self.bao.write(f"transit/keys/{KEY}/rotate")
        self.bao.write(f"transit/keys/{KEY}/config", exportable=True, allow_plaintext_backup=True)
        scheme, _, host = self.bao.address.partition("://")
        self.line = Line(host)
        self.stack.callback(self.line.close)
        self.token_file = directory / "vault-token"
        self.token_file.write_text(self.bao.make_token(KEY))
        own_token = directory / "vault-peer-token"
        own_token.write_text(self.bao.make_token(KEY))
        self.key = self._entry(f"{scheme}://{self.line.address}", self.token_file)
        direct = self._entry(self.bao.address, own_token)
        self.peer = VaultTransitProvider(VaultTransitConfig.model_validate(direct))
        self.open()

    def _entry(self, address: str, token_file: Path) -> dict[str, Any]:
        auth = {"method": "token", "tokenFile": str(token_file)}
        entry = {"name": self.name, "provider": self.name, "address": address, "transitKey": KEY, "auth": auth}
        return entry if self.bao.ca_file is None else {**entry, "tls": {"caFile": str(self.bao.ca_file)}}

    def unwraps(self) -> int:
        return self.line.heard.count(f"POST /v1/{DECRYPT} ".encode())

    def requests(self) -> int:
        return self.line.heard.count(b" HTTP/1.1\r\n")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        os.kill(self.bao.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.bao.process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def own_fault(self, name: str) -> Iterator[None]:
        if name in SCRIPTED:
            with fake_vault() as fake:
                fake.scripts[DECRYPT] = SCRIPTED[name]
                with self.line.to(fake.address.removeprefix("http://")):
                    yield
            return
        backup = self.bao.call("GET", f"transit/backup/{KEY}")["data"]["backup"]
        self._spoil(name)
        try:
            yield
        finally:
            self._repair(name, backup)

    def _spoil(self, name: str) -> None:
        match name:
            case "token expired":
                self.bao.write("auth/token/revoke", token=self.token_file.read_text())
            case "denied":
                self.bao.policy(KEY, f"transit/keys/{KEY}=read", f"transit/encrypt/{KEY}=update")
            case "rate limit":
                self.bao.write("sys/quotas/rate-limit/few", path=DECRYPT, rate=0.001)
                self.bao.call("POST", DECRYPT, {"ciphertext": self.bao.encrypt(KEY, bytes(32))})  # all that there is
            case "sealed":
                self.bao.seal()
            case "key not found":
                self._delete()
            case "key disabled":
                self.bao.write(f"transit/keys/{KEY}/config", min_decryption_version=2)
            case "key destroyed":
                self.bao.write(f"transit/keys/{KEY}/config", min_decryption_version=2, min_encryption_version=2)
                self.bao.write(f"transit/keys/{KEY}/trim", min_available_version=2)
            case "key made anew":
                self._delete()
                self.bao.write(f"transit/keys/{KEY}")
                self.bao.write(f"transit/keys/{KEY}/rotate")
            case _:
                raise AssertionError(f"no such fault of Vault: {name}")

    def _repair(self, name: str, backup: str) -> None:
        match name:
            case "token expired":
                self.token_file.write_text(self.bao.make_token(KEY))
            case "denied":
                self.bao.policy(KEY)
            case "rate limit":
                self.bao.call("DELETE", "sys/quotas/rate-limit/few")
            case "sealed":
                self.bao.unseal()
            case _:
                self.bao.write(f"transit/restore/{KEY}", backup=backup, force=True)

    def _delete(self) -> None:
        self.bao.write(f"transit/keys/{KEY}/config", deletion_allowed=True)
        self.bao.call("DELETE", f"transit/keys/{KEY}")
