"""SIGHUP: a good configuration is taken up under open connections, a bad one changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc

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


def test_a_new_socket_that_cannot_be_placed_is_said_and_the_next_reload_tries_again(directory: Path) -> None:
    files = Files(directory)
    files.write()
    blocked = directory / "second.sock"
    blocked.write_text("in the way")
    with files.run() as process:
        first = process.until_ok()
        document = files.document()
        document["endpoints"].append(document["endpoints"][0] | {"name": "second", "socket": f"unix://{blocked}"})
        files.write(document)
        reload(process)
        assert "is not a socket" in process.until_event("endpoint.not_listening")["error"]
        assert process.client.status().key_id == first
        blocked.unlink()
        reload(process, count=2)
        second = Client(f"unix:{blocked}")
        assert second.status().version == "v2"
        second.close()


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
