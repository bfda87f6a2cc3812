"""An endpoint that is killed at any moment has answered nothing that the next process cannot decrypt."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keystead._core import Record, StateFile, key_id_epoch
from keystead.host.state import StateDir
from support.endpoint_runner import remote_key
from support.fakes import members_of, rig_of, target_of
from support.killed import run_driver
from support.messages import SEED, Ciphertext, decrypt, encrypt


def disk_of(directory: Path) -> StateFile | None:
    return StateDir(directory / "main").read()


def test_whatever_was_answered_before_a_kill_decrypts_in_the_next_process(tmp_path: Path) -> None:
    key = os.urandom(32).hex()
    answered: dict[str, list[Ciphertext]] = {}
    for line in run_driver("support.endpoint_runner", tmp_path, key).splitlines():
        fields = json.loads(line)
        ciphertext = Ciphertext(bytes.fromhex(fields["ciphertext"]), fields["key_id"], bytes.fromhex(fields["record"]))
        answered.setdefault(fields["directory"], []).append(ciphertext)

    survivor = int((tmp_path / "survivor").read_text())
    assert survivor > 20, "two mints make more calls than that"
    epochs_reached: set[int] = set()
    for number in range(1, survivor + 1):
        directory, ciphertexts = tmp_path / str(number), answered.get(str(number), [])
        reached = max((key_id_epoch(one.key_id) for one in ciphertexts), default=0)
        epochs_reached.add(reached)
        disk = disk_of(directory)
        if reached:
            assert disk is not None, "what was used had been written"
            assert key_id_epoch(disk.key_id) >= reached
            last = Record.parse(ciphertexts[-1].record)
            assert last == disk.record or key_id_epoch(disk.key_id) > reached
        # The next process has the old configuration, as after a reload that nobody wrote down.
        rig = rig_of(target_of(members_of(remote_key(key))), directory / "main")
        rig.tend()
        assert rig.healthz == "ok"
        assert key_id_epoch(rig.key_id) == (key_id_epoch(disk.key_id) if disk is not None else 1)
        assert {decrypt(rig.endpoint, one) for one in ciphertexts} <= {SEED}
        assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
        rig.endpoint.stop()
    assert epochs_reached == {0, 1, 2}
