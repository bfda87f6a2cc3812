"""SIGHUP: a good configuration is taken up under open connections, a bad one changes nothing."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path

import grpc

from support.http import free_port, get
from support.process import Files, Process
from support.serving import V1_SERVICE, V2_SERVICE, Client, decrypt_request, seal_cold, shared_key


def reload(process: Process, event: str = "config.reloaded", count: int = 1) -> None:
    process.signal(signal.SIGHUP)
    process.until_event(event, count)


def test_a_higher_epoch_gives_another_key_id_on_the_connection_that_is_open(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        first = process.until_ok()
        sealed = process.client.seal(b"seed")
        files.write(files.document(epoch=2))
        reload(process)
        second = process.until_key_id(lambda key_id: key_id != first)
        assert second.startswith("ks1.e2.")
        assert process.client.seal(b"more").key_id == second
        assert process.client.decrypt(sealed) == b"seed"
        assert len(process.events("endpoint.listening")) == 1


def test_a_bad_configuration_is_refused_as_a_whole_and_the_old_one_goes_on(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        first = process.until_ok()
        files.write(files.document(epoch=2, socketMode="0777"))
        reload(process, "config.rejected")
        (rejected,) = process.events("config.rejected")
        assert "socketMode" in str(rejected["problems"])
        assert rejected["level"] == "error"
        files.config.write_text("{")
        reload(process, "config.rejected", 2)
        files.config.unlink()
        reload(process, "config.rejected", 3)
        assert process.client.status().key_id == first
        assert process.client.decrypt(process.client.seal(b"seed")) == b"seed"
        files.write(files.document(epoch=3))
        reload(process)
        process.until_key_id(lambda key_id: key_id.startswith("ks1.e3."))


def test_a_lower_epoch_is_refused_by_the_endpoint_and_said_in_the_log(directory: Path) -> None:
    files = Files(directory)
    files.write(files.document(epoch=5))
    with files.run() as process:
        first = process.until_ok()
        files.write(files.document(epoch=4))
        reload(process)
        assert "set epoch to 6" in process.until_event("configuration.refused")["reason"]
        assert process.client.status().key_id == first


def test_an_endpoint_is_added_and_removed_while_the_other_goes_on(directory: Path) -> None:
    files = Files(directory)
    alone = files.document()
    files.write(alone)
    with files.run() as process:
        first = process.until_ok()
        document = files.document()
        added = {"name": "second", "socket": f"unix://{directory}/second.sock"}
        document["endpoints"].append(document["endpoints"][0] | added)
        files.write(document)
        reload(process)
        other = Client(f"unix:{directory}/second.sock")
        process.until_event("kek.minted", 2)
        sealed = other.seal(b"seed")
        files.write(alone)
        reload(process, count=2)
        assert not (directory / "second.sock").exists()
        code, _ = other.refusal(f"{V2_SERVICE}/Decrypt", decrypt_request(sealed), timeout=0.3)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        other.close()
        assert process.client.status().key_id == first
        # Both have the same key, so what the other wrote can be read here.
        assert process.client.decrypt(sealed) == b"seed"


def test_a_changed_socket_moves_the_endpoint_with_its_keks(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        first = process.until_ok()
        files.write(files.document(socket=f"unix://{directory}/moved.sock", kmsVersions=["v2"]))
        reload(process)
        assert not files.socket.exists()
        moved = Client(f"unix:{directory}/moved.sock")
        assert moved.status().key_id == first
        assert moved.refusal(f"{V1_SERVICE}/Version", b"")[0] is grpc.StatusCode.UNIMPLEMENTED
        moved.close()
        assert len(process.events("kek.minted")) == 1
        assert process.stop() == 0
        assert not (directory / "moved.sock").exists()


def test_a_new_socket_that_cannot_be_placed_refuses_the_whole_configuration_until_it_can(directory: Path) -> None:
    files = Files(directory)
    files.write()
    blocked = directory / "second.sock"
    blocked.write_text("in the way")
    with files.run() as process:
        first = process.until_ok()
        document = files.document(epoch=2)
        third = {"name": "third", "socket": f"unix://{directory}/third.sock"}
        document["endpoints"].append(document["endpoints"][0] | third)
        document["endpoints"].append(document["endpoints"][0] | {"name": "second", "socket": f"unix://{blocked}"})
        files.write(document)
        reload(process, "config.rejected")
        (problem,) = process.events("config.rejected")[0]["problems"]
        assert "is not a socket" in problem
        assert process.client.status().key_id == first
        assert not (directory / "third.sock").exists()
        assert not process.events("kek.minted")[1:]
        blocked.unlink()
        # Nobody signals: what only the world refused is tried again.
        process.until_event("config.reloaded")
        process.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
        second = Client(f"unix:{blocked}")
        assert second.status().version == "v2"
        second.close()


def test_a_file_that_is_replaced_is_taken_up_without_a_signal(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        process.until_ok()
        replacement = directory / "config.new"
        replacement.write_text(json.dumps(files.document(epoch=2)))
        replacement.rename(files.config)
        process.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
        assert len(process.events("config.reloaded")) == 1


def test_a_mounted_configmap_is_taken_up_when_its_link_is_switched(directory: Path) -> None:
    files = Files(directory)
    for epoch in (1, 2):
        (directory / f"..{epoch}").mkdir()
        (directory / f"..{epoch}/config.yaml").write_text(json.dumps(files.document(epoch=epoch)))
    (directory / "..data").symlink_to("..1")
    files.config.symlink_to("..data/config.yaml")
    with files.run() as process:
        process.until_ok()
        (directory / "..data_tmp").symlink_to("..2")
        (directory / "..data_tmp").rename(directory / "..data")
        process.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))


def test_a_file_that_is_written_slowly_is_taken_up_when_it_is_whole(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        process.until_ok()
        whole = json.dumps(files.document(epoch=2))
        with files.config.open("w") as file:
            for start in range(0, len(whole), 200):
                file.write(whole[start : start + 200])
                file.flush()
                time.sleep(0.5)
        process.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
        assert not process.events("config.rejected")


def test_the_same_file_again_disturbs_nothing(directory: Path) -> None:
    files = Files(directory, provider="fake")
    files.write()
    with files.run() as process:
        process.until_ok()
        before = len(process.log.splitlines())
        reload(process, "config.unchanged")
        assert len(process.log.splitlines()) == before + 1


def test_a_new_key_is_proven_beside_the_running_ones_before_it_replaces_them(directory: Path) -> None:
    files = Files(directory)
    files.write()
    missing = directory / "new.key"
    with files.run() as process:
        first = process.until_ok()
        sealed = process.client.seal(b"seed")
        members = [{"key": "new", "stage": "active"}, {"key": "lab", "stage": "decrypt"}]
        document = files.document(epoch=2, members=members, soak="0s")
        document["keys"].append({"name": "new", "provider": "local", "keyFile": str(missing)})
        files.write(document)
        reload(process, "config.rejected")
        (problem,) = process.events("config.rejected")[0]["problems"]
        assert problem.startswith("not proven: key new: open: ")
        assert process.client.status().key_id == first
        assert process.client.status().healthz == "ok"
        assert process.client.decrypt(sealed) == b"seed"
        missing.touch(mode=0o600)
        missing.write_bytes(bytes(range(32, 64)))
        # With nobody's signal: it failed for a reason that may pass.
        second = process.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
        assert process.client.seal(b"more").key_id == second
        assert process.client.decrypt(sealed) == b"seed"


def test_calls_go_on_and_the_process_ends_at_once_while_a_new_key_hangs(directory: Path) -> None:
    files = Files(directory, provider="fake")
    files.write()
    with files.run() as process:
        process.until_ok()
        sealed = process.client.seal(b"seed")
        files.pace(open=60)
        document = files.document()
        document["keys"].append({"name": "slow", "provider": "fake", "paceFile": str(files.pace_file)})
        document["endpoints"][0]["members"].append({"key": "slow", "stage": "decrypt"})
        document["unwrapTimeout"] = "2s"
        files.write(document)
        process.signal(signal.SIGHUP)
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            assert process.client.decrypt(sealed) == b"seed"
        assert "no answer within the time limit" in str(process.until_event("config.rejected")["problems"])
        process.signal(signal.SIGHUP)
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 7


def test_a_key_that_goes_needs_no_proof(directory: Path) -> None:
    files = Files(directory, provider="fake")
    document = files.document()
    document["keys"].append({"name": "old", "provider": "local", "keyFile": str(files.key_file)})
    document["endpoints"][0]["members"].append({"key": "old", "stage": "decrypt"})
    files.write(document)
    with files.run() as process:
        process.until_ok()
        files.pace(open=60, wrap=60, unwrap=60)
        files.write()
        reload(process)
        assert process.client.decrypt(process.client.seal(b"seed")) == b"seed"


def test_a_changed_state_directory_is_refused_and_said(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        first = process.until_ok()
        files.write(files.document(epoch=2) | {"stateDir": str(directory / "elsewhere")})
        reload(process, "config.rejected")
        (problem,) = process.events("config.rejected")[0]["problems"]
        assert "needs a restart" in problem
        assert process.client.status().key_id == first


def test_logging_and_http_follow_the_file(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        process.until_ok()
        process.client.seal(b"quiet")
        port = free_port()
        document = files.document()
        document["observability"] = {
            "http": {"address": f"127.0.0.1:{port}"},
            "logging": {"format": "json", "verbosity": 4},
        }
        files.write(document)
        reload(process)
        process.client.seal(b"loud")
        assert len([line for line in process.events("rpc") if line["method"] == "Encrypt"]) == 1
        assert get(port, "/readyz?verbose") == (200, "[+]endpoint main ok: ok\nready\n")
        document["keys"].append({"name": "lab"})
        files.write(document)
        reload(process, "config.rejected")
        assert "[-]configuration file refused: " in get(port, "/readyz?verbose")[1]
        assert "keystead_config_last_reload_successful 0.0" in get(port, "/metrics")[1].splitlines()


def test_a_socket_keeps_its_connections_whatever_else_of_it_changes(directory: Path) -> None:
    files = Files(directory)
    files.write(files.document(kmsVersions=["v2"]))
    with files.run() as process:
        process.until_ok()
        inode = files.socket.stat().st_ino
        assert process.client.refusal(f"{V1_SERVICE}/Version", b"")[0] is grpc.StatusCode.UNIMPLEMENTED
        files.write(files.document(kmsVersions=["v2", "v1beta1"], socketMode="0660", socketGroup=os.getegid()))
        reload(process)
        assert process.client.decrypt_v1(process.client.encrypt_v1(b"ping")) == b"ping"
        assert (files.socket.stat().st_ino, stat.S_IMODE(files.socket.stat().st_mode)) == (inode, 0o660)
        assert len(process.events("endpoint.listening")) == 1
        # Another endpoint behind the same socket, and the same socket by another name.
        (directory / "link").symlink_to(directory)
        files.write(files.document(name="other", socket=f"unix://{directory}/link/kms.sock"))
        reload(process, count=2)
        process.until_event("kek.minted", 2)
        assert process.client.status().healthz == "ok"
        assert files.socket.stat().st_ino == inode
        assert (directory / "state/other/current").exists()


def test_a_call_on_an_endpoint_that_a_reload_removes_ends_as_it_would_have(directory: Path) -> None:
    files = Files(directory, provider="fake")
    document = files.document()
    gone = {"name": "gone", "socket": f"unix://{directory}/gone.sock"}
    document["endpoints"].append(document["endpoints"][0] | gone)
    files.write(document)
    with files.run() as process:
        process.until_ok()
        process.until_event("kek.minted", 2)
        client = Client(f"unix:{directory}/gone.sock")
        assert client.status().healthz == "ok"
        files.pace(unwrap=1.0)
        running, *later = seal_cold(shared_key(), 200, seed=b"last words")
        pending = client.start(f"{V2_SERVICE}/Decrypt", decrypt_request(running))
        files.write()
        process.signal(signal.SIGHUP)
        codes = set()
        while not pending.done() and later:
            call = client.start(f"{V2_SERVICE}/Decrypt", decrypt_request(later.pop()), timeout=0.32)
            if call.exception() is not None:
                codes.add(call.code())
        assert pending.result().endswith(b"last words")
        assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
        assert not process.events("rpc.crashed")
        client.close()
