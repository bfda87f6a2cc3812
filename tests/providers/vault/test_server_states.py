"""What an operator reads when a real OpenBao is sealed, not initialised, stopped, gone, or its TLS does not fit."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import ConfigError, PermissionDenied, Unavailable
from providers.vault.bao import Bao, free_port, serving
from providers.vault.certificates import Authority
from providers.vault.given import CONTEXT, KEK, Make, Pki, soon
from support.patience import AT_ONCE, LATE
from support.relays import relay


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def test_a_server_is_unavailable_until_it_is_initialised_and_unsealed_and_again_when_sealed(
    tmp_path: Path, make: Make
) -> None:
    with serving(tmp_path) as bao:
        provider = make(bao, "k", token="none-yet")
        with pytest.raises(Unavailable, match=r"GET sys/health.* .the server is not initialised"):
            provider.open(soon())
        bao.initialise()
        with pytest.raises(Unavailable, match="the server is sealed: unseal it"):
            provider.open(soon())
        bao.unseal()
        key = bao.key("k")
        provider = make(bao, key, token=bao.make_token(key))
        provider.open(soon())
        blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
        bao.seal()
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"POST transit/decrypt/k .*HTTP 503: .*sealed"):
                provider.unwrap(blob, CONTEXT, "1", soon())
        bao.unseal()
        # The same token and the same provider go on.
        assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK


def test_a_stopped_server_costs_no_more_than_the_deadline(tmp_path: Path, make: Make) -> None:
    with serving(tmp_path) as bao:
        bao.initialise()
        bao.unseal()
        key = bao.key("k")
        provider = make(bao, key, token=bao.make_token(key))
        provider.open(soon())
        blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
        os.kill(bao.process.pid, signal.SIGSTOP)
        with within(0.5 + LATE), pytest.raises(Unavailable, match=r"no complete answer within 0\.\d s"):
            provider.unwrap(blob, CONTEXT, "1", soon(0.5))
        os.kill(bao.process.pid, signal.SIGCONT)
        assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK
        bao.stop()
        with within(AT_ONCE), pytest.raises(Unavailable, match="Connection refused"):
            provider.unwrap(blob, CONTEXT, "1", soon())


def test_the_next_address_is_asked_when_one_hangs_or_is_gone_and_stays_in_use(
    bao: Bao, make: Make, tmp_path: Path
) -> None:
    key = bao.key("failover")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses = [
            f"http://127.0.0.1:{free_port()}",
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            bao.address,
        ]
        provider = make(bao, key, token=bao.make_token(key), addresses=addresses)
        with within(3 + LATE):
            provider.open(soon(3))
        with within(AT_ONCE):
            for _ in range(10):
                provider.current_version(soon(3))


def test_a_tls_handshake_that_is_not_answered_costs_no_more_than_the_deadline(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = make(None, token="t", addresses=[f"https://127.0.0.1:{silent.getsockname()[1]}"])
        with within(0.5 + LATE), pytest.raises(Unavailable, match=r"no (connection|complete answer) within"):
            provider.open(soon(0.5))


def test_an_expired_deadline_asks_nobody(bao: Bao, make: Make) -> None:
    key = bao.key("late")
    provider = make(bao, key, token=bao.make_token(key))
    provider.open(soon())
    with within(AT_ONCE), pytest.raises(Unavailable, match="no time left to ask"):
        provider.wrap(KEK, CONTEXT, None, time.monotonic())


def test_an_unknown_host_is_unavailable(make: Make) -> None:
    provider = make(None, token="t", addresses=["https://vault.invalid:8200"])
    with pytest.raises(Unavailable, match=r"GET sys/health.* at https://vault.invalid:8200: "):
        provider.open(soon())


def test_tls_with_the_right_ca_works_from_many_threads(tls_bao: Bao, make: Make) -> None:
    key = tls_bao.key("tls")
    provider = make(tls_bao, key, token=tls_bao.make_token(key))
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    answers: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: answers.extend(bytes(provider.unwrap(blob, CONTEXT, "1", soon())) for _ in "ab")
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [KEK] * 32


def test_server_name_replaces_the_host_of_the_address(tls_bao: Bao, make: Make) -> None:
    key = tls_bao.key("names")
    token = tls_bao.make_token(key)
    make(tls_bao, key, token=token, tls={"serverName": "bao.test"}).open(soon())
    with pytest.raises(Unavailable, match=r"TLS: .*other\.test.*check tls\.caFile, tls\.serverName"):
        make(tls_bao, key, token=token, tls={"serverName": "other.test"}).open(soon())


def test_a_proxy_is_asked_for_a_tunnel_through_which_tls_is_with_the_server(
    tls_bao: Bao, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tls_bao.key("proxied")
    token = tls_bao.make_token(key)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with relay() as proxy:
        for tls in ({}, {"serverName": "bao.test"}):
            provider = make(tls_bao, key, token=token, proxy=f"http://{proxy.address}", tls=tls)
            provider.open(soon())
            wrapped = provider.wrap(KEK, CONTEXT, None, soon())
            assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK
        wrong = make(tls_bao, key, proxy=f"http://{proxy.address}", tls={"serverName": "other.test"})
        with pytest.raises(Unavailable, match=r"TLS: .*other\.test.*check tls\.caFile, tls\.serverName"):
            wrong.open(soon())
        host = tls_bao.address.removeprefix("https://")
        assert {line.split()[1] for line in proxy.tunnels} == {host}
    with pytest.raises(Unavailable, match="the proxy: Connection refused"):
        make(tls_bao, key, proxy="http://127.0.0.1:9").open(soon())


def test_a_server_that_another_ca_signed_is_not_trusted(tls_bao: Bao, make: Make, pki: Pki, tmp_path: Path) -> None:
    key = tls_bao.key("ca")
    other = Authority.create(tmp_path / "other.crt")
    fields: dict[str, Any] = {"token": tls_bao.make_token(key)}
    with pytest.raises(Unavailable, match=r"TLS: .*check tls\.caFile"):
        make(tls_bao, key, tls={"caFile": str(other.file)}, **fields).open(soon())
    with pytest.raises(Unavailable, match=r"TLS: .*check tls\.caFile"):
        make(None, key, addresses=[tls_bao.address], **fields).open(soon())
    with pytest.raises(Unavailable, match=r"Could not find a suitable TLS CA certificate bundle.*none\.crt"):
        make(tls_bao, key, tls={"caFile": str(tmp_path / "none.crt")}, **fields).open(soon())


def test_http_and_https_mixed_up_is_told(bao: Bao, tls_bao: Bao, make: Make) -> None:
    with pytest.raises(Unavailable, match="check that the server speaks TLS"):
        make(None, token="t", addresses=[bao.address.replace("http:", "https:")]).open(soon())
    with pytest.raises(ConfigError, match="write https:// in the address"):
        make(None, token="t", addresses=[tls_bao.address.replace("https:", "http:")]).open(soon())


def test_the_environment_and_the_home_directory_are_not_read(
    bao: Bao, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bao.key("environment")
    (tmp_path / ".vault-token").write_text(bao.token)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    for name, value in {
        "HOME": str(tmp_path),
        "VAULT_TOKEN": bao.token,
        "VAULT_ADDR": "http://127.0.0.1:1",
        "VAULT_NAMESPACE": "nowhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    provider = make(bao, key, token=bao.make_token("default"))
    # Of the root token of the environment nothing is seen: the configured one may not do this.
    assert provider.open(soon()) == "transit/environment"
    with pytest.raises(PermissionDenied):
        provider.wrap(KEK, CONTEXT, None, soon())
