"""A process without a file descriptor left goes on with what it has, and with everything once there are some again."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from keystead._core import key_id_epoch
from support.http import get
from support.process import PATIENCE, Files, Process
from support.serving import Client

LIMIT = 64
SEED = bytes(range(32))
LIMITED = ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh"]


def descriptors(process: Process) -> int:
    return len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))


@contextlib.contextmanager
def exhausted(process: Process, files: Files) -> Iterator[None]:
    """Take every descriptor that a process may have, by connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(2 * LIMIT):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                silent.connect(str(files.socket))
        ends = time.monotonic() + PATIENCE
        while descriptors(process) < LIMIT:
            assert time.monotonic() < ends, f"it has {descriptors(process)} descriptors of {LIMIT}"
            time.sleep(0.05)
        yield


def test_without_descriptors_an_open_connection_is_served_and_all_is_well_once_there_are_some(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run(under=LIMITED) as process:
        key_id = process.until_ok()
        before = process.client.seal(SEED)
        with exhausted(process, files):
            for _ in range(20):
                assert process.client.status().key_id == key_id
                sealed = process.client.seal(SEED)
                assert process.client.decrypt(sealed) == SEED
                assert process.client.decrypt(before) == SEED
            assert process.popen.poll() is None
        again = Client(process.address)
        assert again.decrypt(before) == SEED
        again.close()
        assert process.stop() == 0


def test_an_epoch_that_is_raised_without_descriptors_is_taken_up_and_written_in_the_end(directory: Path) -> None:
    files = Files(directory)
    files.write()
    with files.run(under=LIMITED) as process:
        process.until_ok()
        before = process.client.seal(SEED)
        with exhausted(process, files):
            files.write(files.document(epoch=2))
            assert process.client.decrypt(before) == SEED
            assert process.client.decrypt(process.client.seal(SEED)) == SEED
        process.until_key_id(lambda key_id: key_id_epoch(key_id) == 2)
        after = process.client.seal(SEED)
        ends = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                (main,) = json.loads(get(directory / "admin.sock", "/status")[1])["endpoints"]
                if main["record"]["persisted"]:
                    break
            assert time.monotonic() < ends, process.log
            time.sleep(0.1)
        process.popen.kill()
        process.popen.wait()
    with files.run(log="after") as process:
        process.until_ok()
        assert process.client.decrypt(before) == SEED
        assert process.client.seal(SEED).record == after.record
        assert process.stop() == 0
