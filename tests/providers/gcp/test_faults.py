"""Each fault becomes its class of error, within its time: Google's SDK against the fake, over both transports."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest

from keystead.provider import (
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
from keystead.providers._gcp.answers import _BY_HTTP, _BY_STATUS
from providers.gcp.fake import KEY, Fault
from providers.gcp.given import CONTEXT, KEK, Make, Served, soon
from support.patience import AT_ONCE, LATE

"""Seconds after the deadline that an error may come, on a busy machine."""


def unwrap_error(make: Make, served: Served, fault: Fault, seconds: float) -> tuple[ProviderError, float, int]:
    """The error of an unwrap with a fault, after how many seconds, and how often the service was called."""
    provider = make(served)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    served.kms.faults.append(dataclasses.replace(fault))
    start = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        provider.unwrap(blob, CONTEXT, "1", start + seconds)
    return caught.value, time.monotonic() - start, served.kms.count("Decrypt")


API_OFF = "Cloud KMS API has not been used in project 1 before or it is disabled."
STATUSES: dict[str, tuple[Fault, type[ProviderError], str]] = {
    "unavailable": (Fault(status="UNAVAILABLE"), Unavailable, "UNAVAILABLE: injected"),
    "internal": (Fault(status="INTERNAL"), Unavailable, "INTERNAL: injected"),
    "aborted": (Fault(status="ABORTED"), Unavailable, "ABORTED: injected"),
    "unknown": (Fault(status="UNKNOWN"), Unavailable, "UNKNOWN: injected"),
    "cancelled": (Fault(status="CANCELLED"), Unavailable, "CANCELLED: injected"),
    "deadline": (Fault(status="DEADLINE_EXCEEDED"), Unavailable, "DEADLINE_EXCEEDED: injected|no complete answer"),
    "throttled": (Fault(status="RESOURCE_EXHAUSTED", text="Quota exceeded for quota metric"), Throttled, "Quota exc"),
    "unauthenticated": (Fault(status="UNAUTHENTICATED"), Unauthenticated, "check credentialsFile"),
    "denied": (Fault(status="PERMISSION_DENIED"), PermissionDenied, "PERMISSION_DENIED: injected"),
    "not found": (Fault(status="NOT_FOUND"), KeyNotFound, "NOT_FOUND: injected"),
    "precondition": (Fault(status="FAILED_PRECONDITION"), KeyDisabled, "FAILED_PRECONDITION: injected"),
    "api off": (Fault(status="FAILED_PRECONDITION", text=API_OFF), PermissionDenied, "API has not been used"),
    "invalid": (Fault(status="INVALID_ARGUMENT"), InvalidCiphertext, "another key or context"),
    "unimplemented": (Fault(status="UNIMPLEMENTED"), Misbehaved, "UNIMPLEMENTED: injected"),
}


@pytest.mark.parametrize("case", STATUSES)
def test_a_status_becomes_its_class_of_error_at_once_and_is_not_retried(make: Make, served: Served, case: str) -> None:
    fault, error, text = STATUSES[case]
    caught, seconds, calls = unwrap_error(make, served, fault, 5.0)
    assert type(caught) is error
    assert f"Decrypt {KEY} at {served.endpoint}" in str(caught)
    assert any(part in str(caught) for part in text.split("|")), str(caught)
    assert seconds < AT_ONCE
    assert calls == 1, "a provider retries nothing"


CODES: dict[int, type[ProviderError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: KeyNotFound,
    408: Unavailable,
    429: Throttled,
    499: Unavailable,
    504: Unavailable,
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("served", ["rest"], indirect=True)
def test_each_code_without_a_status_has_its_class(make: Make, served: Served, code: int) -> None:
    fault = Fault(raw=b'{"error": {"message": "because"}}', http_code=code, method="Decrypt", times=3)
    caught, _, _ = unwrap_error(make, served, fault, 5.0)
    assert type(caught) is CODES[code]
    assert "because" in str(caught)


def test_every_status_and_code_that_is_told_apart_has_a_test() -> None:
    assert {fault.status for fault, _, _ in STATUSES.values()} == {*_BY_STATUS, "INVALID_ARGUMENT", "UNIMPLEMENTED"}
    assert _BY_HTTP.keys() == CODES.keys()


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_a_service_that_hangs_costs_the_deadline_and_no_more(make: Make, served: Served, seconds: float) -> None:
    caught, took, calls = unwrap_error(make, served, Fault("Decrypt", hang=True), seconds)
    assert type(caught) is Unavailable
    assert "no complete answer within" in str(caught)
    assert seconds - 0.05 <= took < seconds + LATE
    assert calls == 1


def test_a_service_that_hangs_holds_opening_and_looking_no_longer_than_the_deadline(make: Make, served: Served) -> None:
    provider = make(served)
    served.kms.faults.append(Fault("GetCryptoKey", hang=True, times=9))
    for call in (provider.open, provider.current_version):
        start = time.monotonic()
        with pytest.raises(Unavailable):
            call(start + 0.4)
        assert time.monotonic() - start < 0.4 + LATE
    served.kms.faults.clear()
    assert provider.open(soon()) == KEY


def test_a_deadline_that_is_over_asks_nobody(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    with pytest.raises(Unavailable, match="no time left"):
        provider.unwrap(b"x", CONTEXT, "1", time.monotonic() - 1)
    assert served.kms.count("Decrypt") == 0


def flip(name: str) -> Callable[[Any], None]:
    def change(answer: Any) -> None:
        value = getattr(answer, name)
        setattr(answer, name, bytes([value[0] ^ 1]) + value[1:])

    return change


def set_to(name: str, value: object) -> Callable[[Any], None]:
    return lambda answer: setattr(answer, name, value)


def without(name: str) -> Callable[[Any], None]:
    return lambda answer: answer.ClearField(name)


MISMATCH = "The checksum in field {}_crc32c did not match the data in field {}."
DAMAGED: dict[str, tuple[Fault, str]] = {
    "ciphertext": (Fault("Encrypt", change=flip("ciphertext")), "a ciphertext that does not match its checksum"),
    "no checksum of the ciphertext": (
        Fault("Encrypt", change=without("ciphertext_crc32c")),
        "a ciphertext that does not match its checksum",
    ),
    "checksum of the plaintext unseen": (
        Fault("Encrypt", change=set_to("verified_plaintext_crc32c", value=False)),
        "did not see the checksums of the request",
    ),
    "checksum of the context unseen": (
        Fault("Encrypt", change=set_to("verified_additional_authenticated_data_crc32c", value=False)),
        "did not see the checksums of the request",
    ),
    "sent plaintext": (
        Fault("Encrypt", status="INVALID_ARGUMENT", text=MISMATCH.format("plaintext", "plaintext")),
        "that a checksum of the request did not match",
    ),
    "plaintext": (Fault("Decrypt", change=flip("plaintext")), "a plaintext that does not match its checksum"),
    "no checksum of the plaintext": (
        Fault("Decrypt", change=without("plaintext_crc32c")),
        "a plaintext that does not match its checksum",
    ),
    "sent ciphertext": (
        Fault("Decrypt", status="INVALID_ARGUMENT", text=MISMATCH.format("ciphertext", "ciphertext")),
        "that a checksum of the request did not match",
    ),
}


def wrap_and_unwrap(make: Make, served: Served, fault: Fault, times: int) -> bytes | bytearray:
    provider = make(served)
    provider.open(soon())
    served.kms.faults.append(dataclasses.replace(fault, times=times))
    wrapped = provider.wrap(KEK, CONTEXT, "1", soon())
    return provider.unwrap(wrapped.blob, CONTEXT, "1", soon())


@pytest.mark.parametrize("case", DAMAGED)
def test_a_bit_that_flips_once_costs_a_second_call(make: Make, served: Served, case: str) -> None:
    fault, _ = DAMAGED[case]
    assert wrap_and_unwrap(make, served, fault, times=1) == KEK
    assert served.kms.count(fault.method) == 2


@pytest.mark.parametrize("case", DAMAGED)
def test_bits_that_flip_twice_are_misbehaviour_and_never_an_answer(make: Make, served: Served, case: str) -> None:
    fault, text = DAMAGED[case]
    with pytest.raises(Misbehaved, match=f"{fault.method} {KEY}.* answered .*{text}, twice"):
        wrap_and_unwrap(make, served, fault, times=9)
    assert served.kms.count(fault.method) == 2


OTHER = KEY.replace("k8s", "other") + "/cryptoKeyVersions/1"
NAMES: dict[str, str] = {
    "another key": OTHER,
    "a key that ours begins": KEY + "2/cryptoKeyVersions/1",
    "no version": KEY,
    "no number": KEY + "/cryptoKeyVersions/latest",
    "no name": "",
    "more than a version": KEY + "/cryptoKeyVersions/1/x",
}


@pytest.mark.parametrize("case", NAMES)
def test_a_wrap_by_another_key_is_misbehaviour(make: Make, served: Served, case: str) -> None:
    provider = make(served)
    provider.open(soon())
    served.kms.faults.append(Fault("Encrypt", change=set_to("name", NAMES[case])))
    with pytest.raises(Misbehaved, match=KEY):
        provider.wrap(KEK, CONTEXT, "1", soon())


def test_a_wrap_by_another_version_than_asked_for_names_the_one_that_made_it(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    served.kms.faults.append(Fault("Encrypt", change=set_to("name", KEY + "/cryptoKeyVersions/7")))
    assert provider.wrap(KEK, CONTEXT, "1", soon()).version == "7"


def test_an_answer_about_another_key_fails_opening(make: Make, served: Served) -> None:
    served.kms.faults.append(Fault("GetCryptoKey", change=set_to("name", OTHER)))
    with pytest.raises(Misbehaved, match="answered about"):
        make(served).open(soon())


HTML = b"<html>Log in to the Wi-Fi</html>"
NOT_KMS: dict[str, tuple[Fault, type[ProviderError], str]] = {
    "200 with HTML": (Fault(raw=HTML), Unavailable, "the answer is not one of Cloud KMS"),
    "200 with a list": (Fault(raw=b"[1]"), Unavailable, "the answer is not one of Cloud KMS"),
    "200 with deep JSON": (Fault(raw=b"[" * 100_000), Unavailable, "the answer is not one of Cloud KMS"),
    "200 with another object": (Fault(raw=b"{}"), Misbehaved, "a plaintext that does not match its checksum"),
    "307": (Fault(raw=b" ", http_code=307), Unavailable, "redirects, which is not followed"),
    "403 with HTML": (Fault(raw=HTML, http_code=403), Unavailable, "HTTP 403, not from Cloud KMS: <html>"),
    "502 with HTML": (Fault(raw=HTML, http_code=502), Unavailable, "HTTP 502, not from Cloud KMS: <html>"),
    "401 without a status": (Fault(raw=b'{"error": {}}', http_code=401), Unauthenticated, "UNAUTHENTICATED"),
    "error that is text": (Fault(raw=b'{"error": "no"}', http_code=400), Unavailable, "not one of Cloud KMS"),
}


@pytest.mark.parametrize("case", NOT_KMS)
@pytest.mark.parametrize("served", ["rest"], indirect=True)
def test_something_else_that_answers_in_place_of_the_service_is_told_apart(
    make: Make, served: Served, case: str
) -> None:
    fault, error, text = NOT_KMS[case]
    caught, _, _ = unwrap_error(make, served, dataclasses.replace(fault, method="Decrypt", times=3), 5.0)
    assert type(caught) is error
    assert text in str(caught)
