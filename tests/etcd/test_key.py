"""`keystead key list` and `key retire-check` on a real etcd, its snapshots, and what nodes say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etcd.given import Save, secret_key
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Wrap
from keystead.cli import main
from support.etcd_server import EtcdServer
from support.sealed import LocalKek, Seed, store_foreign, store_v1

OLD = Wrap("aws-kms", "arn:aws:kms:eu-west-1:111122223333:key/old", "", ROLE_ONLINE, b"blob")
NEW = Wrap("vault-transit", "transit/k8s", "3", ROLE_ONLINE, b"blob")
NEWER = Wrap("vault-transit", "transit/k8s", "4", ROLE_ONLINE, b"blob")
SAFE = Wrap("age-x25519", "age1safe", "", ROLE_RECOVERY, b"blob")
NAMES = {"aws-kms": "aws-old", "vault-transit": "bao", "age-x25519": "safe"}


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["key", *map(str, arguments)])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def stored(*keks: LocalKek, number: int = 2) -> dict[bytes, bytes]:
    """So many objects under each local KEK."""
    values = {}
    for index, kek in enumerate(keks):
        seed = Seed(kek)
        for key in (secret_key(f"{index}-{n}") for n in range(number)):
            values[key] = seed.store(key, b"{}")
    return values


def node(
    path: Path,
    active: Iterable[Wrap],
    decrypt: Iterable[Wrap] = (),
    *,
    down: Iterable[Wrap] = (),
    unopened: Iterable[Wrap] = (),
    age: float = 0,
    in_use: Iterable[Wrap] | None = None,
    reads: str | None = None,
) -> Path:
    """Write what `keystead status -o json` prints on a node, as far as it is read."""

    def key(wrap: Wrap, stage: str) -> dict[str, Any]:
        return {
            "name": NAMES[wrap.scheme],
            "provider": wrap.scheme,
            "ref": None if wrap in unopened else wrap.ref,
            "stage": stage,
            "role": "recovery" if wrap.role == ROLE_RECOVERY else "online",
            "up": wrap not in down,
            "reads": reads if wrap in decrypt else None,
        }

    wraps = [
        {"scheme": one.scheme, "ref": one.ref, "version": one.version, "role": "online"}
        for one in (active if in_use is None else in_use)
        if one.role == ROLE_ONLINE
    ]
    endpoint = {
        "name": "main",
        "keys": [*(key(one, "active") for one in active), *(key(one, "decrypt") for one in decrypt)],
        "record": {"wraps": wraps} if wraps else None,
    }
    status = {"apiVersion": "status.keystead.dev/v1alpha1", "kind": "Status", "node": path.stem}
    path.write_text(json.dumps({**status, "time": time.time() - age, "endpoints": [endpoint]}))
    return path


def check(server: EtcdServer | None, *more: str | Path, key: str = "aws-old") -> tuple[int, Any]:
    live = ("--etcd", server.url) if server else ()
    result = run("retire-check", key, *live, *more, "-o", "json")
    return result.exit_code, json.loads(result.stdout) if result.stdout else result.stderr


def froms(*nodes: Path) -> list[str]:
    return [word for one in nodes for word in ("--from", str(one))]


def test_a_key_that_objects_need_is_refused_until_they_are_rewritten(
    save: Save, one_server: EtcdServer, tmp_path: Path
) -> None:
    nodes = froms(*(node(tmp_path / f"cp-{n}.json", [NEW], [OLD]) for n in (1, 2)))
    alone, both = LocalKek(OLD), LocalKek(OLD, NEW, epoch=2)
    before = save({**stored(alone, both), secret_key("v1"): store_v1(alone, secret_key("v1"), b"{}")})
    code, answer = check(one_server, *nodes)
    assert (code, answer["verdict"]) == (4, "needed")
    (use,) = answer["stores"]
    assert (use["objects"], use["needed"], use["redundant"], use["live"]) == (5, 3, 2, True)
    assert answer["staying"] == [{"scheme": "vault-transit", "ref": "transit/k8s"}]

    backup = tmp_path / "backup.db"
    backup.write_bytes(before.read_bytes())
    save(stored(both, LocalKek(NEW, epoch=3)))
    code, answer = check(one_server, *nodes)
    assert (code, answer["verdict"], answer["needs"], answer["doubts"]) == (0, "free", [], [])
    code, answer = check(one_server, *nodes, "--snapshot", backup)
    assert code == 4
    assert answer["needs"] == [f"{backup}: 3 objects can only be opened with it"]

    text = run("retire-check", "aws-old", "--etcd", one_server.url, *nodes, "--snapshot", backup)
    assert text.exit_code == 4
    assert f"REFUSED  {backup}: 3 objects can only be opened with it" in text.stdout
    assert text.stdout.endswith("NOT to be retired\n")
    text = run("retire-check", "aws-old", "--etcd", one_server.url, *nodes)
    assert "no backup was named" in text.stdout
    assert "nothing that was checked needs it" in text.stdout


def test_a_key_that_a_node_encrypts_under_is_needed_though_nothing_stored_is_under_it(
    save: Save, one_server: EtcdServer, tmp_path: Path
) -> None:
    save(stored(LocalKek(NEW)))
    good = node(tmp_path / "cp-1.json", [NEW], [OLD])
    for late in (
        node(tmp_path / "cp-2.json", [OLD, NEW]),
        node(tmp_path / "cp-3.json", [NEW], [OLD], in_use=[OLD, NEW]),
        node(tmp_path / "cp-4.json", [NEW, OLD], in_use=[NEW]),
    ):
        code, answer = check(one_server, *froms(good, late))
        assert code == 4
        assert [one["use"] is None for one in answer["nodes"]] == [True, False]


def test_what_was_not_asked_is_not_assumed(save: Save, one_server: EtcdServer, tmp_path: Path) -> None:
    snapshot = save(stored(LocalKek(NEW)))
    good = node(tmp_path / "good.json", [NEW], [OLD])
    full = f"aws-kms:{OLD.ref}"
    for arguments, doubt in [
        (["--etcd", one_server.url], "nodes were not checked"),
        (["--snapshot", str(snapshot), *froms(good)], "the running etcd was not checked"),
        (
            ["--etcd", one_server.url, *froms(node(tmp_path / "old.json", [NEW], [OLD], age=1000))],
            "its status is older than 15 minutes",
        ),
        (
            ["--etcd", one_server.url, *froms(node(tmp_path / "future.json", [NEW], [OLD], age=-1000))],
            "its status is older than 15 minutes",
        ),
        (
            ["--etcd", one_server.url, *froms(node(tmp_path / "closed.json", [NEW], [OLD], unopened=[OLD]))],
            "key aws-old could not be opened there",
        ),
        (
            ["--etcd", one_server.url, *froms(node(tmp_path / "new.json", [], [NEW]))],
            "endpoint main has no local KEK yet",
        ),
        (["--etcd", one_server.url, *froms(good, tmp_path / "absent.json")], "absent.json: No such file"),
    ]:
        code, answer = check(None, *arguments, key=full)
        assert (code, answer["verdict"]) == (3, "unknown"), arguments
        assert any(doubt in one for one in answer["doubts"]), answer["doubts"]
    assert check(one_server, *froms(good), key=full)[0] == 0
    for text in ("{", "[]", '{"apiVersion": "status.keystead.dev/v1alpha1", "kind": "Status"}', '{"kind": "Pod"}'):
        (tmp_path / "bad.json").write_text(text)
        code, answer = check(one_server, *froms(good, tmp_path / "bad.json"), key=full)
        assert code == 3, text
        assert any("bad.json: " in one for one in answer["doubts"])
    code, answer = check(one_server, *froms(good), "--from", "http://127.0.0.1:9853/metrics", key=full)
    assert code == 3
    assert any("metrics do not tell refs" in one for one in answer["doubts"])


def test_only_keys_that_stay_on_every_node_and_work_count_as_another_way(
    save: Save, one_server: EtcdServer, tmp_path: Path
) -> None:
    save(stored(LocalKek(OLD, NEW, SAFE)))

    def needed(*nodes: Path, more: Iterable[str] = ()) -> int:
        return int(check(one_server, *froms(*nodes), *more, key=f"aws-kms:{OLD.ref}")[1]["stores"][0]["needed"])

    good = node(tmp_path / "good.json", [NEW], [OLD, SAFE])
    assert needed(good) == 0
    assert needed(good, node(tmp_path / "lacks.json", [SAFE], [OLD], in_use=[])) == 2
    assert needed(good, node(tmp_path / "down.json", [NEW], [OLD], down=[NEW])) == 2
    assert needed(node(tmp_path / "recovery.json", [SAFE], [OLD], in_use=[])) == 2
    assert needed() == 2
    assert needed(more=["--keep", "vault-transit:transit/k8s"]) == 0
    assert needed(more=["--keep", f"aws-kms:{OLD.ref}"]) == 2


def test_one_version_of_a_key_can_be_retired_while_the_key_stays(
    save: Save, one_server: EtcdServer, tmp_path: Path
) -> None:
    save(stored(LocalKek(NEW), LocalKek(NEWER, epoch=2)))
    nodes = froms(node(tmp_path / "cp.json", [NEWER]))
    code, answer = check(one_server, *nodes, key="bao@3")
    assert code == 4
    assert answer["stores"][0]["needed"] == 2
    assert answer["key"] == {"scheme": "vault-transit", "ref": "transit/k8s", "version": "3"}
    assert check(one_server, *nodes, key="transit/k8s@4")[0] == 4
    assert check(one_server, *nodes, key="bao")[1]["stores"][0]["needed"] == 4
    save(stored(LocalKek(NEWER, epoch=2)))
    assert check(one_server, *nodes, key="bao@3")[0] == 0
    code, answer = check(one_server, *nodes, key="bao@4")
    assert (code, answer["nodes"][0]["use"]) == (4, "its endpoint main encrypts under it")


def test_a_name_that_nothing_knows_is_no_free_key(save: Save, one_server: EtcdServer, tmp_path: Path) -> None:
    save(stored(LocalKek(NEW)))
    code, text = check(one_server, *froms(node(tmp_path / "cp.json", [NEW])), key="aws-odl")
    assert code == 3
    assert "no record and no node names a key aws-odl; named are: bao, vault-transit:transit/k8s" in text
    other = Wrap("vault-transit", "transit/other", "1", ROLE_ONLINE, b"blob")
    two = froms(node(tmp_path / "cp.json", [NEW]), node(tmp_path / "cp2.json", [other]))
    code, text = check(one_server, *two, key="bao")
    assert code == 3
    assert "bao may be each of vault-transit:transit/k8s, vault-transit:transit/other" in text


def test_other_plugins_and_damaged_values_are_named(save: Save, one_server: EtcdServer, tmp_path: Path) -> None:
    values = {**stored(LocalKek(NEW)), secret_key("f"): store_foreign(), secret_key("d"): b"k8s:enc:kms:v2:x:\xff"}
    save(values)
    nodes = froms(node(tmp_path / "cp.json", [NEW], [OLD]))
    code, answer = check(one_server, *nodes)
    assert (code, answer["stores"][0]["foreign"], answer["stores"][0]["damaged"]) == (3, 1, 1)
    text = run("retire-check", "aws-old", "--etcd", one_server.url, *nodes).stdout
    assert "1 objects are under other KMS plugins, which may use the same remote key" in text


def test_a_key_that_reads_for_another_plugin_is_in_doubt_while_anything_of_another_plugin_is_left(
    save: Save, one_server: EtcdServer, tmp_path: Path
) -> None:
    new = LocalKek(NEW)
    save({**stored(new), secret_key("theirs"): store_foreign()})
    for reads, verdict in ((None, "free"), ("aws-encryption-provider", "unknown")):
        one = node(tmp_path / "a", [NEW], [OLD], reads=reads)
        code, answer = check(one_server, *froms(one))
        assert (code, answer["verdict"]) == ((3, verdict) if reads else (0, verdict))
        assert any("reads what aws-encryption-provider wrote" in doubt for doubt in answer["doubts"]) == bool(reads)
    one_server.delete(secret_key("theirs"))
    assert check(one_server, *froms(one))[0] == 0, "nothing of another plugin is left"


def test_an_etcd_that_is_away_or_empty_proves_nothing(save: Save, one_server: EtcdServer, tmp_path: Path) -> None:
    nodes = froms(node(tmp_path / "cp.json", [NEW], [OLD]))
    assert run("retire-check", "aws-old", "--etcd", "http://127.0.0.1:9", *nodes).exit_code == 3
    assert run("retire-check", "aws-old", "--snapshot", tmp_path / "none", *nodes).exit_code == 3
    assert run("retire-check", "aws-old", *nodes).exit_code == 2
    save({})
    assert run("retire-check", "aws-old", "--etcd", one_server.url, *nodes).exit_code == 3


@pytest.mark.parametrize("live", [True, False])
def test_the_list_of_keys(save: Save, one_server: EtcdServer, tmp_path: Path, live: bool) -> None:
    snapshot = save(stored(LocalKek(OLD), LocalKek(OLD, NEW, SAFE, epoch=2), LocalKek(NEWER, epoch=3)))
    unused = Wrap("gcp-kms", "projects/p", "", ROLE_ONLINE, b"blob")
    NAMES["gcp-kms"] = "gcp"
    where = ("--etcd", one_server.url) if live else ("--snapshot", str(snapshot))
    nodes = froms(node(tmp_path / "a.json", [NEWER], [OLD, unused]), node(tmp_path / "b.json", [NEWER]))
    found = json.loads(run("list", *where, *nodes, "-o", "json").stdout)["keys"]
    rows = {
        (
            one["names"][0] if one["names"] else None,
            one["scheme"],
            one["version"],
            one["role"],
            one["objects"],
            one["objectsThatNeedIt"],
            one["nodesEncrypting"],
        )
        for one in found
    }
    assert rows == {
        (None, "age-x25519", None, "recovery", 2, 0, 0),
        ("aws-old", "aws-kms", None, "online", 4, 2, 0),
        ("bao", "vault-transit", "3", "online", 2, 0, 0),
        ("bao", "vault-transit", "4", "online", 2, 2, 2),
        ("gcp", "gcp-kms", None, "online", 0, 0, 0),
    }
    text = run("list", *where).stdout
    assert "aws-kms" in text
    assert run("list").exit_code == 2
    assert run("list", *where, "--from", tmp_path / "absent").exit_code == 3


def test_several_nodes_may_follow_one_from_as_with_status(one_server: EtcdServer, tmp_path: Path) -> None:
    nodes = [node(tmp_path / f"{name}.json", [NEW], [OLD]) for name in ("a", "b")]
    where = ("--etcd", one_server.url)
    assert run("list", *where, "--from", *nodes).stdout == run("list", *where, *froms(*nodes)).stdout
    together, apart = (run("retire-check", "aws-old", *where, *many) for many in (("--from", *nodes), froms(*nodes)))
    assert (together.exit_code, together.stdout) == (apart.exit_code, apart.stdout)
    for command in (("list",), ("retire-check", "aws-old")):
        refused = run(*command, *where, *nodes)
        assert (refused.exit_code, "name nodes with --from" in refused.stderr) == (2, True)
