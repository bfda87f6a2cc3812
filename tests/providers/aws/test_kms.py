"""Wrapping and unwrapping by boto3 against a FAKE of KMS, and what KMS refuses."""

from __future__ import annotations

import base64
import socket
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from keystead.provider import (
    ConfigError,
    InvalidCiphertext,
    KeyDisabled,
    KeyNotFound,
    PermissionDenied,
    ProviderError,
    Throttled,
    Unauthenticated,
    Unavailable,
    WrapContext,
)
from keystead.providers._aws.answers import _BY_CODE
from providers.aws.fake import REQUEST_ID, FakeAws, Reply, Request, refused
from providers.aws.given import CONTEXT, KEK, Make, soon


def test_what_is_wrapped_unwraps_and_the_ref_names_the_key(aws: FakeAws, make: Make) -> None:
    key = aws.new_key()
    provider = make(aws, key)
    assert provider.open(soon()) == key.arn("eu-west-1")
    assert provider.current_version(soon()) == ""
    wrapped = provider.wrap(KEK, CONTEXT, "", soon())
    assert wrapped.version == ""
    unwrapped = provider.unwrap(wrapped.blob, CONTEXT, "", soon())
    assert type(unwrapped) is bytearray
    assert unwrapped == KEK
    assert KEK not in wrapped.blob
    assert 1 <= len(wrapped.blob) <= provider.capabilities.max_blob


def test_the_context_goes_as_encryption_context_and_decrypt_names_the_key(aws: FakeAws, make: Make) -> None:
    key = aws.new_key()
    provider = make(aws, key)
    provider.open(soon())
    provider.unwrap(provider.wrap(KEK, CONTEXT, None, soon()).blob, CONTEXT, "", soon())
    context = {"keystead:v": "1", "keystead:kek": bytes(range(32)).hex(), "keystead:cluster": "lab"}
    for operation in ("Encrypt", "Decrypt"):
        (request,) = aws.asked(operation)
        assert request.body["EncryptionContext"] == context
        assert request.body["KeyId"] == key.arn("eu-west-1")


@pytest.mark.parametrize("context", [WrapContext(bytes(32), "lab"), WrapContext(CONTEXT.kek_id, "other")])
def test_a_wrap_does_not_open_with_another_context(aws: FakeAws, make: Make, context: WrapContext) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    wrapped = provider.wrap(KEK, CONTEXT, None, soon())
    with pytest.raises(InvalidCiphertext, match=rf"InvalidCiphertextException \(damaged.*{REQUEST_ID}"):
        provider.unwrap(wrapped.blob, context, "", soon())


def test_damaged_and_foreign_bytes_are_refused(aws: FakeAws, make: Make) -> None:
    provider, other = make(aws, aws.new_key()), make(aws, aws.new_key())
    provider.open(soon())
    other.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    flipped = [blob[:i] + bytes([blob[i] ^ 1]) + blob[i + 1 :] for i in (0, 30, 124, 140, len(blob) - 1)]
    for bad in [*flipped, blob[:-1], blob + b"\0", b"", b"x", bytes(1025)]:
        with pytest.raises(InvalidCiphertext):
            provider.unwrap(bad, CONTEXT, "", soon())
    with pytest.raises(InvalidCiphertext, match=r"IncorrectKeyException.*wrapped with another key"):
        provider.unwrap(other.wrap(KEK, CONTEXT, None, soon()).blob, CONTEXT, "", soon())
    with pytest.raises(InvalidCiphertext, match="not what a key of AWS KMS wrapped"):
        provider.unwrap(blob, CONTEXT, "1", soon())


def test_a_version_is_refused_since_keys_have_none(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    with pytest.raises(ConfigError, match="have no versions"):
        provider.wrap(KEK, CONTEXT, "1", soon())


STATES = {
    "Disabled": (KeyDisabled, KeyDisabled, "DisabledException"),
    "PendingDeletion": (KeyDisabled, KeyDisabled, "KMSInvalidStateException"),
    "PendingReplicaDeletion": (KeyDisabled, KeyDisabled, "KMSInvalidStateException"),
    "PendingImport": (KeyDisabled, KeyDisabled, "KMSInvalidStateException"),
    "Creating": (Unavailable, KeyDisabled, "KMSInvalidStateException"),
    "Unavailable": (Unavailable, KeyDisabled, "KMSInvalidStateException"),
    "Enabled": (None, None, ""),
    "Updating": (None, None, ""),
}


@pytest.mark.parametrize("state", STATES)
def test_the_state_of_a_key_shows_at_open_and_at_each_call(aws: FakeAws, make: Make, state: str) -> None:
    at_open, at_call, text = STATES[state]
    key = aws.new_key()
    provider = make(aws, key)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
    key.states["eu-west-1"] = state
    if at_open is None:
        assert make(aws, key).open(soon())
    else:
        with pytest.raises(at_open, match=f"state is {state}"):
            make(aws, key).open(soon())
    for call in (
        lambda: provider.wrap(KEK, CONTEXT, None, soon()),
        lambda: provider.unwrap(blob, CONTEXT, "", soon()),
    ):
        if at_call is None:
            assert call()
        else:
            with pytest.raises(at_call, match=rf"{text}: {key.arn('eu-west-1')}"):
                call()


@pytest.mark.parametrize(
    ("usage", "spec"),
    [("SIGN_VERIFY", "RSA_2048"), ("ENCRYPT_DECRYPT", "RSA_4096"), ("GENERATE_VERIFY_MAC", "HMAC_256")],
)
def test_a_key_of_the_wrong_kind_is_a_fault_of_the_configuration(
    aws: FakeAws, make: Make, usage: str, spec: str
) -> None:
    with pytest.raises(ConfigError, match=f"KeyUsage {usage} and KeySpec {spec}: create one with"):
        make(aws, aws.new_key(usage=usage, spec=spec)).open(soon())


def test_the_right_to_describe_the_key_is_not_needed(aws: FakeAws, make: Make) -> None:
    aws.scripts["DescribeKey"] = refused("AccessDeniedException", "not authorized to perform: kms:DescribeKey")
    key = aws.new_key()
    provider = make(aws, key)
    assert provider.open(soon()) == key.arn("eu-west-1")
    assert provider.unwrap(provider.wrap(KEK, CONTEXT, None, soon()).blob, CONTEXT, "", soon()) == KEK


def test_a_key_of_another_region_or_account_is_not_found(aws: FakeAws, make: Make) -> None:
    key = aws.new_key()
    for arn in (key.arn("eu-north-1"), key.arn("eu-west-1").replace("111122223333", "444455556666")):
        with pytest.raises((KeyNotFound, Unauthenticated), match=r"NotFoundException|InvalidSignature"):
            make(aws, arn).open(soon())


def test_one_provider_serves_many_threads(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    failures: list[BaseException] = []
    done: list[int] = []

    def work(number: int) -> None:
        kek = bytes([number]) * 32
        try:
            for _ in range(10):
                blob = provider.wrap(kek, CONTEXT, None, soon(30)).blob
                assert provider.unwrap(blob, CONTEXT, "", soon(30)) == kek
                done.append(number)
        except BaseException as exc:  # noqa: BLE001  # a thread's failure is the test's
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(done) == 80


def test_a_connection_that_the_server_closed_while_it_was_idle_is_replaced(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    closed = threading.Event()

    def answer_and_close(request: Request, handler: BaseHTTPRequestHandler) -> Reply:
        handler.close_connection = True  # without a word in the answer
        finish = handler.finish

        def finish_and_close() -> None:
            finish()
            handler.connection.shutdown(socket.SHUT_RDWR)
            closed.set()

        handler.finish = finish_and_close  # type: ignore[method-assign]
        return Reply(body=aws._kms(request))

    aws.scripts["Encrypt"] = answer_and_close
    for _ in range(3):
        closed.clear()
        blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
        assert closed.wait(10.0)
        assert provider.unwrap(blob, CONTEXT, "", soon()) == KEK


def test_calls_before_open_and_after_close_are_unavailable(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.close()
    with pytest.raises(Unavailable, match="not open"):
        provider.wrap(KEK, CONTEXT, None, soon())
    provider.open(soon())
    provider.close()
    provider.close()
    with pytest.raises(Unavailable, match="not open"):
        provider.unwrap(b"x", CONTEXT, "", soon())


CODES: dict[str, type[ProviderError]] = {
    "ThrottlingException": Throttled,
    "Throttling": Throttled,
    "ThrottledException": Throttled,
    "RequestThrottled": Throttled,
    "RequestLimitExceeded": Throttled,
    "LimitExceededException": Throttled,
    "TooManyRequestsException": Throttled,
    "AccessDeniedException": PermissionDenied,
    "AccessDenied": PermissionDenied,
    "UnauthorizedOperation": PermissionDenied,
    "OptInRequired": PermissionDenied,
    "ExpiredTokenException": Unauthenticated,
    "ExpiredToken": Unauthenticated,
    "TokenRefreshRequired": Unauthenticated,
    "InvalidToken": Unauthenticated,
    "RequestTimeTooSkewed": Unauthenticated,
    "UnrecognizedClientException": Unauthenticated,
    "InvalidClientTokenId": Unauthenticated,
    "InvalidSignatureException": Unauthenticated,
    "SignatureDoesNotMatch": Unauthenticated,
    "IncompleteSignature": Unauthenticated,
    "MissingAuthenticationTokenException": Unauthenticated,
    "RequestExpired": Unauthenticated,
    "NotFoundException": KeyNotFound,
    "DisabledException": KeyDisabled,
    "KMSInvalidStateException": KeyDisabled,
    "InvalidCiphertextException": InvalidCiphertext,
    "IncorrectKeyException": InvalidCiphertext,
    "InvalidKeyUsageException": ConfigError,
    "InvalidArnException": ConfigError,
    "ValidationException": ConfigError,
    "UnsupportedOperationException": ConfigError,
    "KMSInternalException": Unavailable,
    "KeyUnavailableException": Unavailable,
    "DependencyTimeoutException": Unavailable,
    "InternalFailure": Unavailable,
    "InternalError": Unavailable,
    "InternalServerError": Unavailable,
    "RequestTimeout": Unavailable,
    "RequestTimeoutException": Unavailable,
    "IDPCommunicationError": Unavailable,
    "ServiceUnavailableException": Unavailable,
}


@pytest.mark.parametrize("code", CODES)
def test_each_code_of_aws_has_its_class(aws: FakeAws, make: Make, code: str) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    aws.scripts["Decrypt"] = refused(code, "because")
    with pytest.raises(ProviderError, match=rf"Decrypt at 127\.0\.0\.1:\d+: {code}: because.*\[RequestId") as caught:
        provider.unwrap(b"x", CONTEXT, "", soon())
    assert type(caught.value) is CODES[code]
    assert len(aws.asked("Decrypt")) == 1, "a provider retries nothing"


def test_every_code_that_is_told_apart_has_a_test() -> None:
    tested = {code for code in _BY_CODE if code in CODES or f"{code}Exception" in CODES}
    assert _BY_CODE.keys() - tested == {"429"}, "that one is a status, and in test_faults"
    assert len(tested) > 30


def test_the_plaintext_goes_to_the_server_as_base64_and_nowhere_else(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    provider.wrap(KEK, CONTEXT, None, soon())
    (request,) = aws.asked("Encrypt")
    assert request.body["Plaintext"] == base64.b64encode(KEK).decode()
    assert base64.b64encode(KEK).decode() not in str(request.headers)
