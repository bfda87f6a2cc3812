"""Tokens of a real OpenBao that end every ten seconds, under load for two minutes: no call fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.load import Load
from faults.plugin import Plugin
from faults.vault import KEY, Vault
from support.serving import short_directory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TTL = 10
"""Seconds that a token lives, at most: it cannot be renewed beyond."""
SECONDS = 120
PAUSE = 0.1
"""Seconds between two calls of a kind."""


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def vault(directory: Path) -> Iterator[Vault]:
    made = Vault(directory)
    with made.stack:
        yield made


def approle(vault: Vault, directory: Path, **options: Any) -> dict[str, str]:
    """Have a role whose tokens end soon, and log in with it."""
    vault.bao.mount("auth/approle", "approle")
    vault.bao.write("auth/approle/role/r", token_policies=[KEY], token_ttl=TTL, **options)
    (directory / "role-id").write_text(vault.bao.call("GET", "auth/approle/role/r/role-id")["data"]["role_id"])
    (directory / "secret-id").write_text(vault.bao.write("auth/approle/role/r/secret-id")["data"]["secret_id"])
    return {
        "method": "approle",
        "roleIDFile": str(directory / "role-id"),
        "secretIDFile": str(directory / "secret-id"),
    }


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({"token_max_ttl": TTL}, SECONDS), ({"token_type": "batch"}, 40), ({"token_period": TTL}, 40)],
    ids=["ending", "batch", "periodic"],
)
def test_logins_that_last_ten_seconds_fail_no_call(
    vault: Vault, directory: Path, options: dict[str, Any], seconds: float
) -> None:
    vault.key["auth"] = approle(vault, directory, **options)
    under_load(vault, directory, seconds)
    logins = vault.line.heard.count(b"POST /v1/auth/approle/login ")
    renewals = vault.line.heard.count(b"POST /v1/auth/token/renew-self ")
    if "token_period" in options:
        assert logins == 1
        assert renewals >= seconds / TTL
    else:
        # Each is replaced past half its life.
        assert seconds / TTL <= logins <= 3 * seconds / TTL


def test_a_token_file_that_is_replaced_every_few_seconds_fails_no_call(vault: Vault, directory: Path) -> None:
    over, tokens = threading.Event(), list[str]()

    def replace() -> None:
        while not over.wait(TTL / 3):
            write_token()

    def write_token() -> None:
        tokens.append(vault.bao.make_token(KEY, ttl=f"{TTL}s", explicit_max_ttl=f"{TTL}s"))
        new = vault.token_file.with_suffix(".new")
        new.write_text(tokens[-1])
        new.replace(vault.token_file)

    write_token()
    agent = threading.Thread(target=replace)
    agent.start()
    try:
        under_load(vault, directory, SECONDS)
    finally:
        over.set()
        agent.join()
    used = sum(f"X-Vault-Token: {token}".encode() in vault.line.heard for token in tokens)
    assert len(tokens) > SECONDS / TTL
    assert used >= SECONDS / TTL


def under_load(vault: Vault, directory: Path, seconds: float) -> None:
    """Serve, and call for so long."""
    cold = vault.cold(int(seconds / PAUSE) + 50)
    with Plugin(directory / "plugin", [vault], probe_interval="1s").run() as running:
        with Load(running.clients[vault.name], cold, PAUSE) as load:
            load.wait(seconds)
        assert not load.failures, (len(load.failures), load.failures[:5], load.calls)
        # A loaded machine makes fewer calls than the pauses would allow.
        assert min(load.calls[kind] for kind in ("encrypt", "hot", "cold")) > seconds / PAUSE / 3
        print(dict(load.calls))
        running.until_flights(vault.name, load.calls["cold"])
        assert not running.process.events("kek.unwrap_failed")
        assert [event["before"] for event in running.process.events("health.changed")] == ["init"]
