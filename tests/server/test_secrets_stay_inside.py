"""A plugin at its most talkative, used in every way, shows neither key bytes nor plaintext anywhere."""

from __future__ import annotations

import base64
import http.client
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.process import KEYSTEAD, Files, Process
from support.serving import V1_SERVICE, V2_SERVICE, Client, decrypt_request

KEY = bytes.fromhex("c0ffee11d00df00dfeedface5afe5eed0ddba11cab1eca5cadeb1ade7e57ab1e")
# A plaintext that is a text as well, for such a one could pass for a field that is logged.
PLAINTEXT = b"plaintext-that-must-not-be-shown"
TEXT_KEY = b"key-file-of-32-printable-letters"


def forms(secret: bytes) -> Iterator[bytes]:
    """The secret as it might be printed, and parts of it that survive an offset in base64."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield repr(secret)[2:-1].encode()
    yield str(list(secret))[1:-1].encode()
    for offset in range(3):
        yield base64.b64encode(secret[offset:])[: 4 * ((len(secret) - offset) // 3)]
        yield base64.urlsafe_b64encode(secret[offset:])[: 4 * ((len(secret) - offset) // 3)]


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return str(answer.getheaders()).encode() + body


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def use(process: Process, files: Files, port: int) -> Iterator[bytes]:
    """Call everything, well and badly, and yield all that comes back except the answer of a good Decrypt."""
    client = process.client
    yield client.call(f"{V2_SERVICE}/Status", b"")
    sealed = client.encrypt(PLAINTEXT, uid="6fd9")
    yield sealed.SerializeToString()
    good = decrypt_request(client.seal(PLAINTEXT))
    assert client.call(f"{V2_SERVICE}/Decrypt", good)
    yield client.encrypt_v1(PLAINTEXT)
    assert client.decrypt_v1(client.encrypt_v1(PLAINTEXT)) == PLAINTEXT
    yield client.encrypt_v1(b"ping")
    # In v1 the plaintext is field 2, in v2 field 1.
    for service, field in ((V1_SERVICE, b"\x12\x20"), (V2_SERVICE, b"\x0a\x20")):
        for method in ("Encrypt", "Decrypt"):
            for request in (b"", PLAINTEXT, field + PLAINTEXT, field + PLAINTEXT + b"\xff", good[:-5]):
                call = client.start(f"{service}/{method}", request)
                error = call.exception()
                yield call.result() if error is None else repr(error).encode()
    files.write(files.document(epoch=2))
    process.signal(signal.SIGHUP)
    process.until_event("config.reloaded")
    process.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
    files.config.write_text(f'keys: [{{keyFile: "{PLAINTEXT.decode()}"}}]')
    process.signal(signal.SIGHUP)
    process.until_event("config.rejected")
    for path in ("/livez", "/readyz", "/readyz?verbose", "/metrics", "/nothing"):
        yield get(port, path)
    for state in (files.directory / "state").rglob("*"):
        if state.is_file():
            yield state.read_bytes()
    for arguments in (["self-test", "--endpoint", f"unix://{files.socket}", "-o", "json"], ["version"]):
        outcome = subprocess.run([str(KEYSTEAD), *arguments], capture_output=True, check=False)
        yield outcome.stdout + outcome.stderr
    proc = Path(f"/proc/{process.popen.pid}")
    yield (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()


def search(directory: Path, key: bytes) -> tuple[int, list[str]]:
    port = free_port()
    files = Files(directory)
    files.key_file.write_bytes(key)
    files.options["observability"] = {
        "http": {"address": f"127.0.0.1:{port}"},
        "logging": {"format": "json", "verbosity": 10},
    }
    files.write()
    with files.run() as process:
        process.until_ok()
        process.until_event("server.started")
        outputs = list(use(process, files, port))
        assert process.stop() == 0
        outputs.append(process.log_file.read_bytes())
    # The log must have been as talkative as it gets for this to mean anything.
    assert len(process.events("rpc")) > 10
    found = []
    for name, secret in (("key", key), ("plaintext", PLAINTEXT)):
        for form in forms(secret):
            found += [f"{name}: {output[:200]!r}" for output in outputs if form in output]
    return len(outputs), found


def test_binary_key_bytes_and_plaintext_are_nowhere(directory: Path) -> None:
    outputs, found = search(directory, KEY)
    assert outputs > 30
    assert found == []


def test_key_bytes_that_are_a_text_are_nowhere(directory: Path) -> None:
    outputs, found = search(directory, TEXT_KEY)
    assert outputs > 30
    assert found == []


def test_the_search_finds_what_it_looks_for() -> None:
    for name, text in {
        "raw": b"x" + KEY,
        "hex": KEY.hex().encode(),
        "repr": repr(KEY).encode(),
        "list": repr(list(KEY)).encode(),
        "base64": base64.b64encode(KEY),
        "base64 at an offset": base64.b64encode(b"x" + KEY),
        "base64 at another": base64.b64encode(b"xx" + KEY),
    }.items():
        assert any(form in text for form in forms(KEY)), name


def test_the_key_is_not_in_a_core_that_the_process_would_leave(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        process.until_ok()
        status = Path(f"/proc/{process.popen.pid}/limits").read_text()
        (core,) = [line for line in status.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]
        client = Client(f"unix:{files.socket}")
        assert client.status().healthz == "ok"
        client.close()
