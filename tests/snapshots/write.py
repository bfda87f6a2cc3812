"""Writes the files of this folder with real etcds, once for a release: cd tests && python -m snapshots.write

The files are kept for good: every later Keystead must read them.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import tempfile
from pathlib import Path

from support.etcd_server import EtcdServer, Table, servers, serving

HERE = Path(__file__).parent


def write_few(server: EtcdServer) -> None:
    """So few keys that bbolt keeps their bucket inside of the page that names it."""
    server.put(b"/registry/secrets/default/a", b"first")
    server.put(b"/registry/secrets/default/a", b"second")
    server.put(b"/registry/secrets/default/b", b"")


def write_many(server: EtcdServer) -> None:
    """Branches, values over several pages, deletions, a key made anew, a compaction, changes in one revision."""
    rnd = random.Random(3)
    keys = [f"/registry/secrets/ns{n % 3}/name-{n:02}".encode() for n in range(40)]
    for n in range(150):
        key = rnd.choice(keys)
        if rnd.random() < 0.25:
            server.delete(key)
        else:
            server.put(key, rnd.randbytes(9000) if n % 50 == 0 else rnd.randbytes(rnd.randrange(120)))
        if n == 70:
            server.compact(server.revision() - 10)
    server.transact((keys[0], b"together"), (keys[1], b"with this"), (keys[2], None))


def lines(table: Table) -> str:
    return "".join(
        f"{key.hex()} {modified} {created} {hashlib.sha256(value).hexdigest()}\n"
        for key, (value, modified, created) in sorted(table.items())
    )


def main() -> None:
    for program in servers().values():
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"etcd Version: (\S+)", told)
        assert found, told
        for name, write in (("few", write_few), ("many", write_many)):
            with tempfile.TemporaryDirectory() as directory, serving(program, Path(directory)) as server:
                write(server)
                path = server.snapshot(HERE / f"etcd-{found[1]}-{name}.db")
                path.with_suffix(".table").write_text(lines(server.table()))


if __name__ == "__main__":
    main()
