"""A listener that others can reach speaks TLS and asks for a token."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead.config import ConfigInvalid, load_text
from keystead.server.http import Closed, HttpServer, Page
from keystead.testing.certificates import Certificates

PAGES = {"/livez": lambda _query: Page(200, "ok\n"), "/metrics": lambda _query: Page(200, "up 1\n")}
TOKEN = "a token that is long"


class Site:
    """Certificates and a token in files, and a server with them."""

    def __init__(self, directory: Path) -> None:
        self.certificates = Certificates(directory)
        self.chain = directory / "served.pem"
        self.show("good")
        self.token = directory / "token"
        self.token.write_text(f"{TOKEN}\n")
        self.server = HttpServer.on_port("127.0.0.1", 0, PAGES, Closed(self.chain, self.chain, self.token))
        self.server.start()

    def show(self, kind: str) -> None:
        """Put another certificate in the place of the one that is shown."""
        self.certificates.server(kind)
        new = self.chain.with_suffix(".new")
        new.write_bytes((self.chain.parent / f"{kind}.pem").read_bytes())
        new.replace(self.chain)

    def get(self, path: str, authorization: str | None = None) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=self.certificates.ca_file)
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=10, context=context)
        try:
            connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.server.stop()


def test_whoever_bears_the_token_sees_the_metrics(site: Site) -> None:
    assert site.get("/metrics", f"Bearer {TOKEN}") == (200, "up 1\n")
    assert site.get("/metrics", f"bearer {TOKEN}") == (200, "up 1\n")


@pytest.mark.parametrize(
    "given", [None, TOKEN, "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"]
)
def test_nobody_else_does(site: Site, given: str | None) -> None:
    assert site.get("/metrics", given) == (401, "a bearer token is needed\n")


def test_a_kubelet_needs_no_token_to_see_that_the_process_lives(site: Site) -> None:
    assert site.get("/livez") == (200, "ok\n")


def test_a_new_token_counts_at_once_and_an_empty_or_missing_one_admits_nobody(site: Site) -> None:
    site.token.write_text("another")
    assert site.get("/metrics", f"Bearer {TOKEN}")[0] == 401
    assert site.get("/metrics", "Bearer another")[0] == 200
    site.token.write_text("")
    assert site.get("/metrics", "Bearer ")[0] == 401
    site.token.unlink()
    assert site.get("/metrics", "Bearer another")[0] == 401


def test_a_new_certificate_is_shown_to_the_next_connection(site: Site) -> None:
    site.show("expired")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        site.get("/livez")
    site.show("good")
    assert site.get("/livez")[0] == 200


def test_half_of_a_new_certificate_is_not_shown(site: Site) -> None:
    site.chain.write_text("half")
    assert site.get("/livez")[0] == 200
    site.show("good")
    assert site.get("/livez")[0] == 200


def test_plain_http_and_silent_connections_hold_up_nobody(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port)) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"200" not in plain.recv(1000)
    silent = [socket.create_connection(("127.0.0.1", site.server.port)) for _ in range(20)]
    try:
        assert site.get("/livez")[0] == 200
    finally:
        for one in silent:
            one.close()
    assert threading.active_count() < 100


def test_a_certificate_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        HttpServer.on_port("127.0.0.1", 0, PAGES, Closed(tmp_path / "none", tmp_path / "none", None))


@pytest.mark.parametrize(
    ("http_section", "refused"),
    [
        ({"address": "0.0.0.0:9853"}, True),
        ({"address": "0.0.0.0:9853", "tokenFile": "/t"}, True),
        ({"address": "10.0.0.1:9853", "tls": {"certFile": "/c", "keyFile": "/k"}}, True),
        ({"address": "10.0.0.1:9853", "tls": {"certFile": "/c", "keyFile": "/k"}, "tokenFile": "/t"}, False),
        ({"address": "127.0.0.1:9853", "tokenFile": "/t"}, False),
    ],
)
def test_an_address_that_others_can_reach_needs_both(http_section: dict[str, object], refused: bool) -> None:
    endpoint = {"name": "main", "socket": "unix:///run/keystead/kms.sock", "epoch": 1}
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "keys": [{"name": "lab", "provider": "local", "keyFile": "/etc/keystead/lab.key"}],
        "endpoints": [{**endpoint, "members": [{"key": "lab", "stage": "active"}]}],
        "observability": {"http": http_section},
    }
    if refused:
        with pytest.raises(ConfigInvalid, match="can be reached from other machines: give tls and tokenFile"):
            load_text(json.dumps(document), "test")
    else:
        assert load_text(json.dumps(document), "test").observability.http.address == http_section["address"]
