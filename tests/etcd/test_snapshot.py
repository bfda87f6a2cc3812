"""Snapshots of real etcds, compared with what the same etcd answers."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from keystead._core import Snapshot, SnapshotError
from support.etcd_server import EtcdServer, Table

CHANGES = 4300


def table_of(path: Path) -> Table:
    entries = list(Snapshot(path).latest())
    table = {key: (value, modified, created) for key, value, modified, created in entries}
    assert len(table) == len(entries)
    return table


def change_at_random(server: EtcdServer, rnd: random.Random, changes: int = CHANGES) -> None:
    """Put, overwrite and delete, also several keys in one revision; compact and defragment on the way."""
    keys = [f"/registry/secrets/ns{n % 7}/name-{n}".encode() for n in range(900)]
    for n in range(changes):
        key = rnd.choice(keys)
        match rnd.random():
            case drawn if drawn < 0.25:
                server.delete(key)
            case drawn if drawn < 0.3:
                a, b, c = rnd.sample(keys, 3)
                server.transact((a, rnd.randbytes(30)), (b, None), (c, b""))
            case _:
                server.put(key, rnd.randbytes(min(int(40 * rnd.paretovariate(0.6)), 70_000)))
        if n in (1500, 3000):
            server.compact(server.revision() - 200)
        if n == 2000:
            server.defragment()


@pytest.mark.timeout(300)
def test_a_store_of_many_changes_is_read_as_etcd_answers(server: EtcdServer, tmp_path: Path) -> None:
    change_at_random(server, random.Random(7))
    expected = server.table()
    snapshot = server.snapshot(tmp_path / "snapshot.db")
    assert len(expected) > 500
    assert max(len(value) for value, _, _ in expected.values()) > 60_000
    assert Snapshot(snapshot).has_checksum
    assert table_of(snapshot) == expected

    latest = Snapshot(snapshot).latest()
    assert sum(1 for _ in latest) == len(expected)
    assert latest.revision == server.revision()
    assert latest.revisions > len(expected)
    _cut_at_every_page(snapshot, tmp_path / "cut.db", expected)


def _cut_at_every_page(snapshot: Path, cut: Path, expected: Table) -> None:
    """A file that lacks pages is refused; one that lacks its checksum alone is told apart, and complete."""
    size = snapshot.stat().st_size
    shutil.copyfile(snapshot, cut)
    refused = 0
    for length in range(size - 32, -1, -4096):
        with cut.open("r+b") as file:
            file.truncate(length)
        if length == size - 32:
            assert not Snapshot(cut).has_checksum
            assert table_of(cut) == expected
        else:
            with pytest.raises(SnapshotError, match="cut off" if length else "it is empty"):
                Snapshot(cut)
            refused += 1
    assert refused == (size - 32) // 4096


def test_a_members_own_database_is_read_and_told_apart(server: EtcdServer, tmp_path: Path) -> None:
    change_at_random(server, random.Random(8), 200)
    expected = server.table()
    # etcd writes to the file within 100 ms; the answer to this call comes after that.
    server.defragment()
    copy = shutil.copyfile(server.database, tmp_path / "copy.db")
    assert not Snapshot(copy).has_checksum
    assert table_of(copy) == expected


def test_changed_bytes_are_always_noticed_in_a_snapshot(server: EtcdServer, tmp_path: Path) -> None:
    change_at_random(server, random.Random(9), 100)
    content = bytearray(server.snapshot(tmp_path / "snapshot.db").read_bytes())
    changed, rnd = tmp_path / "changed.db", random.Random(10)
    for _ in range(300):
        at = rnd.randrange(len(content))
        content[at] ^= 1 << rnd.randrange(8)
        changed.write_bytes(content)
        with pytest.raises(SnapshotError):
            table_of(changed)
        content[:] = (tmp_path / "snapshot.db").read_bytes()


def test_an_empty_store_is_an_empty_table(server: EtcdServer, tmp_path: Path) -> None:
    assert table_of(server.snapshot(tmp_path / "snapshot.db")) == {} == server.table()


def test_a_file_that_changes_while_it_is_read_is_refused(server: EtcdServer, tmp_path: Path) -> None:
    for n in range(20):
        server.put(b"/registry/secrets/default/%d" % n, bytes(2000))
    copy = tmp_path / "copy.db"
    server.defragment()
    before = server.database.read_bytes()
    copy.write_bytes(before)
    latest = Snapshot(copy).latest()
    next(latest)
    server.put(b"/registry/secrets/default/more", bytes(2000))
    server.defragment()
    assert server.database.read_bytes()[:8192] != before[:8192]
    with copy.open("r+b") as file:
        file.write(server.database.read_bytes()[:8192])
    with pytest.raises(SnapshotError, match="was changed while it was read"):
        list(latest)


def test_what_is_no_snapshot_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", bytes(4096), b"apiVersion: v1\nkind: Secret\n" * 500):
        path.write_bytes(content)
        with pytest.raises(SnapshotError, match="not an etcd snapshot"):
            Snapshot(path)
    with pytest.raises(FileNotFoundError):
        Snapshot(tmp_path / "absent")
    with pytest.raises(OSError, match="directory"):
        Snapshot(tmp_path)
