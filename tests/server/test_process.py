"""`keystead serve` as a process: start, signals, restarts, exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from support.process import KEYSTEAD, Files, clean_environment, serving
from support.serving import V2_SERVICE, Client, decrypt_request, seal_cold, shared_key


def test_a_plugin_with_a_local_key_is_good_within_a_second_of_its_sockets(directory: Path) -> None:
    files = Files(directory)
    files.write()
    started = time.monotonic()
    with files.run() as process:
        process.until_event("endpoint.listening")
        listening = time.monotonic()
        process.until_ok()
        good = time.monotonic()
        print(f"\nlistening after {listening - started:.2f} s, good after {good - started:.2f} s")
        assert good - listening < 1.0
        assert process.stop() == 0


def test_a_plugin_listens_and_answers_status_while_its_provider_hangs_in_open(directory: Path) -> None:
    files = Files(directory, provider="fake")
    files.write()
    files.pace(open=60)
    with files.run() as process:
        listening = process.until_event("endpoint.listening")
        status = process.client.status()
        assert status.healthz.startswith("starting: ")
        assert status.key_id == ""
        assert listening["endpoint"] == "main"
        code, text = process.client.refusal(f"{V2_SERVICE}/Encrypt", b"\x0a\x01a")
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "do not delete objects" in text
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 7  # The call that hangs is not waited for.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_call_under_way_end_and_removes_the_socket(directory: Path, number: signal.Signals) -> None:
    files = Files(directory, provider="fake")
    files.write()
    with files.run() as process:
        process.until_ok()
        files.pace(unwrap=1.5)
        (cold,) = seal_cold(shared_key(), 1, seed=b"last words")
        pending = process.client.start(f"{V2_SERVICE}/Decrypt", decrypt_request(cold))
        time.sleep(0.3)
        process.signal(number)
        assert pending.result().endswith(b"last words")
        assert process.wait() == 0
        assert not files.socket.exists()
        assert process.events("server.stopped")


def test_a_plugin_that_was_killed_comes_back_on_its_stale_socket_with_the_same_kek(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        key_id = process.until_ok()
        sealed = process.client.seal(b"before")
        process.signal(signal.SIGKILL)
        process.wait()
    assert files.socket.is_socket()
    with files.run(log="second") as process:
        assert process.until_ok() == key_id
        assert process.client.decrypt(sealed) == b"before"
        assert process.client.seal(b"after").record == sealed.record
        assert process.events("kek.loaded")
        assert not process.events("kek.minted")


def test_both_apis_answer_on_two_sockets_of_one_process(directory: Path) -> None:
    files = Files(directory)
    document = files.document(kmsVersions=["v2"])
    old = {
        **document["endpoints"][0],
        "name": "old",
        "socket": f"unix://{directory}/v1.sock",
        "kmsVersions": ["v1beta1"],
    }
    document["endpoints"].append(old)
    files.write(document)
    with files.run() as process:
        process.until_ok()
        process.until_event("kek.minted", count=2)
        other = Client(f"unix:{directory}/v1.sock")
        sealed = process.client.seal(b"two")
        assert process.client.decrypt(sealed) == b"two"
        assert other.decrypt_v1(other.encrypt_v1(b"ping")) == b"ping"
        assert other.refusal(f"{V2_SERVICE}/Status", b"")[0] is grpc.StatusCode.UNIMPLEMENTED
        other.close()


def test_an_abstract_socket_is_served_where_an_api_server_looks_for_it(directory: Path) -> None:
    name = f"keystead-test-{os.getpid()}"
    files = Files(directory)
    files.write(files.document(socket=f"unix:///@{name}"))
    with serving(["--config", str(files.config)], f"unix-abstract:{name}", directory / "log") as process:
        process.until_ok()
        # Go dials "@name" as a leading NUL and no trailing one.
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(f"\0{name}")
        second = run("--config", str(files.config))
        assert second.returncode == 1
        assert f"cannot listen on unix:///@{name}" in second.stderr


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `keystead serve` where it ends by itself."""
    return subprocess.run(
        [str(KEYSTEAD), "serve", *arguments],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_an_invalid_configuration_ends_with_78_and_every_problem(directory: Path) -> None:
    files = Files(directory)
    document = files.document(epoch=0, socketMode="0666")
    document["health"] = {"graze": "1h"}
    files.write(document)
    outcome = run("--config", str(files.config))
    assert outcome.returncode == 78
    for problem in ("epoch", "socketMode", "graze", "did you mean 'grace'?"):
        assert problem in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not files.socket.exists()


def test_a_configuration_that_cannot_be_read_ends_with_78(directory: Path) -> None:
    outcome = run("--config", str(directory / "missing.yaml"))
    assert outcome.returncode == 78
    assert "missing.yaml: cannot be read: No such file or directory" in outcome.stderr


def test_a_provider_that_is_not_installed_ends_with_78(directory: Path) -> None:
    files = Files(directory)
    document = files.document()
    document["keys"][0] = {"name": "lab", "provider": "lokal"}
    files.write(document)
    outcome = run("--config", str(files.config))
    assert outcome.returncode == 78
    assert "did you mean 'local'?" in outcome.stderr


def test_a_socket_that_cannot_be_placed_ends_with_1_and_says_why(directory: Path) -> None:
    files = Files(directory)
    files.write()
    files.socket.write_text("precious")
    outcome = run("--config", str(files.config))
    assert outcome.returncode == 1
    assert "exists and is not a socket" in outcome.stderr
    assert files.socket.read_text() == "precious"


def test_the_address_of_a_trial_is_printed_when_it_can_be_called(directory: Path) -> None:
    popen = subprocess.Popen(
        [str(KEYSTEAD), "serve", "--dev"],
        env=clean_environment() | {"KEYSTEAD_DEV_DIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert popen.stdout is not None
        printed = popen.stdout.readline()
        assert printed.startswith(f"serving unix://{directory}/kms.sock  (throw-away local key")
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(directory / "kms.sock"))
        popen.terminate()
        assert popen.wait(15) == 0
    finally:
        popen.kill()
        popen.communicate()


def test_a_remote_that_is_away_does_not_end_the_process(directory: Path) -> None:
    files = Files(directory)
    files.key_file.unlink()
    files.write()
    with files.run() as process:
        process.until_event("endpoint.listening")
        ends = time.monotonic() + 10
        while "lab.key does not exist" not in (healthz := process.client.status().healthz):
            assert time.monotonic() < ends, healthz
        assert process.popen.poll() is None
        assert process.stop() == 0


def test_a_log_that_nobody_reads_any_more_does_not_fail_calls(directory: Path) -> None:
    files = Files(directory)
    document = files.document()
    document["observability"]["logging"]["verbosity"] = 10
    files.write(document)
    reader, writer = os.pipe()
    popen = subprocess.Popen(
        [str(KEYSTEAD), "serve", "--config", str(files.config)], stderr=writer, env=clean_environment()
    )
    os.close(writer)
    client = Client(f"unix:{files.socket}")
    try:
        while True:
            with contextlib.suppress(grpc.RpcError):
                if client.status(timeout=10).healthz == "ok":
                    break
        os.close(reader)
        sealed = client.seal(b"still here")
        assert client.decrypt(sealed) == b"still here"
        assert client.refusal(f"{V2_SERVICE}/Encrypt", b"")[0] is grpc.StatusCode.INVALID_ARGUMENT
        popen.terminate()
        assert popen.wait(15) == 0
    finally:
        client.close()
        popen.kill()
        popen.wait()
