"""When credentials are got and when they are replaced, on a clock of the test's own and without a server."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

import pytest

from keystead.provider import ProviderError, Throttled, Unauthenticated, Unavailable
from keystead.providers._aws.credentials import Credentials, Grant, Lease
from providers.aws.given import soon
from support.patience import LATE


@dataclass
class FakeSource:
    """A FAKE source. It hands out `k1`, `k2` and so on, for `life` seconds each."""

    case: Case
    life: float = 3600.0
    renew_after: float = math.inf
    same: bool = False
    failure: ProviderError | None = None
    version: int = 0
    made: int = 0
    deadlines: list[float] = field(default_factory=list)

    def stamp(self) -> object:
        return self.version

    def fetch(self, deadline: float) -> Grant:
        self.deadlines.append(deadline)
        if self.failure is not None:
            raise self.failure
        self.made += 1
        return Grant("k" if self.same else f"k{self.made}", self.case.now + self.life, self.renew_after)


class Case:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.source = FakeSource(self)
        self.credentials = Credentials(self.source, lambda: self.now)

    def call(self) -> str:
        """Do what a call that succeeds does, and return what it was signed with."""
        self.credentials.valid(soon())
        keys: str = self.credentials.get_frozen_credentials()
        self.credentials.renew_if_due(soon())
        return keys

    @property
    def tried(self) -> int:
        return len(self.source.deadlines)


@pytest.fixture
def case() -> Case:
    return Case()


def test_credentials_are_got_once_and_used_until_half_their_life(case: Case) -> None:
    assert case.call() == "k1"
    case.now += 1799
    assert case.call() == "k1"
    assert case.tried == 1


def test_credentials_past_half_their_life_are_renewed_once_after_a_call(case: Case) -> None:
    case.call()
    case.now += 1801
    assert case.call() == "k1", "the call does not wait"
    assert case.tried == 2
    assert case.call() == "k2"
    assert case.tried == 2


def test_idle_credentials_are_kept_alive_and_their_end_is_nobodys_business_until_that_fails(case: Case) -> None:
    keep = case.credentials.keep_alive
    assert case.credentials.expiry is None
    for tried in range(1, 4):
        keep(soon())
        keep(soon())
        assert (case.tried, case.credentials.expiry) == (tried, None)
        case.now += 1801
    case.source.failure = Unavailable("STS is away")
    with pytest.raises(Unavailable, match="STS is away"):
        keep(soon())
    assert case.credentials.expiry == pytest.approx(time.time() + 1799, abs=5)
    case.now += 1000
    case.source.failure = None
    keep(soon())
    assert case.credentials.expiry is None


def test_credentials_without_an_end_have_none_to_show_whatever_fails(case: Case) -> None:
    case.source.life = math.inf
    case.source.renew_after = 60.0
    case.call()
    case.now += 61
    case.source.failure = Unauthenticated("the file is gone")
    with pytest.raises(Unauthenticated, match="the file is gone"):
        case.credentials.keep_alive(soon())
    assert case.credentials.expiry is None
    assert case.call() == "k1"


def test_a_renewal_has_a_second_at_most(case: Case) -> None:
    case.call()
    case.now += 1801
    case.call()
    assert case.source.deadlines[1] < time.monotonic() + 1.01


def test_a_renewal_that_fails_fails_no_call_and_is_tried_again_after_a_pause(case: Case) -> None:
    case.call()
    case.now += 1801
    case.source.failure = Unavailable("down")
    assert [case.call(), case.call()] == ["k1", "k1"]
    assert case.tried == 2
    case.now += 1799 / 8 + 1
    case.call()
    assert case.tried == 3
    case.source.failure, case.now = None, case.now + 1000
    assert [case.call(), case.call()] == ["k1", "k2"]


def test_credentials_that_have_ended_are_replaced_before_the_call(case: Case) -> None:
    case.call()
    case.now += 3600
    assert case.call() == "k2"
    case.now += 3600
    case.source.failure = Throttled("slow down")
    with pytest.raises(Throttled, match="slow down"):
        case.call()


def test_credentials_without_a_known_end_are_looked_at_again(case: Case) -> None:
    case.source.life, case.source.renew_after = math.inf, 60
    case.call()
    case.now += 61
    assert [case.call(), case.call()] == ["k1", "k2"]
    case.source.failure = Unauthenticated("gone")
    case.now += 61
    assert [case.call(), case.call()] == ["k2", "k2"]
    assert case.tried == 3


def test_a_file_that_changed_is_read_before_the_call(case: Case) -> None:
    case.call()
    case.source.version += 1
    assert case.call() == "k2"
    assert case.call() == "k2"
    assert case.tried == 2


def test_a_file_that_is_half_written_costs_no_call(case: Case) -> None:
    case.call()
    case.source.version += 1
    case.source.failure = Unauthenticated("empty")
    assert [case.call(), case.call()] == ["k1", "k1"]
    assert case.tried == 2, "not at each call"
    case.now += 6
    case.source.failure = None
    assert case.call() == "k2"


def test_refused_credentials_are_replaced_unless_they_are_young(case: Case) -> None:
    lease = case.credentials.valid(soon())
    assert not case.credentials.replaced(lease, soon())
    case.now += 31
    assert case.credentials.replaced(lease, soon())
    assert case.call() == "k2"


def test_refused_credentials_are_not_tried_again_if_there_are_no_others(case: Case) -> None:
    case.source.same = True
    lease = case.credentials.valid(soon())
    case.now += 31
    assert not case.credentials.replaced(lease, soon())


def test_of_many_refused_calls_one_gets_new_credentials(case: Case) -> None:
    lease = case.credentials.valid(soon())
    case.now += 31
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(case.credentials.replaced(lease, soon()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert case.tried == 2


def test_of_many_first_calls_one_asks_and_all_get_its_failure(case: Case) -> None:
    entered, go = threading.Event(), threading.Event()

    def fetch(deadline: float) -> Grant:
        case.source.deadlines.append(deadline)
        entered.set()
        go.wait(10)
        raise Unauthenticated("credentials: no")

    case.source.fetch = fetch  # type: ignore[method-assign]  # this source waits
    failures: list[str] = []

    def call() -> None:
        try:
            case.credentials.valid(soon())
        except Unauthenticated as exc:
            failures.append(str(exc))

    threads = [threading.Thread(target=call) for _ in range(6)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    # All must be past the point where they see that somebody asks already.
    while sum(thread.is_alive() for thread in threads) < 6:
        time.sleep(0.01)
    time.sleep(0.2)
    go.set()
    for thread in threads:
        thread.join()
    assert failures == ["credentials: no"] * 6
    assert case.tried == 1


def test_a_call_waits_for_another_ones_credentials_no_longer_than_its_deadline(case: Case) -> None:
    with case.credentials._fetching:
        start = time.monotonic()
        with pytest.raises(Unavailable, match="another call is still getting them"):
            case.credentials.valid(soon(0.1))
        assert time.monotonic() - start < 0.1 + LATE


def test_credentials_do_not_print() -> None:
    assert "canary" not in repr(Grant("canary"))
    assert "canary" not in repr(Lease("canary", 0, 0, 0, None))
