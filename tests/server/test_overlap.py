"""Two processes of one node over one state directory, as in a restart that starts the new one first."""

from __future__ import annotations

from pathlib import Path

from keystead._core import key_id_epoch
from keystead.host.state import StateDir
from support.process import Files
from support.serving import Client

SEED = bytes(range(32))


def test_an_old_and_a_new_process_read_each_other_and_the_newer_epoch_stays_on_disk(directory: Path) -> None:
    files = Files(directory)
    files.write()
    state = StateDir(directory / "state/main")
    with files.run(log="old") as old:
        old.until_ok()
        before = old.client.seal(SEED)
        files.config_name = "new.yaml"
        files.write(files.document(epoch=2))
        with files.run("--take-over", log="new") as new:
            new.until_event("kek.minted")
            # A client of before is the old one's for as long as its connection lasts.
            client = Client(new.address)
            after = client.seal(SEED)
            assert key_id_epoch(after.key_id) == 2
            on_disk = state.read()
            assert on_disk is not None
            assert on_disk.record.encoded == after.record
            # Each reads what the other writes, and the old one goes on under what it had.
            for caller in (old.client, client):
                assert caller.decrypt(before) == SEED
                assert caller.decrypt(after) == SEED
            assert old.client.seal(SEED).record == before.record

            assert old.stop() == 0
            assert client.decrypt(before) == SEED
            client.close()
            new.popen.kill()
            new.popen.wait()
    with files.run(log="next") as following:
        following.until_ok()
        assert following.client.seal(SEED).record == after.record
        assert following.client.decrypt(before) == SEED
        assert following.stop() == 0
