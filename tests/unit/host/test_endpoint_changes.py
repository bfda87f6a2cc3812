"""What a changed configuration does to an endpoint, and what is refused with the way out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keystead import errors
from keystead._core import Record, key_id_epoch
from keystead.provider import WrapContext, Wrapped
from support.endpoints import Lines, Start, errors_of, events, kek_id, target
from support.fakes import CLUSTER, FakeProvider, members_of, target_of
from support.messages import SEED, decrypt, encrypt


def test_a_higher_epoch_mints_under_a_new_key_id_and_old_ciphertexts_still_decrypt(
    start: Start, key: FakeProvider
) -> None:
    first = target(key)
    rig = start(first)
    before = encrypt(rig.endpoint)
    rig.tend(target_of(first.members, epoch=2))
    after = encrypt(rig.endpoint)
    assert key_id_epoch(after.key_id) == 2
    assert after.key_id == rig.key_id != before.key_id
    assert kek_id(after) != kek_id(before)
    assert [decrypt(rig.endpoint, one) for one in (before, after)] == [SEED, SEED]
    again = start(target(key, epoch=2))
    assert encrypt(again.endpoint).record == after.record
    assert [decrypt(again.endpoint, one) for one in (before, after)] == [SEED, SEED]


def test_a_higher_epoch_waits_for_every_active_member_and_writes_go_on_meanwhile(
    start: Start, key: FakeProvider
) -> None:
    new = FakeProvider("new")
    first = target(key)
    rig = start(first)
    before = encrypt(rig.endpoint)
    both = members_of(key, new)
    for fault in (errors.Unavailable("away"), errors.PermissionDenied("403")):
        new.raises["wrap"] = fault
        assert rig.tend(target_of(both, epoch=2)) is False
        assert encrypt(rig.endpoint).record == before.record
        assert rig.healthz == "ok"
    new.raises.clear()
    for _ in range(2):
        rig.pass_time(5.0)
    after = encrypt(rig.endpoint)
    assert key_id_epoch(after.key_id) == 2
    assert [wrap.ref for wrap in Record.parse(after.record).wraps] == ["fake/k", "fake/new"]
    assert decrypt(rig.endpoint, before) == SEED


def test_a_member_that_unwraps_to_another_key_is_never_minted_with(start: Start, key: FakeProvider) -> None:
    key.unwrap_answer = lambda _: bytes(32)
    rig = start(target(key))
    assert rig.healthz.startswith("starting: key k: unwrap returned another key than was wrapped a moment ago; ")
    with pytest.raises(errors.NotReady):
        encrypt(rig.endpoint)
    key.unwrap_answer = None
    rig.tend()
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED


def refusals(key: FakeProvider, other: FakeProvider) -> dict[str, tuple[dict[str, Any], str]]:
    """What breaks a rule against an endpoint that ran at epoch 3 with the key, and the way out that is named."""
    return {
        "lower epoch": (
            {"members": members_of(key), "epoch": 2},
            "epoch 2 is below 3, which has been in use: set epoch to 4",
        ),
        "added member": (
            {"members": members_of(key, other), "epoch": 3},
            "the active members changed under epoch 3: set epoch to 4",
        ),
        "retired member": (
            {"members": members_of(other, decrypt=(key,)), "epoch": 3},
            "the active members changed under epoch 3: set epoch to 4",
        ),
        "other cluster": (
            {"members": members_of(key), "epoch": 3, "cluster": "b", "accept_clusters": ("b",)},
            f"cluster changed from '{CLUSTER}' to 'b' under epoch 3: list '{CLUSTER}' in acceptClusters and set epoch"
            " to 4, once every node lists 'b' there",
        ),
    }


REFUSED = ["lower epoch", "added member", "retired member", "other cluster"]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_configuration_that_breaks_a_rule_is_refused_by_name_and_everything_goes_on_under_the_old_kek(
    case: str, how: str, start: Start, key: FakeProvider, logged: Lines
) -> None:
    other = FakeProvider("other")
    rig = start(target(key, epoch=3))
    before = encrypt(rig.endpoint)
    changes, way_out = refusals(key, other)[case]
    wanted = target(**changes) if "members" not in changes else target_of(changes.pop("members"), **changes)
    if how == "reload":
        assert rig.tend(wanted) is False
    else:
        rig = start(wanted)
    assert rig.endpoint.report().refused == way_out
    assert rig.healthz == "ok"
    after = encrypt(rig.endpoint)
    assert (after.key_id, after.record) == (before.key_id, before.record)
    assert [decrypt(rig.endpoint, one) for one in (before, after)] == [SEED, SEED], "reads go on too"
    rig.pass_time(60.0)
    assert [line["reason"] for line in events(logged, "configuration.refused")] == [way_out], "it is logged once"
    assert (rig.key_id, decrypt(rig.endpoint, after)) == (before.key_id, SEED)


@pytest.mark.parametrize("case", REFUSED)
def test_the_way_out_that_a_refusal_names_works(case: str, start: Start, key: FakeProvider) -> None:
    other = FakeProvider("other")
    rig = start(target(key, epoch=3))
    before = encrypt(rig.endpoint)
    changes, _ = refusals(key, other)[case]
    wanted = {**changes, "epoch": 4}
    if "cluster" in wanted:
        wanted["accept_clusters"] = ("b", CLUSTER)
    rig.tend(target_of(wanted.pop("members"), **wanted))
    assert rig.endpoint.report().refused is None
    after = encrypt(rig.endpoint)
    assert key_id_epoch(after.key_id) == 4
    assert [decrypt(rig.endpoint, one) for one in (before, after)] == [SEED, SEED]


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_what_no_configured_key_can_decrypt_is_not_encrypted_any_more(
    how: str, start: Start, key: FakeProvider
) -> None:
    """All keys of the record are gone, and no rule lets the new one in yet: an answer would be lost data."""
    new = FakeProvider("new")
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    wanted = target(new)
    if how == "reload":
        rig.tend(wanted)
    else:
        rig = start(wanted)
    assert rig.key_id == before.key_id
    assert "set epoch to 2" in rig.healthz
    with pytest.raises(errors.NotReady, match="set epoch to 2"):
        encrypt(rig.endpoint)
    rig.tend(target_of(wanted.members, epoch=2))
    after = encrypt(rig.endpoint)
    assert decrypt(rig.endpoint, after) == SEED
    with pytest.raises(errors.NoConfiguredMember):
        decrypt(rig.endpoint, before)


def test_keks_of_a_removed_key_are_dropped_so_that_a_removal_too_early_shows_at_once(
    start: Start, key: FakeProvider, logged: Lines
) -> None:
    new = FakeProvider("new")
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    rig.tend(target(new, old=(key,), epoch=2))
    assert decrypt(rig.endpoint, before) == SEED
    assert rig.endpoint.report().keks == 2
    rig.tend(target(new, epoch=2))
    assert rig.endpoint.report().keks == 1
    with pytest.raises(errors.NoConfiguredMember, match="fake fake/k; add the key as a member with stage decrypt"):
        decrypt(rig.endpoint, before)
    assert [line["count"] for line in events(logged, "kek.dropped")] == [1]
    rig.tend(target(new, old=(key,), epoch=2))
    assert decrypt(rig.endpoint, before) == SEED, "a reload forgets the refusal"


def test_nothing_is_dropped_while_a_member_is_not_open(start: Start, key: FakeProvider) -> None:
    old = FakeProvider("old", ref="fake/k")
    old.versions = key.versions
    new = FakeProvider("new")
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    old.fail(errors.Unavailable("away"))
    rig.tend(target(new, old=(old,), epoch=2))
    assert decrypt(rig.endpoint, before) == SEED
    assert errors_of(rig) == {"old": "key old: open: away"}


def test_two_keys_that_are_one_are_refused_and_nothing_else_changes(start: Start, key: FakeProvider) -> None:
    twin = FakeProvider("twin", ref="fake/k")
    twin.versions = key.versions
    rig = start(target(key))
    before = encrypt(rig.endpoint)
    rig.tend(target(key, twin, epoch=2))
    assert rig.endpoint.report().refused == "the keys k and twin are both fake fake/k: remove one of them"
    assert encrypt(rig.endpoint).record == before.record
    fresh = start(target(key, twin), state=None)
    assert fresh.healthz.startswith("starting: the keys k and twin are both")


class Bulky(FakeProvider):
    """Its wraps are as large as the interface allows."""

    capabilities = replace(FakeProvider.capabilities, max_blob=4096)

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        blob, used = super().wrap(kek, context, version, deadline)
        return Wrapped(blob.ljust(4096, b"\x00"), used)

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytes:
        return super().unwrap(blob[:60], context, version, deadline)


def test_members_whose_wraps_do_not_fit_into_a_record_are_said_to_be_too_many(start: Start) -> None:
    keys = [Bulky(name) for name in "abcdefgh"]
    rig = start(target(*keys))
    assert rig.healthz.startswith("starting: the active members do not fit into one record: ")
    with pytest.raises(errors.NotReady):
        encrypt(rig.endpoint)
    rig.tend(target(*keys[:7]))
    assert decrypt(rig.endpoint, encrypt(rig.endpoint)) == SEED
