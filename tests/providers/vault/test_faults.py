"""What a real server does not do on demand, from a FAKE: redirects, dripping, HTML, ignored parameters, echoes."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    Misbehaved,
    PermissionDenied,
    ProviderError,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from keystead.providers._vault.answers import _BY_STATUS, _BY_TEXT
from keystead.providers.vault_transit import VaultTransitProvider
from providers.vault.fake import REQUEST_ID, TOKEN, FakeVault, Reply, Request, Script, data, errors, fake_vault
from providers.vault.given import CONTEXT, KEK, Make, soon
from support.patience import AT_ONCE, LATE

BLOB = b"vault:v1:" + base64.b64encode(KEK)


def redirect(to: str, status: int = 307) -> Reply:
    return Reply(status, b"", {"Location": f"{to}/v1/transit/decrypt/k"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_foreign_host_is_not_followed_and_the_token_does_not_go_there(make: Make, status: int) -> None:
    with fake_vault() as foreign, fake_vault(transit__decrypt__k=redirect(foreign.address, status)) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        with pytest.raises(Unavailable, match=f"redirects to {foreign.address}, which is not among the configured"):
            provider.unwrap(BLOB, CONTEXT, "1", soon())
        assert not foreign.seen


def test_a_redirect_to_a_configured_address_is_followed_with_method_body_and_token(make: Make) -> None:
    with fake_vault() as leader, fake_vault(transit__decrypt__k=redirect(leader.address)) as standby:
        provider = make(None, token=TOKEN, addresses=[standby.address, leader.address])
        provider.open(soon())
        assert provider.unwrap(BLOB, CONTEXT, "1", soon()) == KEK
        (asked,) = leader.asked("transit/decrypt/k")
        assert (asked.method, asked.headers["X-Vault-Token"]) == ("POST", TOKEN)
        assert asked.body == {
            "ciphertext": BLOB.decode(),
            "associated_data": base64.b64encode(CONTEXT.aad).decode(),
        }


def test_a_circle_of_redirects_ends(make: Make) -> None:
    with fake_vault() as one, fake_vault() as two:
        one.scripts["transit/decrypt/k"] = redirect(two.address)
        two.scripts["transit/decrypt/k"] = redirect(one.address)
        provider = make(None, token=TOKEN, addresses=[one.address, two.address])
        provider.open(soon())
        with pytest.raises(Unavailable, match="which was asked before"):
            provider.unwrap(BLOB, CONTEXT, "1", soon())
        assert len(one.asked("transit/decrypt/k")) == len(two.asked("transit/decrypt/k")) == 1


@pytest.mark.parametrize("location", ["", "//", "http://[", "ftp://a", "/v1/x", "\\\\x", "http://a:99999999"])
def test_a_redirect_to_nowhere_is_unavailable(make: Make, location: str) -> None:
    with fake_vault(transit__decrypt__k=Reply(307, b"", {"Location": location})) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        with pytest.raises(Unavailable, match=r"redirects to|not HTTP"):
            provider.unwrap(BLOB, CONTEXT, "1", soon())


def drip(chunks: list[bytes], vault: list[FakeVault]) -> Script:
    """Send the chunks over and over, each well within any time-out per read."""

    def script(_: Request, handler: BaseHTTPRequestHandler) -> None:
        try:
            for count in range(10_000):
                handler.wfile.write(chunks[min(count, len(chunks) - 1)])
                if vault[0].closing.wait(0.05):
                    return
        except OSError:
            pass

    return script


@pytest.mark.parametrize(
    "chunks",
    [
        [b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", b"z"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\n", b" "],
        [b"HTTP/1.1 100 Continue\r\n\r\n"],
    ],
    ids=["headers", "body", "chunks", "no length", "continue"],
)
def test_a_server_that_drips_costs_no_more_than_the_deadline(make: Make, chunks: list[bytes]) -> None:
    holder: list[FakeVault] = []
    with fake_vault(transit__decrypt__k=drip(chunks, holder)) as vault:
        holder.append(vault)
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"no complete answer within 0\.\d s"):
            provider.unwrap(BLOB, CONTEXT, "1", soon(0.6))
        assert time.monotonic() - start < 0.6 + LATE


def test_an_endless_answer_is_cut(make: Make) -> None:
    def script(_: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            for _part in range(100):
                handler.wfile.write(b" " * 65536)

    with fake_vault(transit__decrypt__k=script) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        with pytest.raises(Unavailable, match="more than 1048576 bytes"):
            provider.unwrap(BLOB, CONTEXT, "1", soon())


def test_a_connection_that_breaks_is_unavailable_and_the_next_call_works(make: Make) -> None:
    def script(_: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    with fake_vault(transit__decrypt__k=script) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        with pytest.raises(Unavailable, match="the connection broke"):
            provider.unwrap(BLOB, CONTEXT, "1", soon())
        del vault.scripts["transit/decrypt/k"]
        assert provider.unwrap(BLOB, CONTEXT, "1", soon()) == KEK


HTML = Reply(200, b"<html>Log in to the Wi-Fi</html>", {"Content-Type": "text/html"})
IGNORED = "Endpoint ignored these unrecognized parameters: [associated_data]"


def answer(values: dict[str, object], *warnings: str) -> Reply:
    return Reply(body={"request_id": REQUEST_ID, "data": values, "warnings": list(warnings) or None})


UNWRAPPING: dict[str, tuple[Reply, type[ProviderError], str]] = {
    "200 with HTML": (HTML, Unavailable, "something else than Vault or OpenBao answers there"),
    "200 with a JSON list": (Reply(200, b"[]"), Unavailable, "something else"),
    "200 with deep JSON": (Reply(200, b"[" * 100_000), Unavailable, "something else"),
    "200 without data": (Reply(), Misbehaved, "without a plaintext in base64"),
    "200 with data that is no object": (Reply(body={"data": [1]}), Misbehaved, "without a plaintext"),
    "a plaintext that is not base64": (data(plaintext="%%%"), Misbehaved, f"base64 .request_id {REQUEST_ID}."),
    "a plaintext with characters around base64": (data(plaintext="QUJD\nQUJD"), Misbehaved, "base64"),
    "a plaintext that is a number": (data(plaintext=7), Misbehaved, "without a plaintext"),
    "ignored associated_data": (
        answer({"plaintext": "QUJD"}, IGNORED),
        Misbehaved,
        f"ignored associated_data.*request_id {REQUEST_ID}",
    ),
    "another warning": (answer({"plaintext": "QUJD"}, "be careful"), Misbehaved, "with 1 warnings, where none"),
    "204": (Reply(204, b""), Misbehaved, "without a plaintext"),
    "202": (Reply(202), Misbehaved, "HTTP 202"),
    "400 nobody knows": (errors(400, "odd"), Misbehaved, "HTTP 400: odd"),
    "400 from a proxy": (Reply(400, b"Bad Request"), Unavailable, "HTTP 400: Bad Request .not JSON"),
    "401": (errors(401, "who are you"), Unauthenticated, "HTTP 401"),
    "404 from a proxy": (Reply(404, b"<html>"), Unavailable, "something else"),
    "404": (errors(404), KeyNotFound, "HTTP 404 .check mount, transitKey and namespace"),
    "408": (errors(408), Unavailable, "HTTP 408"),
    "412": (errors(412, "required index state not present"), Unavailable, "a replica that lags"),
    "413": (errors(413, "request body too large"), Misbehaved, "HTTP 413"),
    "429 without Retry-After": (errors(429, "rate limit quota exceeded"), Throttled, "HTTP 429"),
    "429 from a proxy": (Reply(429, b"slow down"), Throttled, "HTTP 429: slow down"),
    "472": (errors(472), Unavailable, "disaster-recovery secondary"),
    "473": (errors(473), Unavailable, "performance standby"),
    "500": (errors(500, "internal error"), Unavailable, "HTTP 500: internal error"),
    "500 of an old Vault for a wrong context": (
        errors(500, "cipher: message authentication failed"),
        InvalidCiphertext,
        "HTTP 500",
    ),
    "500 in an election": (
        errors(500, "local node not active but active cluster node not found"),
        Unavailable,
        "active cluster node not found",
    ),
    "502": (Reply(502, b"Bad Gateway"), Unavailable, "HTTP 502"),
    "503 sealed": (errors(503, "Vault is sealed"), Unavailable, "unseal the server"),
    "a version of the future": (errors(400, "invalid ciphertext: version is too new"), Unavailable, "rotation yet"),
    "a version of the past": (
        errors(400, "ciphertext or signature version is disallowed by policy (too old)"),
        KeyDisabled,
        "lower min_decryption_version",
    ),
}


@pytest.mark.parametrize("case", UNWRAPPING)
def test_an_answer_to_unwrap_becomes_its_class_of_error(make: Make, case: str) -> None:
    reply, error, text = UNWRAPPING[case]
    with fake_vault(transit__decrypt__k=reply) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        with pytest.raises(error, match=text) as caught:
            provider.unwrap(BLOB, CONTEXT, "1", soon())
        assert type(caught.value) is error
        assert len(vault.asked("transit/decrypt/k")) == 1, "a provider retries nothing"


TEXTS: dict[str, type[ProviderError]] = {
    "message authentication failed": InvalidCiphertext,
    "version is too new": Unavailable,
    "higher than the latest key version": Unavailable,
    "disallowed by policy (too old)": KeyDisabled,
    "less than the minimum encryption key version": KeyDisabled,
    "no such key version": KeyDisabled,
    "soft-deleted key": KeyDisabled,
    "encryption key not found": KeyNotFound,
    "no handler for route": KeyNotFound,
    "namespace not found": KeyNotFound,
    "invalid ciphertext": InvalidCiphertext,
    "missing 'context'": ConfigError,
    "non-AEAD cipher suite": ConfigError,
    "HTTP request to an HTTPS server": ConfigError,
    "is sealed": Unavailable,
}
STATUSES: dict[int, type[ProviderError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: KeyNotFound,
    408: Unavailable,
    412: Unavailable,
    429: Throttled,
    472: Unavailable,
    473: Unavailable,
    501: Unavailable,
}


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_of_the_server_has_its_class_whatever_the_status(make: Make, text: str) -> None:
    for status in (400, 500):
        with fake_vault(transit__decrypt__k=errors(status, f"1 error occurred: * {text} for a reason")) as vault:
            provider = make(vault, token=TOKEN)
            provider.open(soon())
            with pytest.raises(TEXTS[text], match=re.escape(text)) as caught:
                provider.unwrap(BLOB, CONTEXT, "1", soon())
            assert type(caught.value) is TEXTS[text]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "30"}], ids=["plain", "retry-after"])
def test_each_status_has_its_class_and_is_answered_at_once(make: Make, status: int, headers: dict[str, str]) -> None:
    with fake_vault(transit__decrypt__k=Reply(status, {"errors": ["because"]}, headers)) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        start = time.monotonic()
        with pytest.raises(STATUSES[status], match=f"HTTP {status}: because") as caught:
            provider.unwrap(BLOB, CONTEXT, "1", soon())
        assert type(caught.value) is STATUSES[status]
        assert time.monotonic() - start < AT_ONCE


def test_every_text_and_status_that_is_told_apart_has_a_test() -> None:
    assert [text for text, _, _ in _BY_TEXT] == list(TEXTS)
    assert _BY_STATUS.keys() == STATUSES.keys()


WRAPPING: dict[str, Reply] = {
    "no ciphertext": data(key_version=1),
    "no version": data(ciphertext="vault:v1:QUJD"),
    "a version that is text": data(ciphertext="vault:v1:QUJD", key_version="1"),
    "a version that the ciphertext denies": data(ciphertext="vault:v1:QUJD", key_version=2),
    "a ciphertext of another form": data(ciphertext="v1:QUJD", key_version=1),
    "ignored associated_data": answer({"ciphertext": "vault:v1:QUJD", "key_version": 1}, IGNORED),
}


@pytest.mark.parametrize("case", WRAPPING)
def test_an_answer_to_wrap_that_cannot_be_right_is_misbehaviour(make: Make, case: str) -> None:
    with fake_vault(transit__encrypt__k=WRAPPING[case]) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        with pytest.raises(Misbehaved, match=f"POST transit/encrypt/k at .*request_id {REQUEST_ID}"):
            provider.wrap(KEK, CONTEXT, None, soon())


def test_a_version_other_than_the_one_asked_for_is_said_in_the_answer(make: Make) -> None:
    with fake_vault(transit__encrypt__k=data(ciphertext="vault:v7:QUJD", key_version=7)) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        assert provider.wrap(KEK, CONTEXT, "3", soon()).version == "7"
        (asked,) = vault.asked("transit/encrypt/k")
        assert asked.body["key_version"] == 3


def test_a_latest_version_below_the_minimum_is_a_replica_that_lags(make: Make) -> None:
    with fake_vault() as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        vault.scripts["transit/keys/k"] = data(
            type="aes256-gcm96", derived=False, latest_version=2, min_encryption_version=3
        )
        with pytest.raises(Unavailable, match="latest_version 2 is below min_encryption_version 3"):
            provider.current_version(soon())


@pytest.mark.parametrize(
    ("health", "namespace", "text"),
    [
        ({"version": "1.21.4", "enterprise": False}, "team", "has no namespaces and would use the root"),
        ({"version": "1.14.0"}, "team", "has no namespaces"),
        ({"version": "2.2.1"}, "team", "has no namespaces"),
        ({"version": "1.12.8", "enterprise": True}, None, "needs Vault 1.13 or OpenBao"),
        ({"version": "1.21.4", "enterprise": False}, None, None),
        ({"version": "1.21.4+ent", "enterprise": True}, "team", None),
        ({"version": "1.13.0+ent"}, "team", None),
        ({"version": "2.3.0"}, "team", None),
        ({"version": "unknown"}, None, None),
        ({}, None, None),
    ],
)
def test_a_server_that_would_ignore_the_namespace_or_the_context_is_refused(
    make: Make, health: dict[str, object], namespace: str | None, text: str | None
) -> None:
    with fake_vault(sys__health=Reply(body=health)) as vault:
        provider = make(vault, token=TOKEN, namespace=namespace)
        if text is None:
            provider.open(soon())
            assert all(
                request.headers.get("X-Vault-Namespace") == namespace for request in vault.asked("transit/keys/k")
            )
        else:
            with pytest.raises(ConfigError, match=text):
                provider.open(soon())
            assert not vault.asked("transit/keys/k")
        assert "X-Vault-Namespace" not in vault.asked("sys/health")[0].headers
        assert "X-Vault-Token" not in vault.asked("sys/health")[0].headers


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_health_page_that_is_kept_closed_does_not_matter(make: Make, status: int) -> None:
    with fake_vault(sys__health=errors(status, "closed")) as vault:
        assert make(vault, token=TOKEN).open(soon()) == "transit/k"


OPERATIONS: dict[str, Callable[[VaultTransitProvider], object]] = {
    "transit/decrypt/k": lambda provider: provider.unwrap(BLOB, CONTEXT, "1", soon()),
    "transit/encrypt/k": lambda provider: provider.wrap(KEK, CONTEXT, None, soon()),
    "transit/keys/k": lambda provider: provider._key(soon()),
}


@pytest.mark.parametrize("path", OPERATIONS)
@pytest.mark.parametrize("status", [200, 400, 403, 404, 500])
def test_no_secret_is_in_an_error_even_if_the_server_repeats_what_it_was_sent(
    make: Make, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(request: Request, _: BaseHTTPRequestHandler) -> Reply:
        said = [*request.headers.values(), *map(str, request.body.values()), TOKEN[2:]]
        return Reply(status, {"request_id": TOKEN, "errors": said, "warnings": said, "data": {"type": TOKEN}})

    caplog.set_level(logging.DEBUG)
    with fake_vault(**{"auth/token/lookup-self": errors(403)}) as vault:
        provider = make(vault, token=TOKEN)
        provider.open(soon())
        vault.scripts[path] = echo
        with pytest.raises(ProviderError) as caught:
            OPERATIONS[path](provider)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value.__context__)
    for secret in (TOKEN, TOKEN[2:], BLOB[9:].decode(), base64.b64encode(CONTEXT.aad).decode(), KEK.hex()):
        assert secret not in shown


def test_a_login_that_repeats_the_secret_id_does_not_show_it(make: Make, tmp_path: Path) -> None:
    def echo(request: Request, _: BaseHTTPRequestHandler) -> Reply:
        return errors(400, f"no role {request.body['role_id']} with secret {request.body['secret_id']}")

    (tmp_path / "role").write_text("canary-role")
    (tmp_path / "secret").write_text("canary-secret")
    with fake_vault(auth__approle__login=echo) as vault:
        auth = {"method": "approle", "roleIDFile": str(tmp_path / "role"), "secretIDFile": str(tmp_path / "secret")}
        with pytest.raises(Unauthenticated, match=r"HTTP 400: no role \[removed\] with secret \[removed\]") as caught:
            make(vault, auth=auth).open(soon())
        assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_token_that_is_no_header_is_refused_before_it_is_sent(make: Make, tmp_path: Path) -> None:
    login = Reply(body={"auth": {"client_token": "s.canary\r\nX: y", "lease_duration": 60}, "request_id": REQUEST_ID})
    (tmp_path / "jwt").write_text("a.b.c")
    with fake_vault(auth__jwt__login=login) as vault:
        auth = {"method": "jwt", "role": "r", "jwtFile": str(tmp_path / "jwt")}
        with pytest.raises(Misbehaved, match="answered without a token") as caught:
            make(vault, auth=auth).open(soon())
        assert "canary" not in str(caught.value)
