"""`keystead kek mint` as a process, and plugins that begin with what it made."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from keystead._core import StateFile
from support.process import KEYSTEAD, TESTS, Files, clean_environment


def mint(files: Files, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(KEYSTEAD), "kek", "mint", "--config", str(files.config), *arguments],
        env=clean_environment() | {"PYTHONPATH": f"{files.directory}/site:{TESTS}"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("place", ["current", "recordFile"])
def test_nodes_that_get_the_same_record_share_a_local_kek(directory: Path, place: str) -> None:
    files = Files(directory)
    files.write(files.document(epoch=3))
    made = mint(files)
    assert made.returncode == 0, made.stderr
    state = StateFile.parse(made.stdout)
    assert f"key_id     {state.key_id}\n".encode() in made.stderr
    record = directory / "record"
    record.write_bytes(made.stdout)
    sealed = []
    for node in ("one", "two"):
        document = files.document(epoch=3)
        document["stateDir"] = str(directory / node)
        if place == "current":
            (directory / node / "main").mkdir(parents=True)
            (directory / node / "main/current").write_bytes(made.stdout)
        else:
            document["endpoints"][0]["localKEK"] = {"recordFile": str(record)}
        files.write(document)
        with files.run(log=f"{node}.log") as process:
            assert process.until_ok() == state.key_id
            sealed.append(process.client.seal(b"seed"))
            assert [process.client.decrypt(one) for one in sealed] == [b"seed"] * len(sealed)
            assert process.stop() == 0
    assert [one.record for one in sealed] == [state.record.encoded] * 2


def test_two_records_never_hold_the_same_kek(directory: Path) -> None:
    files = Files(directory)
    files.write()
    first, second = (StateFile.parse(mint(files).stdout) for _ in range(2))
    assert first.key_id == second.key_id
    assert first.record.kek_id != second.record.kek_id


def test_a_terminal_is_refused_before_anything_is_made(directory: Path) -> None:
    files = Files(directory)
    files.write()
    leader, follower = pty.openpty()
    try:
        refused = mint(files, stdout=follower)
    finally:
        os.close(follower)
        os.close(leader)
    assert refused.returncode == 2
    assert b"send it to a new file" in refused.stderr


def test_a_key_that_fails_leaves_nothing_and_tells_what_to_mend_from_what_to_wait_for(directory: Path) -> None:
    files = Files(directory)
    files.key_file.unlink()
    files.write()
    refused = mint(files)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"lab.key does not exist" in refused.stderr
    (directory / "slow").mkdir()
    slow = Files(directory / "slow", provider="fake")
    document = slow.document()
    document["unwrapTimeout"] = "1s"
    slow.write(document)
    slow.pace(wrap=30)
    silent = mint(slow)
    assert (silent.returncode, silent.stdout) == (3, b"")
    assert b"no answer within the time limit" in silent.stderr


def test_a_configuration_that_is_wrong_or_has_several_endpoints_is_a_usage_error(directory: Path) -> None:
    files = Files(directory)
    document = files.document()
    document["endpoints"].append(document["endpoints"][0] | {"name": "second", "socket": f"unix://{directory}/2.sock"})
    files.write(document)
    assert b"choose one endpoint with --endpoint: main, second" in mint(files).stderr
    assert mint(files, "--endpoint", "second").returncode == 0
    assert mint(files, "--endpoint", "third").returncode == 2
    files.config.write_text("{")
    assert mint(files).returncode == 2
