"""Whether nodes agree, told from their status documents and from their metrics alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keystead.host.report import Report
from keystead.operate import exposition as metrics_of_a_node
from keystead.operate.admin import CannotTell
from keystead.operate.fleet import MAX_AGE, Verdict, judge
from keystead.operate.nodes import Node, of_document
from support.nodes import STANDING, THEN, document, endpoint, exposition, key

OLD, NEW = key("a"), key("b", "decrypt")


def from_document(name: str, *reports: Report, **changes: Any) -> Node:
    return of_document(document(*reports, node=name, **changes), f"{name}.json", THEN + 5)


def from_metrics(name: str, *reports: Report, **changes: Any) -> Node:
    return metrics_of_a_node.node(exposition(*reports, **changes), f"http://{name}/metrics")


BOTH = pytest.mark.parametrize("read", [from_document, from_metrics])
Read = Callable[..., Node]


def texts(verdict: Verdict) -> list[str]:
    return [str(one) for one in verdict.differences]


@BOTH
def test_nodes_that_say_the_same_agree(read: Read) -> None:
    verdict = judge([read(name, endpoint(OLD)) for name in ("cp-1", "cp-2", "cp-3")])
    assert verdict.agree
    assert (verdict.differences, verdict.unknown, verdict.notes) == ([], [], [])


def test_documents_and_metrics_may_be_mixed() -> None:
    verdict = judge([from_document("cp-1", endpoint(OLD, NEW)), from_metrics("cp-2", endpoint(OLD, NEW))])
    assert verdict.agree
    assert judge([from_document("cp-1", endpoint(OLD)), from_metrics("cp-2", endpoint(OLD, epoch=2))]).differences


@BOTH
def test_a_new_key_that_all_have_proven_may_become_active(read: Read) -> None:
    verdict = judge([read(name, endpoint(OLD, NEW)) for name in ("cp-1", "cp-2")])
    assert verdict.agree
    assert verdict.notes == ["main/b is proven on every node and may become active"]


@BOTH
def test_a_soak_that_is_not_over_is_told(read: Read) -> None:
    soaking = key("b", "decrypt", soak_left=600.0)
    verdict = judge([read("cp-1", endpoint(OLD, NEW)), read("cp-2", endpoint(OLD, soaking))])
    assert verdict.agree
    assert verdict.notes == ["main/b is proven on every node and may become active in 10 min"]


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {"proven": False, "proven_at": None, "last_success": None},
        {"up": False, "error": "key b: unwrap: 403 permission denied"},
    ],
)
def test_a_key_that_one_node_has_not_proven_is_the_barrier(read: Read, changes: dict[str, Any]) -> None:
    unproven = key("b", "decrypt", **changes)
    verdict = judge([read("cp-1", endpoint(OLD, NEW)), read("cp-2", endpoint(OLD, unproven))])
    (difference,) = verdict.differences
    assert (difference.where, difference.danger) == ("main/b", False)
    assert difference.what.startswith("not proven on cp-2: ")
    assert "let no node have it active" in difference.todo
    assert verdict.notes == []


@BOTH
def test_a_key_that_writes_on_one_node_and_is_unknown_to_another_is_a_danger_and_comes_first(read: Read) -> None:
    ahead = endpoint(key("b"), key("a", "decrypt"), epoch=2)
    verdict = judge([read("cp-1", ahead), read("cp-2", endpoint(OLD)), read("cp-3", endpoint(OLD, NEW))])
    first = verdict.differences[0]
    assert (first.where, first.danger) == ("main/b", True)
    assert first.what == "cp-2 cannot read what cp-1 writes: it has no such key"
    assert "add it there with stage decrypt, now: cp-2" in first.todo
    assert {one.where for one in verdict.differences} == {"main/a", "main/b", "main"}
    assert any("different epochs are configured: 2 on cp-1, 1 on cp-2 and cp-3" in text for text in texts(verdict))


@BOTH
def test_a_key_that_writes_on_one_node_and_is_unproven_on_another_is_a_danger(read: Read) -> None:
    ahead = endpoint(key("b"), key("a", "decrypt"), epoch=2)
    broken = key("b", "decrypt", up=False, proven=False, proven_at=None, error="key b: unwrap: denied")
    verdict = judge([read("cp-1", ahead), read("cp-2", endpoint(OLD, broken))])
    assert [one.where for one in verdict.differences if one.danger] == ["main/b"]


@BOTH
def test_a_recovery_key_has_nothing_to_prove(read: Read) -> None:
    by_hand = key("safe", role="recovery", proven=False, proven_at=None, last_success=None, since=None)
    assert judge([read(name, endpoint(OLD, by_hand)) for name in ("cp-1", "cp-2")]).agree


@BOTH
def test_different_key_ids_under_one_epoch_come_from_different_versions(read: Read) -> None:
    verdict = judge([read("cp-1", endpoint(OLD)), read("cp-2", endpoint(key("a", version="2")))])
    (difference,) = verdict.differences
    assert difference.what.startswith("different key_ids: ")
    assert difference.what.endswith("a is in version 1 on cp-1, 2 on cp-2")
    assert "finds a new version by itself" in difference.todo


@BOTH
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"refused": "epoch 1 is below 2: set epoch to 3"}, "cp-2 refuses its configuration: "),
        ({"overdue": "key a: away"}, "cp-2 has an old local KEK: "),
        ({"healthz": "remote denies key: no"}, "cp-2 is not healthy: "),
    ],
)
def test_a_node_that_is_not_well_is_named(read: Read, changes: dict[str, Any], told: str) -> None:
    verdict = judge([read("cp-1", endpoint(OLD)), read("cp-2", endpoint(OLD, **changes))])
    (difference,) = verdict.differences
    assert difference.where == "main"
    assert difference.what.startswith(told)


@BOTH
def test_an_endpoint_that_one_node_lacks_is_named(read: Read) -> None:
    verdict = judge([read("cp-1", endpoint(OLD), endpoint(OLD, name="second")), read("cp-2", endpoint(OLD))])
    assert texts(verdict) == ["second: cp-2 has no such endpoint: give all nodes the same configuration"]


@BOTH
def test_a_configuration_that_a_node_does_not_take_is_named(read: Read) -> None:
    from dataclasses import replace

    refused = replace(STANDING, problems=("config.yaml:3:1: stateDir: unknown field",))
    verdict = judge([read("cp-1", endpoint(OLD)), read("cp-2", endpoint(OLD), standing=refused)])
    (difference,) = verdict.differences
    assert difference.where == "cp-2"
    assert difference.what.startswith("its configuration file is not in use: ")


def test_one_name_for_two_remote_keys_is_told() -> None:
    other = key("a", ref="arn:aws:kms:eu-west-1:1:key/2")
    verdict = judge([from_document("cp-1", endpoint(OLD)), from_document("cp-2", endpoint(other))])
    assert any("different ref: a on cp-1, arn:aws:kms:eu-west-1:1:key/2 on cp-2" in text for text in texts(verdict))


def test_another_cluster_label_is_told() -> None:
    verdict = judge([from_document("cp-1", endpoint(OLD)), from_document("cp-2", endpoint(OLD), cluster="lab")])
    assert any(text.startswith("cluster: prod on cp-1, lab on cp-2") for text in texts(verdict))


def test_another_release_is_a_note_and_no_difference() -> None:
    verdict = judge([from_document("cp-1", endpoint(OLD)), from_document("cp-2", endpoint(OLD), version="0.2.0")])
    assert verdict.agree
    assert verdict.notes == ["different releases of keystead: 0.1.0 on cp-1, 0.2.0 on cp-2"]


def test_what_was_said_too_long_ago_or_twice_by_one_node_is_not_known() -> None:
    old = of_document(document(endpoint(OLD), node="cp-1"), "x", THEN + MAX_AGE + 1)
    verdict = judge([old, from_document("cp-2", endpoint(OLD)), from_document("cp-2", endpoint(OLD))])
    assert not verdict.agree
    assert verdict.differences == []
    assert verdict.unknown == [
        "cp-1: said this 15 min ago: fetch it anew",
        "cp-2: is given twice: give one status of each node",
    ]


@BOTH
def test_a_rotation_is_complete_when_every_node_encrypts_under_the_epoch_that_is_configured(read: Read) -> None:
    done, waiting = endpoint(OLD, epoch=2), endpoint(OLD, epoch=2, in_use=1)
    assert judge([read("cp-1", done), read("cp-2", done)], rotated=True, epoch=2).agree
    (difference,) = judge([read("cp-1", waiting), read("cp-2", waiting)], rotated=True).differences[:1]
    assert difference.what == "cp-1 encrypts under epoch 1 still"
    told = texts(judge([read("cp-1", done), read("cp-2", done)], rotated=True, epoch=3))
    assert told[0].startswith("main: cp-1 is configured for epoch 2 and not 3")
    starting = endpoint(OLD, key_id="", record=None)
    assert "encrypts under epoch none still" in texts(judge([read("cp-1", starting)], rotated=True))[0]


@pytest.mark.parametrize("missing", ["node", "time", "endpoints", "configuration"])
def test_a_document_without_a_part_is_refused_and_one_with_more_is_read(missing: str) -> None:
    good = document(endpoint(OLD))
    assert of_document(good | {"later": 1}, "x", THEN).name == "cp-1"
    with pytest.raises(CannotTell, match=r"x: a status without '.*': written by another release\?"):
        of_document({name: value for name, value in good.items() if name != missing}, "x", THEN)


@pytest.mark.parametrize("text", ["", "<html>", "up 1\n", 'keystead_build_info{version="1"} 1\nbroken{'])
def test_a_page_that_is_no_exposition_of_keystead_is_refused(text: str) -> None:
    with pytest.raises(CannotTell, match="not the metrics of a keystead"):
        metrics_of_a_node.node(text, "http://cp-1/metrics")
