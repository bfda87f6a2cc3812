"""Secrets and authorities that are replaced in their files: a plugin that runs takes them up by itself."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from faults.aws import REGION, Aws
from faults.gcp import Gcp
from faults.line import Line
from faults.load import Load
from faults.plugin import Plugin, Running, until
from faults.remotes import Remote
from faults.test_short_tokens import approle
from faults.vault import Vault
from providers.aws.fake import fake_aws
from providers.aws.given import profile
from providers.gcp.fake import over_grpc
from providers.gcp.given import claims, service_account
from providers.vault.certificates import Authority
from support.serving import Client, Sealed, short_directory

SEED = bytes(32)
TRY_EVERY = 0.2


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@contextlib.contextmanager
def serving(directory: Path, remote: Remote) -> Iterator[Running]:
    """Run a plugin, which at the end is still the process that it was and has loaded no configuration again."""
    with Plugin(directory / "plugin", [remote]).run() as running:
        assert running.clients[remote.name].decrypt(remote.cold(1)[0]) == SEED
        yield running
        assert running.process.popen.poll() is None
        assert not running.process.events("config.reloaded")


def refusal(client: Client, later: list[Sealed]) -> tuple[grpc.StatusCode, str]:
    """What a Decrypt that needs the remote is told."""
    with pytest.raises(grpc.RpcError) as caught:
        client.decrypt(later.pop())
    return caught.value.code(), caught.value.details() or ""


def until_it_works(client: Client, later: list[Sealed], within: float) -> None:
    """Decrypt another record each time, since a refusal of one is remembered for a while."""
    ends = time.monotonic() + within
    while True:
        try:
            assert client.decrypt(later.pop()) == SEED
            return
        except grpc.RpcError as exc:
            if time.monotonic() > ends:
                raise AssertionError(f"not within {within} s; {exc.details()}") from None
        time.sleep(TRY_EVERY)


def replace(file: Path, content: bytes) -> None:
    """Replace a file in one step."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


@pytest.mark.slow
def test_a_secret_id_that_is_replaced_is_used_at_the_next_login_and_no_call_fails(directory: Path) -> None:
    vault = Vault(directory)
    with vault.stack:
        vault.key["auth"] = approle(vault, directory, token_max_ttl=10)
        with serving(directory, vault) as running, Load(running.clients[vault.name], vault.cold(400), 0.1) as load:
            load.wait(3)
            old = (directory / "secret-id").read_text()
            new: str = vault.bao.write("auth/approle/role/r/secret-id")["data"]["secret_id"]
            (directory / "secret-id").write_text(new)
            vault.bao.write("auth/approle/role/r/secret-id/destroy", secret_id=old)
            load.wait(25)
        assert not load.failures, load.failures[:5]
        assert load.calls["cold"] > 50
        assert vault.line.heard.count(new.encode()) >= 2


def test_static_credentials_of_aws_that_are_replaced_are_used_for_the_next_call(directory: Path) -> None:
    aws = Aws(directory)
    with aws.stack, serving(directory, aws) as running:
        client, later = running.clients[aws.name], aws.cold(2)
        aws.fake.secret_keys = {"AKIASECONDACCESS": ("another-secret", None)}
        code, text = refusal(client, later)
        assert (code, "UnrecognizedClientException" in text) == (grpc.StatusCode.UNAUTHENTICATED, True)
        replace(aws.credentials, profile("default", "AKIASECONDACCESS", "another-secret").encode())
        assert client.decrypt(later.pop()) == SEED


class OfIssuer(set[str]):
    """The tokens that a service account has signed."""

    def __init__(self, email: str) -> None:
        super().__init__()
        self._email = email

    def __contains__(self, token: object) -> bool:
        return claims(f"Bearer {token}")["iss"] == self._email


def test_a_key_file_of_google_that_is_replaced_is_used_once_the_old_one_is_refused(directory: Path) -> None:
    gcp = Gcp(directory)
    with gcp.stack, serving(directory, gcp) as running:
        client, later = running.clients[gcp.name], gcp.cold(50)
        gcp.kms.tokens = OfIssuer("two@lab-1.iam.gserviceaccount.com")
        code, _ = refusal(client, later)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        service_account(gcp.credentials, "two@lab-1.iam.gserviceaccount.com")
        # A token of five seconds is not asked for again; one of half a minute is replaced within the call.
        until_it_works(client, later, within=8)


class TestAnAuthority:
    """The server has a certificate of another authority from now on; the file of authorities follows."""

    @pytest.fixture
    def authorities(self, directory: Path) -> tuple[Authority, Authority]:
        return Authority.create(directory / "first.crt"), Authority.create(directory / "second.crt")

    def replaced(self, client: Client, later: list[Sealed], file: Path, second: Authority) -> None:
        """The old authority does not do, and the new one does, in the same process."""
        code, text = refusal(client, later)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "TLS" in text or "CERTIFICATE_VERIFY_FAILED" in text
        replace(file, second.file.read_bytes())
        until_it_works(client, later, within=5)

    def test_of_vault(self, directory: Path, authorities: tuple[Authority, Authority]) -> None:
        first, second = authorities
        trusted = directory / "trusted.crt"
        shutil.copy(first.file, trusted)
        vault = Vault(directory, (*first.issue(directory, "bao.test", "127.0.0.1"), first.file))
        vault.key["tls"] = {"caFile": str(trusted)}
        with vault.stack, serving(directory, vault) as running:
            later = vault.cold(50)
            second.issue(directory, "bao.test", "127.0.0.1")  # into the same files
            vault.bao.process.send_signal(signal.SIGHUP)
            until(lambda: "OpenBao reload triggered" in vault.bao.log_file.read_text())
            vault.line.cut()
            self.replaced(running.clients[vault.name], later, trusted, second)

    def test_of_aws(self, directory: Path, authorities: tuple[Authority, Authority]) -> None:
        first, second = authorities
        trusted = directory / "trusted.crt"
        shutil.copy(first.file, trusted)
        aws = Aws(directory)
        with aws.stack as stack:
            fakes = [
                stack.enter_context(fake_aws(REGION, aws.fake.keys, tls=authority.issue(directory, name, "127.0.0.1")))
                for name, authority in zip(("kms-1.test", "kms-2.test"), authorities, strict=True)
            ]
            before, after = (fake.address.removeprefix("https://") for fake in fakes)
            line = Line(before)
            stack.callback(line.close)
            aws.key |= {"endpoint": f"https://{line.address}", "caFile": str(trusted)}
            with serving(directory, aws) as running, line.to(after):
                self.replaced(running.clients[aws.name], aws.cold(50), trusted, second)

    def test_of_google(self, directory: Path, authorities: tuple[Authority, Authority]) -> None:
        _, second = authorities
        gcp = Gcp(directory)
        trusted = directory / "trusted.crt"
        shutil.copy(gcp.key["caFile"], trusted)
        gcp.key["caFile"] = str(trusted)
        with gcp.stack as stack, serving(directory, gcp) as running:
            port = stack.enter_context(over_grpc(gcp.kms, second.issue(directory, "kms-2.test", "127.0.0.1")))
            with gcp.line.to(f"127.0.0.1:{port}"):
                self.replaced(running.clients[gcp.name], gcp.cold(50), trusted, second)
