"""`keystead self-test` against good plugins, broken ones and none at all."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from keystead._proto.v1beta1 import api_pb2 as v1
from keystead._proto.v2 import api_pb2 as v2
from keystead.cli import main
from support.serving import V1_SERVICE, V2_SERVICE, served, short_directory

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


def self_test(socket_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["self-test", "--endpoint", f"unix://{socket_path}", *arguments])


class BrokenPlugin:
    """A KMS plugin that keeps plaintexts as ciphertexts, and breaks one rule of the API server if told to."""

    def __init__(self) -> None:
        self.status = v2.StatusResponse(version="v2", healthz="ok", key_id="k1")
        self.sealed = v2.EncryptResponse(key_id="k1")
        self.opened: Callable[[bytes], bytes] = lambda ciphertext: ciphertext
        self.told = v1.VersionResponse(version="v1beta1", runtime_name="broken", runtime_version="0")
        self.answers: dict[str, Answer] = {
            f"{V2_SERVICE}/Status": lambda _request, _context: self.status.SerializeToString(),
            f"{V2_SERVICE}/Encrypt": self._encrypt,
            f"{V2_SERVICE}/Decrypt": self._decrypt,
            f"{V1_SERVICE}/Version": lambda _request, _context: self.told.SerializeToString(),
            f"{V1_SERVICE}/Encrypt": self._encrypt_v1,
            f"{V1_SERVICE}/Decrypt": self._decrypt_v1,
        }

    def fail(self, method: str, code: grpc.StatusCode, text: str) -> None:
        def abort(_request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(code, text)

        self.answers[method] = abort

    def _encrypt(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        answer = v2.EncryptResponse(ciphertext=v2.EncryptRequest.FromString(request).plaintext)
        answer.MergeFrom(self.sealed)
        return answer.SerializeToString()

    def _decrypt(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        plaintext = self.opened(v2.DecryptRequest.FromString(request).ciphertext)
        return v2.DecryptResponse(plaintext=plaintext).SerializeToString()

    def _encrypt_v1(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        return v1.EncryptResponse(cipher=v1.EncryptRequest.FromString(request).plain).SerializeToString()

    def _decrypt_v1(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        plain = self.opened(v1.DecryptRequest.FromString(request).cipher)
        return v1.DecryptResponse(plain=plain).SerializeToString()

    @contextlib.contextmanager
    def listening(self, path: Path) -> Iterator[None]:
        class Router(grpc.GenericRpcHandler):
            def service(_, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:  # noqa: N805
                answer = self.answers.get(details.method)
                return grpc.unary_unary_rpc_method_handler(answer) if answer is not None else None

        server = grpc.server(ThreadPoolExecutor(4), handlers=[Router()])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield
        finally:
            server.stop(0).wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "kms.sock"


@pytest.mark.parametrize(
    ("api", "steps"),
    [
        ("v2", ["Status", "Encrypt", "Decrypt"]),
        ("v1beta1", ["Version", "Encrypt ping", "Decrypt ping", "Encrypt DEK", "Decrypt DEK"]),
    ],
)
def test_a_good_plugin_gives_0_and_every_step(directory: Path, path: Path, api: str, steps: list[str]) -> None:
    with served(directory):
        text = self_test(path, "--api", api)
        answer = json.loads(self_test(path, "--api", api, "-o", "json").stdout)
    assert text.exit_code == 0, text.output
    assert [line[6:19].strip() for line in text.stdout.splitlines() if line.startswith("ok  ")] == steps
    assert (answer["ok"], answer["error"]) == (True, None)
    assert [step["name"] for step in answer["steps"]] == steps


def test_what_keystead_stores_is_explained(directory: Path, path: Path) -> None:
    with served(directory):
        text = self_test(path).stdout
    assert "What the API server will store beside each object, in clear:" in text
    assert "wrapped under fake fake/k version 1" in text
    assert "(is the name of these wraps)" in text


def test_another_plugin_is_tested_too(path: Path) -> None:
    with BrokenPlugin().listening(path):
        assert self_test(path).exit_code == 0
        assert self_test(path, "--api", "v1beta1").exit_code == 0


def not_ok(plugin: BrokenPlugin) -> None:
    plugin.status.healthz = "remote away"


def wrong_version(plugin: BrokenPlugin) -> None:
    plugin.status.version = "v3"


def no_key_id(plugin: BrokenPlugin) -> None:
    plugin.status.key_id = ""


def long_key_id(plugin: BrokenPlugin) -> None:
    plugin.status.key_id = plugin.sealed.key_id = "ü" * 513


def another_key_id(plugin: BrokenPlugin) -> None:
    plugin.sealed.key_id = "k2"


def empty_ciphertext(plugin: BrokenPlugin) -> None:
    plugin.answers[f"{V2_SERVICE}/Encrypt"] = lambda _r, _c: v2.EncryptResponse(key_id="k1").SerializeToString()
    plugin.opened = lambda _ciphertext: b""


def long_ciphertext(plugin: BrokenPlugin) -> None:
    plugin.sealed.ciphertext = bytes(1025)


def annotation_without_a_dot(plugin: BrokenPlugin) -> None:
    plugin.sealed.annotations["foo"] = b""


def annotation_in_capitals(plugin: BrokenPlugin) -> None:
    plugin.sealed.annotations["Foo.example.com"] = b""


def large_annotations(plugin: BrokenPlugin) -> None:
    plugin.sealed.annotations["a.example.com"] = bytes(32 * 1024)


def wrong_plaintext(plugin: BrokenPlugin) -> None:
    plugin.opened = lambda ciphertext: bytes(len(ciphertext))


def garbage(plugin: BrokenPlugin) -> None:
    plugin.answers[f"{V2_SERVICE}/Status"] = lambda _request, _context: b"\xff\xff"


def damaged_record(plugin: BrokenPlugin) -> None:
    plugin.sealed.annotations["kek.keystead.dev"] = b"KSK but no record"


def refused(plugin: BrokenPlugin) -> None:
    plugin.fail(f"{V2_SERVICE}/Decrypt", grpc.StatusCode.PERMISSION_DENIED, "may encrypt only")


def absent_method(plugin: BrokenPlugin) -> None:
    del plugin.answers[f"{V2_SERVICE}/Encrypt"]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (not_ok, "healthz is not ok: 'remote away'"),
        (wrong_version, "version must be v2"),
        (no_key_id, "key_id must have 1 to 1024 bytes, has 0"),
        (long_key_id, "has 1026"),
        (another_key_id, "key_id 'k2' differs from that of Status"),
        (empty_ciphertext, "ciphertext must have 1 to 1024 bytes, has 0"),
        (long_ciphertext, "has 1025"),
        (annotation_without_a_dot, "annotation 'foo' is not a domain name"),
        (annotation_in_capitals, "is not a domain name"),
        (large_annotations, "more than 32768"),
        (wrong_plaintext, "the answer is not what was encrypted"),
        (garbage, "/v2.KeyManagementService/Status: INTERNAL"),
        (damaged_record, "kek.keystead.dev"),
        (refused, "/v2.KeyManagementService/Decrypt: PERMISSION_DENIED: may encrypt only"),
        (absent_method, "/v2.KeyManagementService/Encrypt: UNIMPLEMENTED"),
    ],
)
def test_a_broken_plugin_gives_1_and_the_rule_that_it_breaks(
    path: Path, break_it: Callable[[BrokenPlugin], None], said: str
) -> None:
    plugin = BrokenPlugin()
    break_it(plugin)
    with plugin.listening(path):
        outcome = self_test(path)
        as_json = self_test(path, "-o", "json")
    assert outcome.exit_code == as_json.exit_code == 1
    assert any(line.startswith("FAIL") and said in line for line in outcome.stdout.splitlines()), outcome.output
    answer = json.loads(as_json.stdout)
    assert answer["ok"] is False
    failures = [step["seen"] for step in answer["steps"] if not step["ok"]] + [answer["error"] or ""]
    assert any(said in failure for failure in failures)


@pytest.mark.parametrize("name", ["a.b", "kms.example.io", "foo.example.com."])
def test_an_annotation_that_the_api_server_takes_is_taken(path: Path, name: str) -> None:
    plugin = BrokenPlugin()
    plugin.sealed.annotations[name] = b""
    with plugin.listening(path):
        assert self_test(path).exit_code == 0


def test_a_v1_plugin_that_refuses_ping_gives_1(path: Path) -> None:
    plugin = BrokenPlugin()
    plugin.fail(f"{V1_SERVICE}/Encrypt", grpc.StatusCode.INVALID_ARGUMENT, "not 32 bytes")
    with plugin.listening(path):
        outcome = self_test(path, "--api", "v1beta1")
    assert outcome.exit_code == 1
    assert "INVALID_ARGUMENT: not 32 bytes" in outcome.stdout


def test_a_plugin_cannot_steer_the_terminal(path: Path) -> None:
    plugin = BrokenPlugin()
    plugin.status.healthz = plugin.status.key_id = "\x1b[2J\u202e"
    plugin.fail(f"{V2_SERVICE}/Encrypt", grpc.StatusCode.INTERNAL, "\x1b]0;owned\x07")
    with plugin.listening(path):
        outcome = self_test(path)
    assert "\x1b" not in outcome.output
    assert "\u202e" not in outcome.output


def test_nobody_there_gives_3(path: Path) -> None:
    outcome = self_test(path, "--timeout", "0.3")
    assert outcome.exit_code == 3
    assert "no answer to /v2.KeyManagementService/Status within 0.3 s" in outcome.stdout
    assert json.loads(self_test(path, "--timeout", "0.3", "-o", "json").stdout)["ok"] is False


def test_a_socket_that_never_answers_gives_3(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        assert self_test(path, "--timeout", "0.3").exit_code == 3


@pytest.mark.parametrize("endpoint", ["/run/kms.sock", "unix:/run/kms.sock", "unix://run/kms.sock", "tcp://1.2.3.4:5"])
def test_an_endpoint_that_an_api_server_would_misread_is_a_usage_error(endpoint: str) -> None:
    outcome = CliRunner().invoke(main, ["self-test", "--endpoint", endpoint])
    assert outcome.exit_code == 2
    assert "unix:///path" in outcome.output


def test_without_an_endpoint_it_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["self-test"]).exit_code == 2
