"""Keep, mint or refuse."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, Wrap
from keystead.host.decide import AGE_JITTER, Decision, Keep, Mint, Refuse, decide
from support.fakes import CLUSTER, NOW

A, B = ("aws-kms", "arn:a"), ("gcp-kms", "projects/b")
DAY = 86400.0
MAX_AGE = 30 * DAY


def record_of(versions: Mapping[tuple[str, str], str], kek: Kek | None = None, recovery: bool = False) -> Record:
    wraps = [Wrap(scheme, ref, version, ROLE_ONLINE, b"blob") for (scheme, ref), version in versions.items()]
    if recovery:
        wraps.append(Wrap("age-x25519", "age1xyz", "", ROLE_RECOVERY, b"blob"))
    return (kek or Kek.generate()).encode_record(int(NOW), CLUSTER, wraps)


def after(
    record: Record,
    *,
    used_epoch: int = 5,
    epoch: int = 5,
    cluster: str = CLUSTER,
    accept: tuple[str, ...] = (CLUSTER, "prod-eu-2"),
    versions: Mapping[tuple[str, str], str | None] | None = None,
    age: float = DAY,
) -> Decision:
    asked = {A: "", B: "3"} if versions is None else versions
    return decide((record.key_id(used_epoch), record), cluster, accept, epoch, asked, MAX_AGE, NOW + age)


RECORD = record_of({A: "", B: "3"})


def test_without_a_local_kek_one_is_made() -> None:
    assert decide(None, CLUSTER, (CLUSTER,), 1, {A: None}, MAX_AGE, NOW) == Mint("there is none yet")


def test_an_unchanged_configuration_keeps_it() -> None:
    assert after(RECORD) == Keep()


def test_a_recovery_wrap_is_no_active_member() -> None:
    assert after(record_of({A: "", B: "3"}, recovery=True)) == Keep()


def test_a_lower_epoch_is_refused_and_the_refusal_names_the_next_one() -> None:
    decision = after(RECORD, epoch=4)
    assert decision == Refuse("epoch 4 is below 5, which has been in use: set epoch to 6")


def test_a_higher_epoch_makes_a_new_one_whatever_else_changed() -> None:
    assert after(RECORD, epoch=6) == Mint("epoch raised from 5 to 6")
    assert after(RECORD, epoch=6, cluster="prod-eu-2", versions={A: ""}) == Mint("epoch raised from 5 to 6")


def test_another_cluster_at_the_same_epoch_is_refused_with_the_way_out() -> None:
    decision = after(RECORD, cluster="prod-eu-2", accept=("prod-eu-2",))
    assert isinstance(decision, Refuse)
    assert f"list '{CLUSTER}' in acceptClusters and set epoch to 6" in decision.reason
    accepted = after(RECORD, cluster="prod-eu-2")
    assert isinstance(accepted, Refuse)
    assert accepted.reason.endswith("under epoch 5: set epoch to 6")


def test_another_cluster_at_a_higher_epoch_is_refused_while_old_data_would_not_be_read() -> None:
    decision = after(RECORD, epoch=6, cluster="prod-eu-2", accept=("prod-eu-2",))
    assert isinstance(decision, Refuse)
    assert decision.reason.endswith(f"under epoch 6: list '{CLUSTER}' in acceptClusters")


@pytest.mark.parametrize(
    "members", [{A: ""}, {A: "", B: "3", ("local", "k"): "1"}, {A: "", ("gcp-kms", "projects/c"): "3"}, {B: "3"}]
)
def test_other_active_members_at_the_same_epoch_are_refused_with_the_way_out(
    members: Mapping[tuple[str, str], str],
) -> None:
    assert after(RECORD, versions=members) == Refuse("the active members changed under epoch 5: set epoch to 6")


def test_a_higher_version_of_a_member_makes_a_new_one() -> None:
    assert after(RECORD, versions={A: "", B: "4"}) == Mint("gcp-kms projects/b went from version 3 to 4")


def test_versions_are_compared_as_numbers() -> None:
    assert isinstance(after(record_of({B: "9"}), versions={B: "10"}), Mint)
    assert after(record_of({B: "10"}), versions={B: "9"}) == Keep()


@pytest.mark.parametrize("answered", [None, "", "2", "0", "latest", "3"])
def test_a_version_never_goes_back_and_an_unknown_one_changes_nothing(answered: str | None) -> None:
    assert after(RECORD, versions={A: "", B: answered}) == Keep()


def test_a_key_that_had_no_versions_does_not_gain_one() -> None:
    assert after(RECORD, versions={A: "7", B: "3"}) == Keep()


def test_an_old_one_is_replaced_within_a_tenth_of_the_maximum_age() -> None:
    records = [record_of({A: "", B: "3"}) for _ in range(200)]
    for record in records:
        assert after(record, age=MAX_AGE * (1 - AGE_JITTER) - 1) == Keep()
        assert after(record, age=MAX_AGE * (1 + AGE_JITTER) + 1) == Mint("it reached its maximum age")
    due = sum(isinstance(after(record, age=MAX_AGE), Mint) for record in records)
    assert 40 < due < 160, "the ages at which nodes mint are spread to both sides"


def test_the_age_at_which_a_node_mints_does_not_change_from_turn_to_turn() -> None:
    ages = [day * DAY / 8 for day in range(26 * 8, 34 * 8)]
    minted = [isinstance(after(RECORD, age=age), Mint) for age in ages]
    assert minted == sorted(minted)
    assert minted.count(True) > 0


def test_a_clock_that_jumps_forward_makes_one_more_and_a_clock_that_jumps_back_makes_none() -> None:
    assert isinstance(after(RECORD, age=100 * MAX_AGE), Mint)
    assert after(RECORD, age=-100 * MAX_AGE) == Keep()


def test_age_never_overrides_a_refusal() -> None:
    assert isinstance(after(RECORD, epoch=4, age=2 * MAX_AGE), Refuse)
    assert isinstance(after(RECORD, versions={A: ""}, age=2 * MAX_AGE), Refuse)
