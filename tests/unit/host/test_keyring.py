"""How the local KEK of a record comes into the store: once, in time, through whichever member can."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from keystead import errors
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, KekStore, Record, Wrap
from keystead.host import asking, errands
from keystead.host import keyring as keyring_module
from keystead.host.keyring import FLIGHT_LIMIT, REFUSAL_LIFE, WAITING_LIMIT, Keyring, fetch
from keystead.host.members import Members
from keystead.host.mint import mint
from support.fakes import CLUSTER, SCHEME, FakeClock, FakeProvider, members_of, until
from support.messages import mutilated

BUDGET = 5.0


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def record_for(*providers: FakeProvider) -> Record:
    """A record of a fresh KEK under these keys; the guards that made it are not those of the keyring."""
    record, _ = mint(members_of(*providers), CLUSTER, {}, lambda: 1.0, soon())
    for provider in providers:
        provider.calls.clear()
    return record


class Ring:
    """A keyring and its store."""

    def __init__(self, members: Members, timeout: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = KekStore([CLUSTER])
        self.members = members
        self.keyring = Keyring("main", self.store, members, timeout, clock)

    def unwrap(self, record: Record, budget: float = BUDGET) -> None:
        self.keyring.unwrap(record, budget)

    def outcome(self, record: Record, budget: float = BUDGET) -> errors.KeysteadError | None:
        try:
            self.unwrap(record, budget)
        except errors.KeysteadError as exc:
            return exc
        return None


def together(calls: list[Callable[[], errors.KeysteadError | None]]) -> list[errors.KeysteadError | None]:
    """Make all calls at once, each in a thread."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], errors.KeysteadError | None]) -> errors.KeysteadError | None:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# One call for many.


def test_fifty_decrypts_of_one_cold_record_cost_one_unwrap() -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.delay["unwrap"] = 0.05
    assert together([lambda: ring.outcome(record)] * 50) == [None] * 50
    assert provider.calls["unwrap"] == 1
    assert ring.store.holds(record)
    assert ring.keyring.waiting == 0


def test_four_hundred_decrypts_of_eight_cold_records_cost_eight_unwraps_and_none_is_refused() -> None:
    provider = FakeProvider("k")
    records = [record_for(provider) for _ in range(8)]
    ring = Ring(members_of(provider))
    provider.delay["unwrap"] = 0.3
    outcomes = together([lambda record=records[number % 8]: ring.outcome(record) for number in range(400)])  # type: ignore[misc]
    assert outcomes == [None] * 400
    assert provider.calls["unwrap"] == 8


def test_a_record_that_is_in_the_store_costs_nothing() -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    ring.unwrap(record)
    ring.unwrap(record)
    assert provider.calls["unwrap"] == 1


def test_a_mutilated_record_with_a_live_kek_id_fails_alone(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    good = record_for(provider)
    bad = mutilated(good)
    assert bad.kek_id == good.kek_id
    ring = Ring(members_of(provider))
    provider.blocked["unwrap"] = gate
    with ThreadPoolExecutor(20) as pool:
        honest = [pool.submit(ring.outcome, good) for _ in range(10)]
        forged = [pool.submit(ring.outcome, bad) for _ in range(10)]
        until(lambda: ring.keyring.waiting == 20)
        gate.set()
        assert [future.result() for future in honest] == [None] * 10
        assert {type(future.result()) for future in forged} == {errors.NotAuthentic}
    assert provider.calls["unwrap"] == 2
    assert ring.outcome(bad) is not None
    assert ring.outcome(good) is None


def test_each_waiting_call_gets_an_error_of_its_own() -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.delay["unwrap"] = 0.05
    provider.raises["unwrap"] = errors.KeyDisabled("scheduled for deletion")
    outcomes = together([lambda: ring.outcome(record)] * 10)
    assert {str(outcome) for outcome in outcomes} == {"key k: unwrap: scheduled for deletion"}
    assert len({id(outcome) for outcome in outcomes}) == 10


# Two clocks.


def test_a_call_ends_with_its_budget_and_its_retry_hits(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.blocked["unwrap"] = gate
    begun = time.monotonic()
    with pytest.raises(errors.TimedOut, match=r"has not answered within 0\.1 s; the unwrap goes on, so try again"):
        ring.unwrap(record, 0.1)
    assert time.monotonic() - begun < 2.0
    assert ring.keyring.waiting == 0
    gate.set()
    until(lambda: ring.store.holds(record))
    ring.unwrap(record)
    assert provider.calls["unwrap"] == 1


def test_a_retry_joins_the_unwrap_that_goes_on(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.blocked["unwrap"] = gate
    for _ in range(3):
        assert isinstance(ring.outcome(record, 0.02), errors.TimedOut)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ring.outcome, record)
        until(lambda: ring.keyring.waiting == 1)
        gate.set()
        assert waiting.result() is None
    assert provider.calls["unwrap"] == 1


def test_an_unwrap_ends_at_its_own_time_limit_though_the_provider_hangs(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider), timeout=0.2)
    provider.blocked["unwrap"] = gate
    with pytest.raises(errors.TimedOut, match="time limit of an unwrap"):
        ring.unwrap(record)
    assert isinstance(ring.outcome(record), errors.TimedOut), "the next one tries again"
    assert provider.calls["unwrap"] == 2


# Limits.


def test_beyond_512_waiting_calls_the_next_is_refused_at_once(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.blocked["unwrap"] = gate
    assert WAITING_LIMIT == 512
    with ThreadPoolExecutor(WAITING_LIMIT) as pool:
        waiting = [pool.submit(ring.outcome, record, 30.0) for _ in range(WAITING_LIMIT)]
        until(lambda: ring.keyring.waiting == WAITING_LIMIT)
        with pytest.raises(errors.Overloaded, match="512 calls wait for a remote KMS already; try again"):
            ring.unwrap(record)
        gate.set()
        assert [future.result() for future in waiting] == [None] * WAITING_LIMIT
    assert ring.outcome(record) is None
    assert provider.calls["unwrap"] == 1


def test_beyond_512_records_on_their_way_the_next_is_refused_though_nobody_waits(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    members = members_of(provider)
    members.open(soon())
    ring = Ring(members)
    provider.blocked["unwrap"] = gate
    kek = Kek.generate()
    records = [
        kek.encode_record(number, CLUSTER, [Wrap(SCHEME, "fake/k", "1", ROLE_ONLINE, b"x" * 60)])
        for number in range(FLIGHT_LIMIT + 1)
    ]
    for record in records[:-1]:
        assert isinstance(ring.outcome(record, 0.0), errors.TimedOut)
    with pytest.raises(errors.Overloaded, match="512 records wait"):
        ring.unwrap(records[-1])
    assert isinstance(ring.outcome(records[0], 0.0), errors.TimedOut), "one that is on its way may be joined"
    # Nobody waits for the flights, so they may all be on their way before the first of them has called.
    until(lambda: provider.at_once["unwrap"] == 16)
    gate.set()
    until(lambda: isinstance(ring.outcome(records[-1]), errors.InvalidCiphertext))
    assert provider.at_once["unwrap"] == 16


def test_what_a_member_that_hangs_makes_wait_leaves_places_for_the_others(gate: threading.Event) -> None:
    hung, good = FakeProvider("hung"), FakeProvider("good")
    members = members_of(hung, good)
    members.open(soon())
    ring = Ring(members)
    hung.blocked["unwrap"] = gate
    kek = Kek.generate()
    wrap = Wrap(SCHEME, "fake/hung", "1", ROLE_ONLINE, b"x" * 60)
    outcomes = [ring.outcome(kek.encode_record(number, CLUSTER, [wrap]), 0.0) for number in range(600)]
    told = Counter(str(outcome) for outcome in outcomes)
    kept = FLIGHT_LIMIT // 4
    assert told == {
        "the remote KMS has not answered within 0.0 s; the unwrap goes on, so try again": FLIGHT_LIMIT - kept,
        "too many records wait for hung already, and the places that are left are for other keys; try again": 600
        - (FLIGHT_LIMIT - kept),
    }
    for _ in range(3 * kept // 2):
        assert ring.outcome(record_for(good)) is None


def test_several_members_that_hang_still_leave_places(gate: threading.Event) -> None:
    hung = [FakeProvider(f"hung{number}") for number in range(3)]
    good = FakeProvider("good")
    members = members_of(*hung, good)
    members.open(soon())
    ring = Ring(members)
    kek = Kek.generate()
    for provider in hung:
        provider.blocked["unwrap"] = gate
        wrap = Wrap(SCHEME, str(provider.ref), "1", ROLE_ONLINE, b"x" * 60)
        outcomes = [ring.outcome(kek.encode_record(number, CLUSTER, [wrap]), 0.0) for number in range(600)]
        assert {type(outcome) for outcome in outcomes} == {errors.TimedOut, errors.Overloaded}
    for _ in range(20):
        assert ring.outcome(record_for(good)) is None


def test_a_log_whose_reader_has_stalled_delays_no_unwrap(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stalled:
        def info(self, event: str, **_: object) -> None:
            gate.wait(60)

    monkeypatch.setattr(errands, "log", Stalled())
    provider = FakeProvider("k")
    ring = Ring(members_of(provider))
    assert [ring.outcome(record_for(provider)) for _ in range(40)] == [None] * 40


# Several members.


@pytest.mark.parametrize("operation", ["unwrap", "open"])
def test_a_first_member_that_hangs_costs_less_than_half_a_second(operation: str, gate: threading.Event) -> None:
    took = []
    for _ in range(3):  # the best of three, for a busy machine may be late on its own account
        hung, good = FakeProvider("hung"), FakeProvider("good")
        record = record_for(hung, good)
        ring = Ring(members_of(hung, good))
        hung.blocked[operation] = gate
        begun = time.monotonic()
        ring.unwrap(record)
        took.append(time.monotonic() - begun)
        assert (hung.calls[operation], good.calls["unwrap"]) == (1, 1)
        if took[-1] < 0.9:
            break
    assert 0.35 < min(took) < 1.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no hedge start, however busy the machine is."""
    monkeypatch.setattr(asking, "HEDGE_DELAY", 60.0)


@pytest.mark.usefixtures("patient")
def test_a_first_member_that_answers_in_time_is_the_only_one_asked() -> None:
    first, second = FakeProvider("a"), FakeProvider("b")
    record = record_for(first, second)
    ring = Ring(members_of(first, second))
    ring.unwrap(record)
    assert (first.calls["unwrap"], second.calls["unwrap"]) == (1, 0)


def test_the_slower_of_two_may_still_win(gate: threading.Event) -> None:
    slow, failing = FakeProvider("slow"), FakeProvider("failing")
    record = record_for(slow, failing)
    ring = Ring(members_of(slow, failing))
    slow.delay["unwrap"] = 0.6
    failing.raises["unwrap"] = errors.PermissionDenied("403")
    assert ring.outcome(record) is None


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("error", [errors.Unavailable("away"), errors.KeyDisabled("off"), RuntimeError("bug")])
def test_a_member_that_fails_is_followed_by_the_next_one_at_once(error: Exception) -> None:
    failing, good = FakeProvider("failing"), FakeProvider("good")
    record = record_for(failing, good)
    ring = Ring(members_of(failing, good))
    failing.raises["unwrap"] = error
    ring.unwrap(record)
    assert good.calls["unwrap"] == 1


@pytest.mark.parametrize(
    "answer",
    [lambda _: bytes(32), lambda kek: bytes([kek[0] ^ 1]) + kek[1:], lambda kek: kek[:31], lambda _: None],
    ids=["zeros", "one-bit", "short", "none"],
)
def test_wrong_bytes_from_one_member_are_never_admitted_and_the_next_is_tried(
    answer: Callable[[bytes], object],
) -> None:
    liar, good = FakeProvider("liar"), FakeProvider("good")
    record = record_for(liar, good)
    alone = record_for(liar)
    ring = Ring(members_of(liar, good))
    liar.unwrap_answer = answer
    ring.unwrap(record)
    assert ring.store.holds(record)
    assert good.calls["unwrap"] == 1
    assert isinstance(ring.outcome(alone), errors.NotAuthentic | errors.Misbehaved)
    assert not ring.store.holds(alone)


def test_the_kek_of_another_record_is_not_admitted_for_this_one() -> None:
    provider = FakeProvider("k")
    first, second = record_for(provider), record_for(provider)
    ring = Ring(members_of(provider))
    keks: list[bytes] = []

    def keep(kek: bytes) -> bytes:
        keks.append(kek)
        return kek

    provider.unwrap_answer = keep
    ring.unwrap(first)
    provider.unwrap_answer = lambda _: keks[0]
    assert isinstance(ring.outcome(second), errors.NotAuthentic)
    assert not ring.store.holds(second)


@pytest.mark.usefixtures("patient")
def test_failures_of_several_members_become_the_one_that_tells_what_to_do() -> None:
    cases: list[tuple[errors.ProviderError, errors.ProviderError, type[errors.KeysteadError]]] = [
        (errors.Unavailable("x"), errors.InvalidCiphertext("y"), errors.Unavailable),
        (errors.InvalidCiphertext("x"), errors.Throttled("y"), errors.Unavailable),
        (errors.KeyDisabled("x"), errors.PermissionDenied("y"), errors.PermissionDenied),
        (errors.InvalidCiphertext("x"), errors.Unauthenticated("y"), errors.Unauthenticated),
        (errors.InvalidCiphertext("x"), errors.KeyNotFound("y"), errors.KeyNotFound),
        (errors.InvalidCiphertext("x"), errors.InvalidCiphertext("y"), errors.InvalidCiphertext),
        (errors.Throttled("x"), errors.Throttled("y"), errors.Throttled),
    ]
    tried = 0
    for said_first, said_second, answer in cases:
        first, second = FakeProvider("a"), FakeProvider("b")
        record = record_for(first, second)
        first.raises["unwrap"], second.raises["unwrap"] = said_first, said_second
        outcome = Ring(members_of(first, second)).outcome(record)
        assert type(outcome) is answer
        assert str(outcome) == "key a: unwrap: x; key b: unwrap: y"
        tried += 1
    assert tried == 7


def test_a_member_that_a_reload_has_closed_counts_as_one_that_failed() -> None:
    closed, good = FakeProvider("closed"), FakeProvider("good")
    record = record_for(closed, good)
    members = members_of(closed, good)
    members.open(soon())
    ring = Ring(members)
    members.all[0].guard.close()
    assert ring.outcome(record) is None
    assert isinstance(Ring(Members(members.all[:1])).outcome(record), errors.Unavailable)


def test_a_member_of_stage_decrypt_unwraps_too() -> None:
    active, old = FakeProvider("active"), FakeProvider("old")
    record = record_for(old)
    ring = Ring(members_of(active, decrypt=(old,)))
    ring.unwrap(record)
    assert active.calls["unwrap"] == 0


# A record selects among configured members; it never addresses one.


def test_a_record_that_names_no_configured_member_makes_no_call() -> None:
    ours, theirs = FakeProvider("ours"), FakeProvider("theirs")
    members = members_of(ours)
    members.open(soon())
    ours.calls.clear()
    with pytest.raises(
        errors.NoConfiguredMember, match=r"fake fake/theirs; add the key as a member with stage decrypt"
    ):
        Ring(members).unwrap(record_for(theirs))
    assert ours.calls == {}
    assert theirs.calls == {}


def test_a_record_of_another_scheme_does_not_even_open_a_member() -> None:
    ours = FakeProvider("k")
    record = Kek.generate().encode_record(1, CLUSTER, [Wrap("aws-kms", "fake/k", "1", ROLE_ONLINE, b"x" * 60)])
    assert isinstance(Ring(members_of(ours)).outcome(record), errors.NoConfiguredMember)
    assert ours.calls == {}


def test_a_recovery_wrap_is_never_unwrapped_online() -> None:
    ours, other = FakeProvider("ours"), FakeProvider("other")
    good = record_for(ours).wraps[0]
    wraps = [
        Wrap(SCHEME, "fake/ours", "1", ROLE_RECOVERY, good.blob),
        Wrap(SCHEME, "fake/gone", "1", ROLE_ONLINE, good.blob),
    ]
    members = members_of(ours, other)
    members.open(soon())
    assert isinstance(Ring(members).outcome(Kek.generate().encode_record(1, CLUSTER, wraps)), errors.NoConfiguredMember)
    assert ours.calls["unwrap"] == 0


def test_a_member_that_is_not_open_yet_is_opened_by_the_record_that_may_need_it() -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.raises["open"] = errors.Unavailable("no route to host")
    outcome = ring.outcome(record)
    assert type(outcome) is errors.Unavailable
    assert str(outcome) == "key k: open: no route to host"
    provider.raises.clear()
    assert ring.outcome(record) is None


def test_a_member_that_opens_as_another_key_is_not_asked_to_unwrap() -> None:
    ours, theirs = FakeProvider("ours"), FakeProvider("theirs")
    ring = Ring(members_of(ours))
    with pytest.raises(
        errors.NoConfiguredMember, match=r"^key ours is fake fake/ours, which this record does not name$"
    ):
        ring.unwrap(record_for(theirs))
    assert ours.calls == {"open": 1}


# What is remembered.


DEFINITIVE = (
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.KeyNotFound,
    errors.KeyDisabled,
    errors.InvalidCiphertext,
    errors.ConfigError,
    errors.Misbehaved,
)


@pytest.mark.parametrize("error", DEFINITIVE)
def test_a_definitive_refusal_is_remembered_for_ten_seconds(error: type[errors.ProviderError]) -> None:
    provider, clock = FakeProvider("k"), FakeClock()
    record, other = record_for(provider), record_for(provider)
    ring = Ring(members_of(provider), clock=clock)
    provider.raises["unwrap"] = error("no")
    for _ in range(3):
        outcome = ring.outcome(record)
        assert type(outcome) is error
        assert str(outcome) == "key k: unwrap: no"
    assert provider.calls["unwrap"] == 1
    ring.outcome(other)
    assert provider.calls["unwrap"] == 2, "each record for itself"
    assert REFUSAL_LIFE == 10.0
    clock.advance(9.9)
    ring.outcome(record)
    assert provider.calls["unwrap"] == 2
    provider.raises.clear()
    clock.advance(0.2)
    assert ring.outcome(record) is None
    assert provider.calls["unwrap"] == 3


@pytest.mark.parametrize("error", [errors.Unavailable, errors.Throttled])
def test_a_failure_that_may_pass_is_never_remembered(error: type[errors.ProviderError]) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider), clock=FakeClock())
    provider.raises["unwrap"] = error("later")
    assert type(ring.outcome(record)) is error
    provider.raises.clear()
    assert ring.outcome(record) is None


def test_a_time_limit_is_never_remembered(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider), timeout=0.1)
    provider.blocked["unwrap"] = gate
    assert isinstance(ring.outcome(record), errors.TimedOut)
    gate.set()
    assert ring.outcome(record) is None


def test_a_reload_forgets_refusals_and_uses_the_new_members() -> None:
    old, new = FakeProvider("old"), FakeProvider("new")
    record = record_for(new)
    members = members_of(old)
    members.open(soon())
    ring = Ring(members)
    assert isinstance(ring.outcome(record), errors.NoConfiguredMember)
    ring.keyring.reconfigure(members_of(new), 10.0)
    assert ring.outcome(record) is None


def test_remembered_refusals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "_REFUSALS", 3)
    theirs, ours = FakeProvider("theirs"), members_of(FakeProvider("ours"))
    ours.open(soon())
    ring = Ring(ours)
    for _ in range(20):
        assert isinstance(ring.outcome(record_for(theirs)), errors.NoConfiguredMember)
    assert len(ring.keyring._refusals) == 3


# The end.


def test_after_close_a_call_is_refused_as_something_that_will_pass() -> None:
    provider = FakeProvider("k")
    ring = Ring(members_of(provider))
    ring.keyring.close()
    for _ in range(2):
        with pytest.raises(errors.Unavailable, match="closing"):
            ring.unwrap(record_for(provider))
    assert ring.keyring.waiting == 0


def test_a_flight_under_way_ends_although_the_keyring_is_closed(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    ring = Ring(members_of(provider))
    provider.blocked["unwrap"] = gate
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ring.outcome, record)
        until(lambda: provider.calls["unwrap"] == 1)
        ring.keyring.close()
        gate.set()
        assert waiting.result() is None


def test_fetch_works_without_a_keyring_for_the_start() -> None:
    provider = FakeProvider("k")
    record = record_for(provider)
    store = KekStore([CLUSTER])
    fetch(store, record, members_of(provider), soon())
    assert store.holds(record)
