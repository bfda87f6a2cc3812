"""No plaintext, ciphertext, context or token in an error or a log, not even if the service repeats them."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from keystead.provider import ProviderError
from providers.gcp.fake import KEY, TOKEN, Fault
from providers.gcp.given import CONTEXT, KEK, Make, Served, soon

CANARY = b"canary-plaintext-of-32-bytes-abc"
JWT = ".".join(base64.urlsafe_b64encode(part * 20).decode().rstrip("=") for part in (b'{"alg":', b'{"iss":', b"sign"))


def spellings(secret: bytes) -> set[str]:
    standard, url = base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()
    return {repr(secret)[2:-1], secret.hex(), standard, standard.rstrip("="), url, secret.decode("latin-1")}


def assert_none_in(text: str, *secrets: bytes) -> None:
    for secret in secrets:
        for spelling in spellings(secret):
            assert spelling not in text, spelling


STATUSES = ["INVALID_ARGUMENT", "INTERNAL", "PERMISSION_DENIED", "FAILED_PRECONDITION", "UNIMPLEMENTED"]


@pytest.mark.parametrize("status", STATUSES)
def test_a_service_that_repeats_a_request_in_its_refusal_shows_nothing(
    make: Make, served: Served, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = make(served)
    provider.open(soon())
    blob = provider.wrap(CANARY, CONTEXT, "1", soon()).blob
    calls: dict[str, Callable[[], object]] = {}
    calls["Encrypt"] = lambda: provider.wrap(CANARY, CONTEXT, "1", soon())
    calls["Decrypt"] = lambda: provider.unwrap(blob, CONTEXT, "1", soon())
    checked = 0
    for method, sent in (("Encrypt", CANARY), ("Decrypt", blob)):
        secrets = (sent, CONTEXT.aad, TOKEN.encode(), JWT.encode())
        echo = " ".join(text for secret in secrets for text in sorted(spellings(secret)))
        served.kms.faults.append(Fault(method, status=status, text=f"begin {echo} about {KEY} end"))
        with pytest.raises(ProviderError, match=r"begin .*\[removed\]") as caught:
            calls[method]()
        logged = "".join(str(vars(record)) for record in caplog.records)
        for text in (str(caught.value), "".join(traceback.format_exception(caught.value)), caplog.text, logged):
            assert_none_in(text, *secrets)
            checked += 1
    assert checked == 8


def test_calls_that_succeed_log_nothing_secret_at_any_level(
    make: Make, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("google").setLevel(logging.DEBUG)
    try:
        provider = make(served)
        provider.open(soon())
        blob = provider.wrap(CANARY, CONTEXT, "1", soon()).blob
        provider.unwrap(blob, CONTEXT, "1", soon())
    finally:
        logging.getLogger("google").setLevel(logging.NOTSET)
    assert_none_in("".join(str(vars(record)) for record in caplog.records), CANARY, blob, CONTEXT.aad, TOKEN.encode())


def test_no_representation_shows_a_token_or_a_key(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    provider.wrap(KEK, CONTEXT, "1", soon())
    service = provider._service
    assert service is not None
    assert_none_in(repr((provider, vars(provider), vars(service), vars(service._tokens))), KEK, TOKEN.encode())


def test_a_credentials_file_that_is_wrong_is_named_and_not_shown(make: Make, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    contents = {
        "not JSON": CANARY,
        "no object": b'"' + CANARY + b'"',
        "no type": b'{"private_key": "' + CANARY + b'"}',
        "no key": b'{"type": "service_account", "private_key": "'
        + CANARY
        + b'", "client_email": "a", "token_uri": "b"}',
        "a user": b'{"type": "authorized_user", "refresh_token": "' + CANARY + b'"}',
        "a program": b'{"type": "external_account", "credential_source": {"executable": {"command": "'
        + CANARY
        + b'"}}}',
    }
    for content in contents.values():
        file.write_bytes(content)
        with pytest.raises(ProviderError, match=str(file)) as caught:
            make(served, credentialsFile=str(file)).open(soon())
        assert_none_in("".join(traceback.format_exception(caught.value)), CANARY)
