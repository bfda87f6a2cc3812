"""The driver that kills an endpoint at each step of two mints: `endpoint_runner ROOT KEY`.

Its remote key is KEY in hexadecimal digits. Each child prints what it answered to Encrypt, one line of JSON each.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path

import structlog

from keystead import errors
from support.fakes import FakeProvider, members_of, rig_of, target_of
from support.killed import for_each_call
from support.messages import encrypt


def remote_key(key: str) -> FakeProvider:
    """The same remote key in each process."""
    provider = FakeProvider("k")
    provider.versions["1"] = bytes.fromhex(key)
    return provider


def run(directory: Path, key: str) -> None:
    """Start at epoch 1, then raise it to 2; answer Encrypt all the while."""
    members = members_of(remote_key(key))
    rig = rig_of(target_of(members), directory / "main")
    done = threading.Event()

    def serve() -> None:
        last = False
        while not last:
            last = done.is_set()
            try:
                answer = encrypt(rig.endpoint)
            except errors.NotReady:
                continue
            line = {
                "directory": directory.name,
                "ciphertext": answer.ciphertext.hex(),
                "key_id": answer.key_id,
                "record": answer.record.hex(),
            }
            # With its end in one write: a line is there as a whole or not at all.
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            done.wait(0.002)

    client = threading.Thread(target=serve)
    client.start()
    rig.tend()
    rig.tend(target_of(members, epoch=2))
    done.set()
    client.join()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for_each_call(lambda directory: run(directory, sys.argv[2]), Path(sys.argv[1]))
