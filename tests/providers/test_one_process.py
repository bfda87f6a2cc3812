"""A whole `keystead serve` with several providers: what it imports, and what it never writes.

Behind `vault-transit` is a real OpenBao, behind `aws-kms` and `gcp-kms` are FAKES.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hvac", reason="NOT TESTED: no hvac; pip install --require-hashes -r requirements/backends.txt")
pytest.importorskip("boto3", reason="NOT TESTED: no boto3; pip install --require-hashes -r requirements/backends.txt")
pytest.importorskip(
    "google.cloud.kms_v1",
    reason="NOT TESTED: no google-cloud-kms; pip install --require-hashes -r requirements/backends.txt",
)

from faults.all import remotes
from faults.aws import Aws
from faults.gcp import Gcp
from faults.plugin import Plugin, Running
from faults.remotes import RemoteOnALine
from faults.vault import Vault
from providers.aws.fake import SECRET
from providers.vault.fake import TOKEN
from support.loud import SPOKEN, loud_site
from support.process import TESTS

SEED = bytes(range(64, 96))
SDKS = {
    "vault-transit": {"hvac", "requests"},
    "aws-kms": {"boto3", "botocore"},
    "gcp-kms": {"google.cloud.kms_v1", "google.auth", "google.api_core", "google_crc32c"},
    "age-x25519": {"pyrage"},
}
TOLD = ["denied", "token expired", "key disabled", "key not found", "internal error", "another key returned"]
"""Faults whose texts come from the other side."""


@dataclass
class Loud(Plugin):
    """It writes all that it can."""

    def document(self) -> dict[str, Any]:
        document = super().document()
        document["observability"]["logging"]["verbosity"] = 10
        return document


@contextlib.contextmanager
def imports(directory: Path, kind: Callable[[Path], RemoteOnALine]) -> Iterator[list[str]]:
    """The lines of a plugin with one provider: its log, and the name of each module when it has been imported."""
    remote = kind(directory)
    with remote.stack:
        remote.environment["PYTHONPROFILEIMPORTTIME"] = "1"
        plugin = Plugin(directory / "plugin", [remote])
        with plugin.run() as running:
            (client,) = running.clients.values()
            assert client.decrypt(client.seal(SEED)) == SEED
            assert client.decrypt(remote.cold(1)[0]) is not None
            running.process.stop()
        yield (plugin.directory / "log").read_text().splitlines()


def first(lines: list[str], wanted: str) -> int | None:
    """Where the first line is that has this pattern."""
    return next((number for number, line in enumerate(lines) if re.search(wanted, line)), None)


@pytest.mark.parametrize("kind", [Vault, Aws, Gcp])
def test_only_the_sdk_of_a_configured_provider_is_imported_and_not_before_the_socket_listens(
    kind: type[Vault | Aws | Gcp], tmp_path: Path
) -> None:
    with imports(tmp_path, kind) as lines:
        listening = first(lines, '"event": "endpoint.listening"')
        assert listening is not None
        assert first(lines, r"^import time: .*\| +grpc$") is not None, "imports are listed indeed"
        checked = 0
        for provider, modules in SDKS.items():
            for module in modules:
                imported = first(lines, rf"^import time: .*\| +{re.escape(module)}$")
                if provider == kind.name:
                    assert imported is not None, module
                    assert imported > listening, f"{module} delays the socket"
                elif not (module == "requests" and kind is Gcp):  # google.auth has it too
                    assert imported is None, module
                checked += 1
        assert checked == 9


def secrets_of(remote: RemoteOnALine) -> list[bytes]:
    """The plaintexts, as they are, that the plugin has sent; the remote has seen more."""
    if isinstance(remote, Gcp):
        return list(remote.kms.plaintexts)
    found = re.findall(rb'"[Pp]laintext": ?"([A-Za-z0-9+/=]{44})"', bytes(remote.line.heard))
    return [base64.b64decode(text) for text in found]


def spellings(secret: bytes) -> list[str]:
    standard, url = base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()
    return [secret.hex(), standard.rstrip("="), url.rstrip("="), repr(secret)[2:-1], repr(list(secret))]


def use(running: Running, made: dict[str, RemoteOnALine]) -> None:
    """Have each provider succeed, and fail in each way that has a text."""
    for name, remote in made.items():
        client = running.clients[name]
        for sealed in (client.seal(SEED), remote.cold(1)[0]):
            client.decrypt(sealed)
        for fault in TOLD:
            (cold,) = remote.cold(1)
            flights = running.flights(name)
            with remote.fault(fault):
                with contextlib.suppress(Exception):
                    client.decrypt(cold)
                running.until_flights(name, flights + 1)


def test_no_key_token_or_ciphertext_of_any_provider_is_written_though_every_logger_is_at_debug(tmp_path: Path) -> None:
    site = loud_site(tmp_path)
    with remotes(tmp_path) as made:
        for remote in made.values():
            remote.environment["PYTHONPATH"] = f"{site}:{TESTS}"
            remote.environment["GOOGLE_SDK_PYTHON_LOGGING_SCOPE"] = "google"
        plugin = Loud(tmp_path / "plugin", list(made.values()))
        with plugin.run() as running:
            use(running, made)
            written = running.metrics()
            for client in running.clients.values():
                written += str(client.status())
            assert running.process.stop() == 0
        written += (plugin.directory / "log").read_text()
        plaintexts = {name: secrets_of(remote) for name, remote in made.items()}
        vault, aws = made["vault-transit"], made["aws-kms"]
        assert isinstance(vault, Vault)
        assert isinstance(aws, Aws)
        tokens = [vault.token_file.read_text().strip(), TOKEN, SECRET]
        ciphertexts = [request.body["CiphertextBlob"] for request in aws.fake.asked("Decrypt")]
        ciphertexts += re.findall(r"vault:v[0-9]+:([A-Za-z0-9+/]{40,})", vault.line.heard.decode("latin-1"))
    assert SPOKEN in written
    assert len(re.findall('"event": "kek.unwrap_failed"', written)) >= 3 * len(TOLD)
    for name, secrets in plaintexts.items():
        assert len(secrets) >= 2, name  # a mint and a probe
        for secret in [*secrets, SEED]:
            for spelling in spellings(secret):
                assert spelling not in written, name
    assert len(ciphertexts) > 10
    for text in [*tokens, *ciphertexts]:
        assert text not in written
