"""The admin socket of a running plugin, and `keystead status` as a process beside it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

from support.http import free_port, get
from support.process import KEYSTEAD, PATIENCE, Files, clean_environment


def keystead(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KEYSTEAD), *map(str, arguments)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until_proven(files: Files, *names: str) -> dict[str, Any]:
    """Wait until a plugin has proven these keys, and return its status."""
    ends = time.monotonic() + PATIENCE
    while True:
        status: dict[str, Any] = json.loads(get(files.directory / "admin.sock", "/status")[1])
        proven = {key["name"] for key in status["endpoints"][0]["keys"] if key["proven"]}
        if proven >= set(names):
            return status
        assert time.monotonic() < ends, status
        time.sleep(0.1)


def test_a_plugin_tells_its_owner_everything_but_secrets(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run() as process:
        key_id = process.until_ok()
        sealed = process.client.seal(b"seed")
        admin = directory / "admin.sock"
        assert stat.S_IMODE(admin.lstat().st_mode) == 0o600
        status = until_proven(files, "lab")
        (main,) = status["endpoints"]
        assert (status["cluster"], status["pid"], main["keyID"]) == ("prod-eu-1", process.popen.pid, key_id)
        assert main["record"]["uses"] == 1
        text = get(admin, "/status")[1]
        for secret in (bytes(range(32)).hex(), sealed.ciphertext.hex()):
            assert secret not in text
        assert get(admin, "/livez") == (200, "ok\n")
        assert keystead("status", "--config", files.config).stdout.endswith("all is well\n")
        assert (
            json.loads(keystead("status", "--config", files.config, "-o", "json").stdout)["node"] == os.uname().nodename
        )
        assert process.stop() == 0
        assert not admin.exists()
    after = keystead("status", "--config", files.config)
    assert after.returncode == 3
    assert "does not exist" in after.stderr


def test_a_key_that_fails_is_told_and_exits_1(directory: Path) -> None:
    files = Files(directory)
    files.key_file.unlink()
    files.write()
    with files.run() as process:
        process.until_event("server.started")
        ends = time.monotonic() + PATIENCE
        while "lab.key does not exist" not in (found := keystead("status", "--config", files.config)).stdout:
            assert time.monotonic() < ends, found
        assert found.returncode == 1
        assert "FAIL  endpoint main is not healthy: starting: " in found.stdout


def test_two_processes_are_compared_by_status_and_by_metrics(tmp_path: Path, directory: Path) -> None:
    for name in ("one", "two"):
        (directory / name).mkdir()
    one, two = Files(directory / "one"), Files(directory / "two")
    port = free_port()
    two.options["observability"] = {"http": {"address": f"127.0.0.1:{port}"}, "logging": {"format": "json"}}
    for files in (one, two):
        files.write()
    with one.run() as first, two.run() as second:
        assert first.until_ok() == second.until_ok()
        for files in (one, two):
            until_proven(files, "lab")
        sources = (f"unix://{directory}/one/admin.sock", f"http://127.0.0.1:{port}/metrics")
        agreed = keystead("status", "--from", *sources)
        assert agreed.stdout.endswith("all 2 nodes agree\n"), agreed.stdout
        assert agreed.returncode == 0
        two.write(two.document(epoch=2))
        second.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
        differing = keystead("status", "--from", *sources)
        assert differing.returncode == 1
        assert "different epochs are configured" in differing.stdout
        one.write(one.document(epoch=2))
        first.until_key_id(lambda key_id: key_id.startswith("ks1.e2."))
        done = keystead("rotate", "verify", "--epoch", 2, "--from", *sources)
        assert done.stdout.endswith("the rotation is complete on all 2 nodes\n"), done.stdout
        assert done.returncode == 0
