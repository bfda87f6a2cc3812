"""A probe: what it finds, and that it shows nothing of a local KEK."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from keystead import errors
from keystead._core import Kek, Record
from keystead.host.facts import Facts
from keystead.host.mint import mint
from keystead.host.probe import Asked, Canary, Outcome, probe
from support.fakes import CLUSTER, FakeProvider, guard_of, members_of

pytestmark = pytest.mark.usefixtures("once")


class Probed:
    """A key with a record under it, and the facts that its probes leave."""

    def __init__(self, key: FakeProvider) -> None:
        self.key = key
        self.guard = guard_of(key)
        self.record, kek = mint(members_of(key), CLUSTER, {}, lambda: 1.0, time.monotonic() + 10)
        self.secret = kek.reveal()
        self.facts = Facts()
        self.now = 0.0
        self.outcome = Outcome()
        self.unwrapped: list[bytes] = []
        key.unwrap_answer = self._note

    def _note(self, kek: bytes) -> bytes:
        self.unwrapped.append(kek)
        return kek

    def probe(self, record: Record | None = None) -> Outcome:
        record = record or self.record
        self.outcome = probe(self.guard, self.facts.asked(CLUSTER, record), time.monotonic() + 10)
        self.facts = self.facts.after(self.outcome, self.now, active=True, record=record)
        self.now += 60.0
        return self.outcome


@pytest.fixture
def probed(key: FakeProvider) -> Probed:
    return Probed(key)


def test_a_key_that_works_is_tried_both_ways_and_tells_its_version(probed: Probed) -> None:
    outcome = probed.probe()
    assert (outcome.error, outcome.asked, outcome.version, outcome.refused) == (None, True, "1", None)
    assert probed.facts.proven_at == 0.0
    assert probed.facts.health.last_success == 0.0


def test_the_local_kek_itself_is_unwrapped_once_and_throwaway_values_from_then_on(probed: Probed) -> None:
    for _ in range(10):
        assert probed.probe().error is None
    assert probed.unwrapped.count(probed.secret) == 1
    assert len(probed.unwrapped) == 20
    assert probed.key.calls == Counter({"wrap": 11, "current_version": 11, "unwrap": 21, "open": 2})


def test_the_canary_stays_under_the_version_of_the_record_when_the_key_moves_on(probed: Probed) -> None:
    probed.key.rotate()
    outcome = probed.probe()
    assert outcome.version == "2"
    assert outcome.canary is not None
    assert outcome.canary.version == "1"
    assert probed.probe().canary == outcome.canary
    assert probed.unwrapped.count(probed.secret) == 1


def test_while_no_canary_can_be_made_under_the_version_of_the_record_its_own_wrap_is_tried(probed: Probed) -> None:
    probed.key.rotate()
    real, allowed = probed.key.wrap, {"2"}

    def wrap(kek: bytes, context: object, version: str | None, deadline: float) -> object:
        if version not in allowed:
            raise errors.KeyDisabled("below min_encryption_version")
        return real(kek, context, version, deadline)  # type: ignore[arg-type]

    probed.key.wrap = wrap  # type: ignore[method-assign, assignment]
    for _ in range(3):
        outcome = probed.probe()
        assert (outcome.error, outcome.refused, outcome.canary) == (None, None, None)
    assert probed.unwrapped.count(probed.secret) == 3


def test_a_version_that_is_refused_twice_while_the_rest_works_raises_an_alarm_that_names_it(probed: Probed) -> None:
    probed.probe()
    probed.key.rotate()
    probed.key.retired.add("1")
    assert probed.probe().refused is not None
    assert probed.facts.alarm is None, "once may be chance"
    assert not probed.facts.refuses(probed.record)
    probed.probe()
    assert probed.facts.refuses(probed.record)
    assert probed.facts.error("k") == (
        "key k: restore version 1: what was wrapped under it, in etcd and in backups, cannot be unwrapped "
        "(key k: unwrap: version 1 is disallowed by policy)"
    )
    assert probed.facts.health.up, "the key itself works"
    assert [canary.version for canary in probed.facts.lost] == ["1"]
    for _ in range(5):
        probed.probe()
    assert [canary.version for canary in probed.facts.lost] == ["1"], "it is one version, however often it is refused"


def test_the_alarm_outlives_the_record_and_ends_when_the_version_is_restored(probed: Probed) -> None:
    probed.probe()
    probed.key.rotate()
    probed.key.retired.add("1")
    probed.probe()
    probed.probe()
    newer, _ = mint(members_of(probed.key), CLUSTER, {}, lambda: 1.0, time.monotonic() + 10)
    probed.probe(newer)
    assert not probed.facts.refuses(newer)
    assert probed.facts.alarm is not None
    probed.key.retired.clear()
    probed.probe(newer)
    assert probed.facts.alarm is None


def test_two_refusals_with_a_success_between_them_are_no_alarm(probed: Probed) -> None:
    probed.key.rotate()
    for retired in ({"1"}, set(), {"1"}, set(), {"1"}):
        probed.key.retired = set(retired)
        probed.probe()
    assert probed.facts.alarm is None


def test_a_failed_round_trip_says_nothing_of_the_version(probed: Probed) -> None:
    probed.probe()
    probed.key.rotate()
    probed.key.retired.add("1")
    probed.probe()
    probed.key.raises["wrap"] = errors.Unavailable("away")
    assert probed.probe().error is not None
    assert probed.facts.refusals == 1
    probed.key.raises.clear()
    probed.probe()
    assert probed.facts.refuses(probed.record)


def test_a_key_that_was_made_anew_under_its_old_name_and_version_is_found_out(probed: Probed) -> None:
    probed.key.versions["1"] = bytes(32)
    probed.probe()
    probed.probe()
    assert probed.facts.alarm is not None
    assert "did not wrap these bytes" in probed.facts.alarm


def test_wrong_bytes_for_the_canary_are_misbehaviour_and_no_refusal(probed: Probed) -> None:
    probed.probe()
    fresh = iter([True, False])
    probed.key.unwrap_answer = lambda kek: kek if next(fresh) else bytes(32)
    outcome = probed.probe()
    assert isinstance(outcome.error, errors.Misbehaved)
    assert outcome.refused is None
    assert not probed.facts.health.up


def test_what_may_pass_is_no_refusal(probed: Probed) -> None:
    probed.probe()
    fresh = iter([True, False])

    def answer(kek: bytes) -> bytes:
        if not next(fresh):
            raise errors.Unavailable("version is too new")
        return kek

    probed.key.unwrap_answer = answer
    assert isinstance(probed.probe().error, errors.Unavailable)
    assert probed.facts.refusals == 0


def test_four_lost_versions_are_remembered_the_newest_ones(probed: Probed) -> None:
    for _ in range(6):
        record, _ = mint(members_of(probed.key), CLUSTER, {}, lambda: 1.0, time.monotonic() + 10)
        probed.probe(record)
        probed.key.retired.add(probed.key.rotate_from())
        probed.probe(record)
        probed.probe(record)
    assert [canary.version for canary in probed.facts.lost] == ["3", "4", "5", "6"]


def test_a_key_that_only_decrypts_need_not_wrap(key: FakeProvider) -> None:
    key.raises["wrap"] = errors.PermissionDenied("403")
    facts = Facts()
    for moment in range(4):
        outcome = probe(guard_of(key), Asked(CLUSTER), time.monotonic() + 10)
        facts = facts.after(outcome, float(moment), active=False, record=None)
    assert facts.health.up
    assert facts.proven_at is None
    assert facts.health.last_success is None
    assert facts.error("k") == "key k: wrap: 403"


def test_an_active_key_that_may_not_wrap_is_refused_like_any_other(key: FakeProvider) -> None:
    key.raises["wrap"] = errors.PermissionDenied("403")
    facts = Facts()
    for moment in range(3):
        outcome = probe(guard_of(key), Asked(CLUSTER), time.monotonic() + 10)
        facts = facts.after(outcome, float(moment), active=True, record=None)
    assert (facts.health.up, facts.health.denials) == (False, 3)


def test_a_record_that_does_not_name_the_key_asks_nothing_of_it(probed: Probed) -> None:
    record, _ = mint(members_of(FakeProvider("other")), CLUSTER, {}, lambda: 1.0, time.monotonic() + 10)
    outcome = probed.probe(record)
    assert (outcome.error, outcome.canary) == (None, None)
    assert len(probed.unwrapped) == 1


def test_a_canary_holds_no_plaintext(probed: Probed) -> None:
    probed.probe()
    canary = probed.facts.canary
    assert canary is not None
    assert isinstance(canary, Canary)
    shown = repr(canary).encode() + canary.wrap.blob + canary.kek_id
    assert all(value not in shown for value in probed.unwrapped)
    assert Kek.from_bytes(probed.unwrapped[0]).kek_id != probed.record.kek_id
