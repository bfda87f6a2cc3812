"""Each fault of the network and of a stranger in AWS's place has its class, and ends within the deadline.

From a FAKE, since AWS does none of this on demand.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from keystead.provider import (
    ConfigError,
    Misbehaved,
    ProviderError,
    Throttled,
    Unavailable,
    WrapContext,
)
from keystead.providers.aws_kms import AwsKmsProvider
from providers.aws.fake import ACCESS, REQUEST_ID, SECRET, FakeAws, Key, Reply, Request, Script, refused
from providers.aws.given import CONTEXT, KEK, Make, soon
from support.patience import LATE

SECONDS = 0.8
HERE = r"Decrypt at 127\.0\.0\.1:\d+: "
BLOB = bytes(184)


def hang(fake: FakeAws) -> Script:
    def script(_: Request, __: BaseHTTPRequestHandler) -> None:
        fake.closing.wait(30)

    return script


def reset(_: FakeAws) -> Script:
    def script(_: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return script


def write(*chunks: bytes, every: float = 0.0) -> Callable[[FakeAws], Script]:
    """Write the chunks; with `every`, the last one over and over, each well within any time-out per read."""

    def made(fake: FakeAws) -> Script:
        def script(_: Request, handler: BaseHTTPRequestHandler) -> None:
            with contextlib.suppress(OSError):
                for chunk in chunks:
                    handler.wfile.write(chunk)
                while every and not fake.closing.wait(every):
                    handler.wfile.write(chunks[-1])

        return script

    return made


def reply(*args: object) -> Callable[[FakeAws], Reply]:
    return lambda _: Reply(*args)  # type: ignore[arg-type]  # as the case wants it


HTML = b"<html>Log in to the Wi-Fi</html>"
FOREIGN = "something else than AWS answers there"
CUT = r"no complete answer within 0\.\d s"
OK = b"HTTP/1.1 200 OK\r\n"
NOTHING: dict[str, str] = {}
FAULTS: dict[str, tuple[Callable[[FakeAws], Reply | Script], type[ProviderError], str]] = {
    "a server that hangs": (hang, Unavailable, HERE + CUT),
    "dripping headers": (write(OK, b"X: y\r\n", every=0.05), Unavailable, HERE + CUT),
    "a dripping body": (write(OK + b"Content-Length: 10000\r\n\r\n", b" ", every=0.05), Unavailable, HERE + CUT),
    "dripping chunks": (
        write(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", every=0.05),
        Unavailable,
        HERE + CUT,
    ),
    "continue for ever": (write(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.05), Unavailable, HERE + CUT),
    "an endless answer": (
        write(OK + b"\r\n", *[b" " * 65536] * 20),
        Unavailable,
        HERE + "an answer of more than 1048576 bytes",
    ),
    "a reset": (reset, Unavailable, HERE + "(Connection reset by peer|the connection broke)"),
    "a connection that ends at once": (write(), Unavailable, HERE + "the connection broke"),
    "half an answer": (write(OK + b"Content-Length: 99\r\n\r\n{"), Unavailable, HERE + "the connection broke"),
    "no HTTP": (write(b"220 mail.example ESMTP\r\n"), Unavailable, HERE + "the connection broke"),
    "a redirect": (reply(307, b"", {"Location": "http://127.0.0.1:9/"}), Unavailable, f"HTTP 307 .{FOREIGN}"),
    "200 with HTML": (reply(200, HTML, NOTHING), Unavailable, FOREIGN),
    "200 with a JSON list": (reply(200, b"[]", NOTHING), Unavailable, f"{HERE}(not an answer of AWS|{FOREIGN})"),
    "200 with JSON that is too deep": (reply(200, b"[" * 100_000, NOTHING), Unavailable, "not an answer of AWS"),
    "200 with bytes": (reply(200, b"\xff\xfe", NOTHING), Unavailable, "not an answer of AWS .UnicodeDecodeError"),
    "200 with nothing": (reply(200, b"", NOTHING), Unavailable, FOREIGN),
    "200 without a key": (reply(200, {}), Misbehaved, f"without the key's name .RequestId {REQUEST_ID}"),
    "400 with HTML": (reply(400, HTML, NOTHING), Unavailable, f"HTTP 400: <html>Log in to the Wi-Fi</html> .{FOREIGN}"),
    "400 with a list": (reply(400, b"[]", NOTHING), Unavailable, "not an answer of AWS"),
    "403 of a proxy": (reply(403, HTML, NOTHING), Unavailable, f"HTTP 403: .*{FOREIGN}"),
    "404 of a proxy": (reply(404, b"", NOTHING), Unavailable, f"HTTP 404 .{FOREIGN}"),
    "429 of a proxy": (reply(429, b"slow down", NOTHING), Throttled, "HTTP 429: slow down"),
    "502 with HTML": (reply(502, HTML, NOTHING), Unavailable, HERE + "HTTP 502: Bad Gateway"),
    "503 with nothing": (reply(503, b"", NOTHING), Unavailable, HERE + "HTTP 503: Service Unavailable"),
    "a code that nobody knows": (lambda _: refused("OddException", "odd"), Misbehaved, "OddException: odd .RequestId"),
    "an unknown code with 500": (lambda _: refused("OddException", status=500), Unavailable, "OddException"),
    "no code": (reply(400, {"message": "m"}), Unavailable, "HTTP 400: m"),
    "throttling": (lambda _: refused("ThrottlingException", "Rate exceeded"), Throttled, "Rate exceeded"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_has_its_class_and_ends_within_the_deadline(aws: FakeAws, make: Make, case: str) -> None:
    script, error, text = FAULTS[case]
    provider = make(aws, aws.new_key())
    provider.open(soon())
    good = provider.wrap(KEK, CONTEXT, None, soon()).blob
    aws.scripts["Decrypt"] = script(aws)
    start = time.monotonic()
    with pytest.raises(error, match=text) as caught:
        provider.unwrap(BLOB, CONTEXT, "", soon(SECONDS))
    assert time.monotonic() - start < SECONDS + LATE
    assert type(caught.value) is error
    assert len(aws.asked("Decrypt")) == 1, "a provider retries nothing"
    del aws.scripts["Decrypt"]
    assert provider.unwrap(good, CONTEXT, "", soon()) == KEK, "the next call works"


UNREACHABLE = {
    "a refused connection": ("http://127.0.0.1:9", "Connection refused"),
    "a name that does not resolve": ("http://kms.invalid", "(Name or service|Temporary failure|No address|not known)"),
    "TLS to a server without it": ("https", "TLS: "),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_a_server_that_is_not_there_is_unavailable_at_open(aws: FakeAws, make: Make, case: str) -> None:
    endpoint, text = UNREACHABLE[case]
    if endpoint == "https":
        endpoint = aws.address.replace("http", "https")
    with pytest.raises(Unavailable, match=f"DescribeKey at .*{text}"):
        make(aws, aws.new_key(), endpoint=endpoint).open(soon())


def test_a_server_that_takes_no_connection_costs_a_second_at_most(make: Make) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(4):  # until the queue of the listener is full
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            key = Key("1234abcd-12ab-34cd-56ef-1234567890ab", ("eu-west-1",))
            provider = make(None, key, endpoint=f"http://127.0.0.1:{port}")
            start = time.monotonic()
            with pytest.raises(Unavailable, match=r"no connection within 1\.0 s"):
                provider.open(soon(20))
            # The deadline is far away, so that a loaded machine cannot be taken for a call that waits for it.
            assert time.monotonic() - start < 10


def test_a_server_that_never_ends_the_tls_handshake_costs_no_more_than_the_deadline(make: Make) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4)
        provider = make(None, OWN, endpoint=f"https://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"DescribeKey at \S+: no (connection|complete answer) within 0\.\d s"):
            provider.open(soon(SECONDS))
        assert time.monotonic() - start < SECONDS + LATE


def test_a_deadline_that_is_over_asks_nobody(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    asked = len(aws.seen)
    for call in (
        lambda: provider.wrap(KEK, CONTEXT, None, soon(-1)),
        lambda: provider.unwrap(BLOB, CONTEXT, "", soon(-1)),
    ):
        with pytest.raises(Unavailable, match="no time left to ask"):
            call()
    assert len(aws.seen) == asked


def test_many_calls_that_hang_end_within_the_deadline_of_each(aws: FakeAws, make: Make) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    aws.scripts["Decrypt"] = hang(aws)
    took: list[float] = []

    def work() -> None:
        start = time.monotonic()
        with contextlib.suppress(Unavailable):
            provider.unwrap(BLOB, CONTEXT, "", soon(SECONDS))
        took.append(time.monotonic() - start)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 16
    assert max(took) < SECONDS + 2 * LATE


OWN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER = "arn:aws:kms:eu-west-1:111122223333:key/00000000-12ab-34cd-56ef-1234567890ab"
WRONG_ANSWERS = {
    "another key": ({"KeyId": OTHER, "CiphertextBlob": "QUJD"}, "for another key than the one asked for"),
    "no key": ({"CiphertextBlob": "QUJD"}, "without the key's name"),
    "no ciphertext": ({"KeyId": OWN}, "without CiphertextBlob"),
    "an empty ciphertext": ({"KeyId": OWN, "CiphertextBlob": ""}, "without CiphertextBlob"),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_an_answer_that_cannot_be_right_is_misbehaviour(aws: FakeAws, make: Make, case: str) -> None:
    body, text = WRONG_ANSWERS[case]
    aws.scripts["DescribeKey"], aws.scripts["Encrypt"] = refused("AccessDeniedException"), Reply(body=body)
    provider = make(aws, OWN)
    provider.open(soon())
    with pytest.raises(Misbehaved, match=rf"Encrypt at \S+ answered {text} \[RequestId {REQUEST_ID}\]"):
        provider.wrap(KEK, CONTEXT, None, soon())


def test_an_answer_that_names_another_key_gives_no_plaintext(aws: FakeAws, make: Make) -> None:
    aws.scripts["Decrypt"] = Reply(body={"KeyId": OTHER, "Plaintext": "QUJD"})
    provider = make(aws, aws.new_key())
    provider.open(soon())
    with pytest.raises(Misbehaved, match="for another key"):
        provider.unwrap(BLOB, CONTEXT, "", soon())


def test_a_description_of_another_key_is_misbehaviour(aws: FakeAws, make: Make) -> None:
    aws.scripts["DescribeKey"] = Reply(body={"KeyMetadata": {"KeyId": "x", "Arn": OTHER}})
    with pytest.raises(Misbehaved, match=r"DescribeKey .* for another key"):
        make(aws, aws.new_key()).open(soon())


OPERATIONS: dict[str, Callable[[AwsKmsProvider], object]] = {
    "Decrypt": lambda provider: provider.unwrap(b"canary-ciphertext" * 9, CONTEXT, "", soon()),
    "Encrypt": lambda provider: provider.wrap(KEK, WrapContext(CONTEXT.kek_id, "canary-cluster"), None, soon()),
    "DescribeKey": lambda provider: provider.open(soon()),
}


ECHOES = [
    (operation, code)
    for operation in OPERATIONS
    for code in ("", "AccessDeniedException", "InvalidSignatureException", "ThrottlingException")
    if (operation, code) != ("DescribeKey", "AccessDeniedException")  # which alone is tolerated
]


@pytest.mark.parametrize(("operation", "code"), ECHOES)
def test_no_secret_is_in_an_error_even_if_the_server_repeats_what_it_was_sent(
    aws: FakeAws, make: Make, operation: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def echo(request: Request, _: BaseHTTPRequestHandler) -> Reply:
        # Without names, so that the encryption context is to be told by its values alone.
        context = request.body.get("EncryptionContext", {}).values() if code else [json.dumps(request.body)]
        values = [str(request.body[name]) for name in ("Plaintext", "CiphertextBlob") if name in request.body]
        said.extend([*values, *context, SECRET, *request.headers.values()])
        return Reply(400, {"__type": code or SECRET, "message": " ".join(said)}, {"x-amzn-RequestId": SECRET})

    caplog.set_level(logging.DEBUG)
    provider = make(aws, aws.new_key())
    if operation != "DescribeKey":
        provider.open(soon())
    aws.scripts[operation] = echo
    with pytest.raises(ProviderError) as caught:
        OPERATIONS[operation](provider)
    shown = str(caught.value) + caplog.text + repr(caught.value.__cause__) + repr(caught.value.__context__)
    (signature,) = re.findall(r"Signature=([0-9a-f]{64})", " ".join(said))
    sent = [] if operation == "DescribeKey" else said[:1]
    for secret in [SECRET, CONTEXT.kek_id.hex(), signature, *sent]:
        assert secret not in shown


def test_nothing_is_logged_even_if_the_process_logs_everything(
    aws: FakeAws, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = make(aws, aws.new_key())
    provider.open(soon())
    provider.unwrap(provider.wrap(KEK, CONTEXT, None, soon()).blob, CONTEXT, "", soon())
    (sent,), (asked,) = aws.asked("Encrypt"), aws.asked("Decrypt")
    for secret in (sent.body["Plaintext"], asked.body["CiphertextBlob"], CONTEXT.kek_id.hex(), ACCESS, SECRET):
        assert str(secret) not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith(("botocore", "boto3", "keystead"))]


def test_a_file_of_cas_that_cannot_be_read_is_a_fault_of_the_configuration(aws: FakeAws, make: Make) -> None:
    with pytest.raises(ConfigError, match="cannot take CAs from /nowhere: No such file"):
        make(aws, aws.new_key(), caFile="/nowhere").open(soon())
