"""When a token is asked for, on a clock of the test's own and without a server."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from keystead.provider import Misbehaved, Unavailable
from keystead.providers._gcp.tokens import Grant, Tokens
from providers.gcp.given import soon
from support.patience import LATE


@dataclass
class Case:
    """Hands out `t1`, `t2` and so on for `seconds` each, and counts how often it is asked."""

    seconds: float = 3600.0
    now: float = 1000.0
    asked: int = 0
    down: bool = False
    wait: threading.Event | None = None
    tokens: Tokens = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.get, lambda: self.now)

    def get(self, deadline: float) -> Grant:
        self.asked += 1
        if self.wait is not None:
            self.wait.wait(10)
        if self.down:
            raise Unavailable("down")
        return f"t{self.asked}", self.seconds

    def call(self) -> str:
        """What a call of the service does: get a token, use it, and look whether it is near its end."""
        text = self.tokens.current(soon()).text
        self.tokens.renew_early(soon())
        return text


def test_a_token_is_asked_for_once_and_kept_until_shortly_before_its_end() -> None:
    case = Case()
    assert case.call() == "t1"
    case.now += 3600 - 226
    assert (case.call(), case.asked) == ("t1", 1)


def test_a_token_near_its_end_is_replaced_after_the_call_that_it_still_served() -> None:
    case = Case()
    case.call()
    case.now += 3600 - 224
    assert (case.call(), case.asked) == ("t1", 2)
    assert (case.call(), case.asked) == ("t2", 2)


def test_an_idle_token_is_kept_alive_and_its_end_is_nobodys_business_until_that_fails() -> None:
    case = Case()
    tokens = case.tokens
    assert tokens.expiry is None
    for asked in range(1, 4):
        tokens.keep_alive(soon())
        tokens.keep_alive(soon())
        assert (case.asked, tokens.expiry) == (asked, None)
        case.now += 3600 - 224
    case.down = True
    with pytest.raises(Unavailable, match="down"):
        tokens.keep_alive(soon())
    assert tokens.expiry == pytest.approx(time.time() + 224, abs=5)
    assert case.call() == "t3", "a call does not care yet"
    case.down = False
    case.now += 20
    tokens.keep_alive(soon())
    assert tokens.expiry is None


def test_a_token_that_lives_for_a_minute_is_replaced_at_half_its_life() -> None:
    case = Case(seconds=60.0)
    case.call()
    case.now += 29
    assert (case.call(), case.asked) == ("t1", 1)
    case.now += 2
    assert (case.call(), case.asked) == ("t1", 2)


def test_a_replacement_that_fails_fails_no_call_and_is_tried_again_after_a_pause() -> None:
    case = Case()
    case.call()
    case.now += 3600 - 200
    case.down = True
    assert (case.call(), case.asked) == ("t1", 2)
    assert (case.call(), case.asked) == ("t1", 2)
    case.now += 16
    assert (case.call(), case.asked) == ("t1", 3)
    case.down = False
    case.now += 16
    assert (case.call(), case.asked) == ("t1", 4)
    assert case.call() == "t4"


def test_a_token_that_is_over_is_replaced_before_the_call_and_its_failure_is_the_call_s() -> None:
    case = Case()
    case.call()
    case.now += 3600
    case.down = True
    with pytest.raises(Unavailable, match="down"):
        case.call()
    case.down = False
    assert case.call() == "t3"


def test_a_token_that_is_refused_is_forgotten_and_worth_a_second_call_only_if_it_is_not_new() -> None:
    case = Case()
    first = case.tokens.current(soon())
    case.now += 6
    assert not case.tokens.refused(first)
    second = case.tokens.current(soon())
    assert second.text == "t2"
    case.now += 31
    assert case.tokens.refused(second)
    assert case.tokens.current(soon()).text == "t3"


def test_while_every_token_is_refused_a_new_one_is_asked_for_every_few_seconds_and_not_for_each_call() -> None:
    case = Case()
    for _ in range(100):
        assert not case.tokens.refused(case.tokens.current(soon()))
        case.now += 0.1
    assert case.asked == 2


def test_a_refusal_of_an_old_token_does_not_throw_away_the_new_one() -> None:
    case = Case()
    first = case.tokens.current(soon())
    case.now += 6
    case.tokens.refused(first)
    assert case.tokens.current(soon()).text == "t2"
    case.tokens.refused(first)
    assert (case.tokens.current(soon()).text, case.asked) == ("t2", 2)


def test_many_calls_at_once_ask_for_one_token() -> None:
    case = Case(wait=threading.Event())
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(case.tokens.current(soon()).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert case.wait is not None
    case.wait.set()
    for thread in threads:
        thread.join(10)
    assert (got, case.asked) == (["t1"] * 8, 1)


def test_a_call_that_waits_for_another_s_token_waits_no_longer_than_its_deadline() -> None:
    case = Case(wait=threading.Event())
    assert case.wait is not None
    first = threading.Thread(target=case.tokens.current, args=(soon(),))
    first.start()
    try:
        while not case.asked:
            time.sleep(0.001)
        start = time.monotonic()
        with pytest.raises(Unavailable, match="another call still waits for one"):
            case.tokens.current(start + 0.2)
        assert time.monotonic() - start < 0.2 + LATE
    finally:
        case.wait.set()
        first.join(10)


@pytest.mark.parametrize("grant", [("", 60.0), ("a b", 60.0), ("a\n", 60.0), ("ä", 60.0), ("a", 0.0), ("a", -1.0)])
def test_what_is_no_token_is_refused_without_being_shown(grant: Grant) -> None:
    with pytest.raises(Misbehaved, match="the answer to the request for a token has no token"):
        Tokens(lambda _: grant).current(soon())


def test_a_token_that_lives_for_no_number_of_seconds_is_refused() -> None:
    with pytest.raises(Misbehaved):
        Tokens(lambda _: ("a", float("nan"))).current(soon())


def test_a_token_shows_in_no_representation() -> None:
    case = Case()
    assert "t1" not in repr(case.tokens.current(soon()))
