"""Every error becomes its gRPC code and a short text; what nobody foresaw becomes INTERNAL without its text."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

from keystead import errors
from keystead.server.codes import TEMPORARY_HINT
from keystead.server.listener import Listener
from keystead.server.metrics import Metrics
from keystead.server.services import Remaining
from support.serving import Client, short_directory

DECRYPT = "/v2.KeyManagementService/Decrypt"
CANARY = "canary-5e8f"
HINT = "do not delete objects"

EXPECTED = [
    (errors.MalformedRequest, StatusCode.INVALID_ARGUMENT),
    (errors.NotAuthentic, StatusCode.DATA_LOSS),
    (errors.InvalidCiphertext, StatusCode.DATA_LOSS),
    (errors.NoConfiguredMember, StatusCode.FAILED_PRECONDITION),
    (errors.ClusterNotAccepted, StatusCode.FAILED_PRECONDITION),
    (errors.KeyNotFound, StatusCode.FAILED_PRECONDITION),
    (errors.KeyDisabled, StatusCode.FAILED_PRECONDITION),
    (errors.ConfigError, StatusCode.FAILED_PRECONDITION),
    (errors.PermissionDenied, StatusCode.PERMISSION_DENIED),
    (errors.Unauthenticated, StatusCode.UNAUTHENTICATED),
    (errors.Throttled, StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, StatusCode.UNAVAILABLE),
    (errors.TimedOut, StatusCode.UNAVAILABLE),
    (errors.Overloaded, StatusCode.UNAVAILABLE),
    (errors.NotReady, StatusCode.UNAVAILABLE),
    (errors.Misbehaved, StatusCode.INTERNAL),
    (errors.Unsafe, StatusCode.INTERNAL),
]


class Panic(BaseException):
    """What a panic in the Rust core looks like: pyo3's exception is no `Exception`."""


@contextlib.contextmanager
def raising(error: BaseException, metrics: Metrics | None = None) -> Iterator[Client]:
    """A server whose Decrypt raises."""

    def fail(request: bytes, remaining: Remaining) -> bytes:
        raise error

    with short_directory() as directory:
        listener = Listener("main", metrics or Metrics())
        listener.serve("main", {DECRYPT: fail}, log_calls=False)
        listener.bind(f"unix:{directory}/s")
        listener.start()
        client = Client(f"unix:{directory}/s")
        try:
            yield client
        finally:
            client.close()
            listener.stop(0)()


@pytest.mark.parametrize(("error", "expected"), EXPECTED)
def test_each_class_of_error_has_its_code(error: type[errors.KeysteadError], expected: StatusCode) -> None:
    with raising(error("key lab: what was tried")) as client:
        code, text = client.refusal(DECRYPT, b"")
    assert code is expected
    assert text.startswith("key lab: what was tried")
    assert (HINT in text) is (expected in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED))


def test_the_table_above_holds_every_class_that_can_be_raised() -> None:
    listed = {error for error, _ in EXPECTED}
    defined = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.KeysteadError)
    }
    assert defined - listed == {errors.KeysteadError, errors.ProviderError}


def test_no_code_of_ours_is_unknown_or_a_deadline() -> None:
    assert {code for _, code in EXPECTED}.isdisjoint({StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED})


@pytest.mark.parametrize("error", [ValueError(CANARY), KeyError(CANARY), RuntimeError(CANARY), Panic(CANARY)])
def test_an_unforeseen_exception_is_internal_and_its_text_goes_nowhere(error: BaseException) -> None:
    metrics = Metrics()
    with capture_logs() as lines, raising(error, metrics) as client:
        code, text = client.refusal(DECRYPT, b"")
    assert code is StatusCode.INTERNAL
    assert CANARY not in text
    assert CANARY not in str(lines)
    assert CANARY not in metrics.render().decode()
    crashed = [line for line in lines if line["event"] == "rpc.crashed"]
    assert [line["error_class"] for line in crashed] == [type(error).__name__]
    assert re.search(r"test_error_codes\.py:\d+$", crashed[0]["at"])


def test_a_class_that_nobody_listed_is_internal() -> None:
    class New(errors.KeysteadError):
        pass

    with raising(New("something new")) as client:
        assert client.refusal(DECRYPT, b"") == (StatusCode.INTERNAL, "something new")


@pytest.mark.parametrize("message", ["x" * 5000, "ü" * 5000, "€" * 341, "€" * 342], ids=lambda text: text[:1])
def test_a_long_text_is_cut_to_1_kib_and_keeps_its_hint(message: str) -> None:
    with raising(errors.Unavailable(message)) as client:
        code, text = client.refusal(DECRYPT, b"")
    assert code is StatusCode.UNAVAILABLE
    assert len(text.encode()) <= 1024
    assert text.endswith(f"…{TEMPORARY_HINT}")
    assert text.startswith(message[:300])


@pytest.mark.parametrize("message", ["", "a\x00b", "two\nlines", "\u202e", "no file '\udcff'", "%41 100%"])
def test_a_text_of_any_characters_keeps_the_code(message: str) -> None:
    with raising(errors.KeyNotFound(message)) as client:
        code, text = client.refusal(DECRYPT, b"")
    assert code is StatusCode.FAILED_PRECONDITION
    assert text == message.replace("\udcff", "?")


def test_each_failure_is_counted_under_its_code(tmp_path: Path) -> None:
    metrics = Metrics()
    with raising(errors.Throttled("quota"), metrics) as client:
        for _ in range(3):
            client.refusal(DECRYPT, b"")
    labels = {
        "endpoint": "main",
        "grpc_type": "unary",
        "grpc_service": "v2.KeyManagementService",
        "grpc_method": "Decrypt",
    }
    counted = metrics.registry.get_sample_value(
        "grpc_server_handled_total", labels | {"grpc_code": "RESOURCE_EXHAUSTED"}
    )
    assert counted == 3
    assert metrics.registry.get_sample_value("grpc_server_handling_seconds_count", labels) == 3


def test_a_uid_of_any_length_stays_short_in_the_log() -> None:
    uid = b"\x12\x80\x80\x02" + b"u" * 32768
    with capture_logs() as lines, raising(errors.Unavailable("away")) as client:
        client.refusal(DECRYPT, uid)
    (line,) = [line for line in lines if line["event"] == "rpc"]
    assert line["uid"] == "u" * 64
