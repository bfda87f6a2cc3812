"""The plan of a rotation: its steps in their order, each a configuration that lints, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ruamel.yaml import YAML

from keystead.config import Configuration, load_text
from keystead.operate.rotation import Impossible, Step, Wish, plan


def configuration(*members: dict[str, str], extra: Sequence[str] = (), **changes: Any) -> Configuration:
    names = [member["key"] for member in members]
    endpoint = {"name": "main", "socket": "unix:///run/k/kms.sock", "epoch": 2, "members": list(members)}
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": "prod",
        "keys": [_entry(name) for name in (*names, *extra)],
        "endpoints": [endpoint | changes],
    }
    return load_text(json.dumps(document), "test")


def _entry(name: str) -> dict[str, str]:
    if name == "safe":
        recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
        return {"name": name, "provider": "age-x25519", "recipient": recipient}
    return {"name": name, "provider": "local", "keyFile": f"/etc/keystead/{name}.key"}


def active(key: str) -> dict[str, str]:
    return {"key": key, "stage": "active"}


def decrypt(key: str) -> dict[str, str]:
    return {"key": key, "stage": "decrypt"}


def stages(step: Step) -> tuple[int, list[tuple[str, str]]]:
    """The epoch and the members that a step wants."""
    (endpoint,) = YAML(typ="safe").load(step.change)["endpoints"]
    assert endpoint["name"] == "main"
    return endpoint["epoch"], [(member["key"], member["stage"]) for member in endpoint["members"]]


def titles(steps: Sequence[Step]) -> list[str]:
    return [step.title for step in steps]


REWRITE = "Rewrite what is stored"


def test_a_key_is_replaced_by_letting_the_new_one_decrypt_everywhere_first() -> None:
    steps = plan(configuration(active("a"), extra=["b"]), "main", Wish(("b",), ("a",)))
    assert titles(steps) == [
        "Let b decrypt",
        "Let b encrypt, let a only decrypt",
        REWRITE,
        "Prove that nothing needs a any more",
        "Take a out of members and keys",
    ]
    assert [stages(step) for step in steps if step.change] == [
        (2, [("a", "active"), ("b", "decrypt")]),
        (3, [("b", "active"), ("a", "decrypt")]),
        (3, [("b", "active")]),
    ]
    assert "may become active" in steps[0].wait[0]
    assert "15 min, its soak" in steps[0].wait[1]
    assert "ks1.e3." in steps[1].wait[0]
    assert "merges no seeds" in steps[2].wait[0]
    assert [step.where for step in steps if not step.change] == ["once", "once"]


def test_a_key_is_added_beside_the_others() -> None:
    steps = plan(configuration(active("a"), extra=["b"]), "main", Wish(("b",)))
    assert titles(steps) == ["Let b decrypt", "Let b encrypt", REWRITE]
    assert stages(steps[1]) == (3, [("a", "active"), ("b", "active")])


def test_a_key_that_is_not_configured_yet_gets_a_place_for_its_entry() -> None:
    first = plan(configuration(active("a")), "main", Wish(("b",)))[0]
    assert YAML(typ="safe").load(first.change)["keys"] == [{"name": "b", "provider": "..."}]


def test_a_key_that_decrypts_already_has_only_to_be_waited_for() -> None:
    steps = plan(configuration(active("a"), decrypt("b")), "main", Wish(("b",), ("a",)))
    assert titles(steps)[0] == "Let b decrypt, which the configuration has already"
    assert (steps[0].change, steps[0].back) == ("", "")
    assert steps[0].wait


def test_an_active_key_is_dropped_by_letting_it_only_decrypt_first() -> None:
    steps = plan(configuration(active("a"), active("b"), active("c")), "main", Wish(drop=("a",)))
    assert titles(steps)[0] == "Let a only decrypt"
    assert stages(steps[0]) == (3, [("b", "active"), ("c", "active"), ("a", "decrypt")])
    assert stages(steps[-1]) == (3, [("b", "active"), ("c", "active")])


def test_a_key_that_only_decrypts_is_dropped_under_the_same_epoch_once_nothing_needs_it() -> None:
    steps = plan(configuration(active("b"), decrypt("a")), "main", Wish(drop=("a",)))
    assert titles(steps) == ["Prove that nothing needs a any more", "Take a out of members and keys"]
    assert stages(steps[1]) == (2, [("b", "active")])


def test_without_a_wish_the_epoch_is_raised_and_all_is_rewritten() -> None:
    steps = plan(configuration(active("a")), "main", Wish())
    assert titles(steps) == ["Raise the epoch", REWRITE]
    assert stages(steps[0]) == (3, [("a", "active")])


def test_a_version_is_pinned_under_a_new_epoch() -> None:
    steps = plan(configuration(active("a")), "main", Wish(pin={"a": "3"}))
    assert titles(steps) == ["Keep a to version 3", REWRITE]
    assert YAML(typ="safe").load(steps[0].change.replace(" ...,", ""))["keys"] == [{"name": "a", "version": "3"}]


def test_a_recovery_key_is_active_at_once_and_goes_at_once() -> None:
    recovery = active("safe") | {"role": "recovery"}
    steps = plan(configuration(active("a"), extra=["safe"]), "main", Wish(("safe",)))
    assert titles(steps) == ["Let safe encrypt", REWRITE]
    assert "role: recovery" in steps[0].change
    steps = plan(configuration(active("a"), recovery), "main", Wish(drop=("safe",)))
    assert titles(steps) == ["Take safe out", REWRITE]
    assert stages(steps[0]) == (3, [("a", "active")])


def test_kms_v1_has_a_word_of_its_own() -> None:
    steps = plan(configuration(active("a"), kmsVersions=["v1beta1"]), "main", Wish())
    assert [wait for wait in steps[0].wait if "KMS v1 knows no key_id" in wait]
    assert not [wait for wait in steps[0].wait if "API server" in wait]


def test_no_step_takes_the_epoch_back_or_leaves_a_node_without_what_the_step_before_writes() -> None:
    start = [active("a"), active("b"), decrypt("c")]
    wishes = [Wish(("d",), ("a",)), Wish(("c",), ("a", "b")), Wish(drop=("b",)), Wish(("d", "c")), Wish()]
    checked = 0
    for wish in wishes:
        before = (2, [("a", "active"), ("b", "active"), ("c", "decrypt")])
        proven_unused: set[str] = set()
        for step in plan(configuration(*start, extra=["d"]), "main", wish):
            if step.title.startswith("Prove"):
                proven_unused |= set(wish.drop)
            if not step.change:
                continue
            epoch, members = stages(step)
            was, now = dict(before[1]), dict(members)
            actives = [{name for name, stage in one.items() if stage == "active"} for one in (was, now)]
            assert epoch == before[0] + (actives[0] != actives[1] or step.title == "Raise the epoch")
            # Who is a step behind can read what a step ahead writes, and the other way round.
            assert actives[1] <= was.keys()
            assert actives[0] <= now.keys()
            assert was.keys() - now.keys() <= proven_unused
            before = (epoch, members)
            checked += 1
    assert checked == 10


@pytest.mark.parametrize(
    ("endpoint", "wish", "message"),
    [
        ("mian", Wish(), "no endpoint has the name 'mian' (did you mean 'main'?); there is main"),
        ("main", Wish(("a",)), "a is active already"),
        ("main", Wish(drop=("z",)), "z is no member of this endpoint"),
        ("main", Wish(pin={"z": "1"}), "z is no member of this endpoint"),
        ("main", Wish(drop=("a",)), "no active key would be left"),
        ("main", Wish(("b",), ("b", "a")), "b cannot be added and dropped at once"),
        ("main", Wish(tuple("cdefghij")), "an endpoint has 8 members at most"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(endpoint: str, wish: Wish, message: str) -> None:
    with pytest.raises(Impossible) as caught:
        plan(configuration(active("a"), decrypt("b")), endpoint, wish)
    assert message in str(caught.value)
