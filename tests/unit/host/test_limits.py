"""How a token bucket counts, second by second, with the time passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keystead.host.limits import Bucket

FOREVER = float("inf")


def test_a_burst_passes_at_once_and_then_one_call_per_interval() -> None:
    bucket = Bucket(rate=10, burst=3, now=100.0)
    waits = [bucket.reserve(100.0, FOREVER) for _ in range(6)]
    assert [None if wait is None else round(wait, 9) for wait in waits] == [0, 0, 0, 0.1, 0.2, 0.3]


def test_a_token_comes_back_with_time_and_no_more_than_a_burst_of_them() -> None:
    bucket = Bucket(rate=10, burst=3, now=0.0)
    for _ in range(3):
        assert bucket.reserve(0.0, FOREVER) == 0
    assert bucket.reserve(0.1, FOREVER) == 0
    assert bucket.reserve(0.1, FOREVER) == 0.1
    waits = [bucket.reserve(1000.0, FOREVER) for _ in range(4)]
    assert waits == [0, 0, 0, 0.1]


def test_a_token_that_would_come_too_late_is_not_taken() -> None:
    bucket = Bucket(rate=1, burst=1, now=0.0)
    assert bucket.reserve(0.0, 0.5) == 0
    assert [bucket.reserve(0.0, 0.5) for _ in range(5)] == [None] * 5
    assert bucket.reserve(0.0, 1.0) == 1.0, "the five took nothing"


def test_who_goes_first_is_never_delayed_and_the_others_pay_for_a_burst_at_most() -> None:
    bucket = Bucket(rate=1, burst=2, now=0.0)
    bucket.take(0.0)
    assert bucket.reserve(0.0, FOREVER) == 0
    assert bucket.reserve(0.0, FOREVER) == 1.0
    bucket.take(0.0)
    assert bucket.reserve(0.0, FOREVER) == 3.0
    for _ in range(100):
        bucket.take(0.0)
    wait = bucket.reserve(0.0, FOREVER)
    assert wait is not None
    assert wait <= 4.0, "not a hundred seconds"


def test_a_clock_that_goes_back_makes_no_tokens() -> None:
    bucket = Bucket(rate=1, burst=1, now=100.0)
    assert bucket.reserve(100.0, FOREVER) == 0
    assert bucket.reserve(50.0, FOREVER) == 1.0
    assert bucket.reserve(100.0, FOREVER) == 2.0, "the second between 50 and 100 was counted once"


@given(
    rate=st.integers(1, 1000),
    burst=st.integers(1, 64),
    arrivals=st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=300),
)
def test_in_no_interval_do_more_pass_than_the_rate_and_a_burst(rate: int, burst: int, arrivals: list[float]) -> None:
    bucket, starts = Bucket(rate, burst, 0.0), []
    for now in sorted(arrivals):
        wait = bucket.reserve(now, now + 1.0)
        if wait is not None:
            assert 0 <= wait <= 1.0
            starts.append(now + wait)
    assert starts == sorted(starts), "first come, first served"
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= rate * (starts[last] - starts[first]) + burst + 1e-6 * rate
