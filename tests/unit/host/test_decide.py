"""Keep, mint or refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, Wrap
from keystead.host.decide import (
    JITTER,
    MAX_USES,
    Active,
    Current,
    Decision,
    Keep,
    Mint,
    Ref,
    Refuse,
    Wanted,
    decide,
    misfit,
    went_back,
)
from keystead.host.stages import Candidate
from support.fakes import CLUSTER, NOW

A, B, C = ("aws-kms", "arn:a"), ("gcp-kms", "projects/b"), ("local", "k")
SAFE = ("age-x25519", "age1xyz")
DAY = 86400.0
MAX_AGE = 30 * DAY
READY = Candidate("x", soak_left=0.0, proof_age=1.0)


def record_of(
    versions: Mapping[Ref, str], kek: Kek | None = None, recovery: tuple[Ref, ...] = (), cluster: str = CLUSTER
) -> Record:
    wraps = [Wrap(scheme, ref, version, ROLE_ONLINE, b"blob") for (scheme, ref), version in versions.items()]
    wraps += [Wrap(scheme, ref, "", ROLE_RECOVERY, b"blob") for scheme, ref in recovery]
    return (kek or Kek.generate()).encode_record(int(NOW), cluster, wraps)


def wanted_of(
    versions: Mapping[Ref, str | Active | None],
    *,
    epoch: int = 5,
    cluster: str = CLUSTER,
    accept: tuple[str, ...] = (CLUSTER, "prod-eu-2"),
    recovery: tuple[Ref, ...] = (),
) -> Wanted:
    online = {ref: one if isinstance(one, Active) else Active(READY, one) for ref, one in versions.items()}
    return Wanted(cluster, accept, epoch, online, recovery, MAX_AGE)


def after(
    record: Record,
    *,
    used_epoch: int = 5,
    versions: Mapping[Ref, str | Active | None] | None = None,
    age: float = DAY,
    uses: int = 0,
    usable: bool = True,
    **wanted: Any,
) -> Decision:
    current = Current(record.key_id(used_epoch), record, age, uses, usable)
    return decide(current, wanted_of({A: "", B: "3"} if versions is None else versions, **wanted), NOW)


def reason(decision: Decision) -> str:
    assert isinstance(decision, Refuse | Mint)
    return decision.reason


RECORD = record_of({A: "", B: "3"})


def test_without_a_local_kek_one_is_made() -> None:
    assert decide(None, wanted_of({A: None}, epoch=1), NOW) == Mint("there is none yet")


def test_an_unchanged_configuration_keeps_it() -> None:
    assert after(RECORD) == Keep()


def test_an_empty_state_directory_at_a_higher_epoch_is_believed_and_said_to_be_unproven() -> None:
    assert decide(None, wanted_of({A: None}, epoch=2), NOW) == Mint("there is none yet", unproven=True)


def test_a_recovery_key_belongs_to_the_active_ones_by_its_role() -> None:
    record = record_of({A: "", B: "3"}, recovery=(SAFE,))
    assert after(record, recovery=(SAFE,)) == Keep()
    changed = "the active members changed under epoch 5: set epoch to 6"
    assert reason(after(record)) == changed
    assert reason(after(RECORD, recovery=(SAFE,))) == changed
    assert reason(after(record, versions={A: "", B: "3", SAFE: ""})) == changed
    assert reason(after(record, recovery=(C,))) == changed


def test_a_lower_epoch_is_refused_and_the_refusal_names_the_next_one() -> None:
    assert reason(after(RECORD, epoch=4)) == "epoch 4 is below 5, which has been in use: set epoch to 6"


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
    assert decision.reason.endswith(
        f"under epoch 6: list '{CLUSTER}' in acceptClusters, once every node lists 'prod-eu-2' there"
    )


@pytest.mark.parametrize(
    "members", [{A: ""}, {A: "", B: "3", ("local", "k"): "1"}, {A: "", ("gcp-kms", "projects/c"): "3"}, {B: "3"}]
)
def test_other_active_members_at_the_same_epoch_are_refused_with_the_way_out(
    members: Mapping[tuple[str, str], str],
) -> None:
    decision = after(RECORD, versions=members)
    assert isinstance(decision, Refuse)
    assert decision.reason == "the active members changed under epoch 5: set epoch to 6"


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
        assert after(record, age=MAX_AGE * (1 - JITTER) - 1) == Keep()
        assert after(record, age=MAX_AGE * (1 + JITTER) + 1) == Mint("it reached its maximum age")
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


def test_uses_call_for_another_one_within_a_tenth_of_the_limit() -> None:
    assert MAX_USES == 2**32
    records = [record_of({A: "", B: "3"}) for _ in range(200)]
    for record in records:
        assert after(record, uses=int(MAX_USES * (1 - JITTER)) - 1) == Keep()
        assert reason(after(record, uses=int(MAX_USES * (1 + JITTER)) + 2)) == "it reached its maximum number of uses"
    due = sum(isinstance(after(record, uses=MAX_USES), Mint) for record in records)
    assert 40 < due < 160


# New members: the rules that one node enforces by itself.


def test_a_key_that_never_decrypted_here_does_not_become_active_with_any_epoch() -> None:
    new = Active(Candidate("c", soak_left=None, proof_age=1.0))
    decision = after(RECORD, epoch=6, versions={A: "", B: "3", C: new})
    assert isinstance(decision, Refuse)
    assert decision.reason.startswith("key c is active here without having been decrypt before: apply stage decrypt")
    assert "keystead status shows it PROVEN on all" in decision.reason


def test_a_key_waits_for_its_soak_and_the_refusal_says_until_when() -> None:
    new = Active(Candidate("c", soak_left=90.0, proof_age=1.0))
    decision = after(RECORD, epoch=6, versions={A: "", C: new})
    assert isinstance(decision, Refuse)
    assert "wait until 2026-09-21T14:15Z, when it becomes active by itself" in decision.reason
    later = Active(Candidate("c", soak_left=60.0, proof_age=1.0))
    assert after(RECORD, epoch=6, versions={A: "", C: later}) == decision, "it is one refusal, whatever its text"


@pytest.mark.parametrize("age", [None, 301.0])
def test_a_key_that_did_not_work_here_lately_does_not_become_active(age: float | None) -> None:
    new = Active(Candidate("c", soak_left=0.0, proof_age=age, error="key c: wrap: 403"))
    decision = after(RECORD, epoch=6, versions={A: "", C: new})
    assert isinstance(decision, Refuse)
    assert decision.reason.endswith("in the last 5 min: mend this: key c: wrap: 403")


def test_a_key_that_soaked_and_works_becomes_active_with_a_higher_epoch() -> None:
    new = Active(Candidate("c", soak_left=0.0, proof_age=300.0))
    assert after(RECORD, epoch=6, versions={C: new}) == Mint("epoch raised from 5 to 6")


def test_keys_that_are_in_the_record_need_no_soak() -> None:
    cold = Active(Candidate("a", soak_left=None, proof_age=None))
    assert after(RECORD, epoch=6, versions={A: cold, B: cold}) == Mint("epoch raised from 5 to 6")


def test_a_key_that_was_for_recovery_is_new_as_an_online_one() -> None:
    record = record_of({A: ""}, recovery=(SAFE,))
    new = Active(Candidate("s", soak_left=None, proof_age=None))
    assert isinstance(after(record, epoch=6, versions={A: "", SAFE: new}), Refuse)


def test_when_no_configured_key_opens_the_record_there_is_nothing_to_hold_on_to() -> None:
    new = Active(Candidate("c", soak_left=None, proof_age=None))
    decision = after(RECORD, epoch=6, versions={C: new}, usable=False)
    assert decision == Mint("epoch raised from 5 to 6", unproven=True)


# Versions that are pinned, or refused.


def test_a_pin_below_the_version_in_use_needs_a_higher_epoch() -> None:
    pin = Active(READY, "2", pinned=True)
    assert "is pinned to version 2, and 3 has been in use under epoch 5: set epoch to 6" in reason(
        after(RECORD, versions={A: "", B: pin})
    )
    assert isinstance(after(RECORD, epoch=6, versions={A: "", B: pin}), Mint)
    assert after(RECORD, versions={A: "", B: Active(READY, "3", pinned=True)}) == Keep()
    assert isinstance(after(RECORD, versions={A: "", B: Active(READY, "4", pinned=True)}), Mint)


def test_a_version_that_its_key_refuses_calls_for_another_record() -> None:
    refuses = Active(READY, "3", refuses=True)
    assert reason(after(RECORD, versions={A: "", B: refuses})) == (
        "gcp-kms projects/b refuses version 3, which the record needs"
    )
    assert isinstance(after(RECORD, epoch=4, versions={A: "", B: refuses}), Refuse)


# Records that come from elsewhere.


def test_a_record_fits_if_it_was_made_for_the_same_keys_and_label() -> None:
    key_id = RECORD.key_id(5)
    assert misfit(key_id, RECORD, wanted_of({A: "", B: "4"})) is None
    assert misfit(key_id, RECORD, wanted_of({A: ""})) is not None
    assert misfit(key_id, RECORD, wanted_of({A: "", B: "3"}, recovery=(SAFE,))) is not None
    assert misfit(key_id, RECORD, wanted_of({A: "", B: "3"}, cluster="prod-eu-2")) is not None


def test_a_record_that_went_back_in_a_version_is_found_out() -> None:
    assert went_back(RECORD, record_of({A: "", B: "2"})) == (
        "gcp-kms projects/b wrapped under version 2, below 3, which has been in use"
    )
    for versions in ({A: "", B: "3"}, {A: "", B: "4"}, {C: "1"}):
        assert went_back(RECORD, record_of(versions)) is None
