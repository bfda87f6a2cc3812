"""The health machine, with the clock passed in. One endpoint has the keys `a` and `b`."""

from __future__ import annotations

from keystead import errors
from keystead.host.health import FAILURES_TO_GO_DOWN, SUCCESSES_TO_COME_UP, Health, State

GRACE = 3600.0
AWAY = errors.Unavailable("key x: wrap: no route to host")
DENIED = errors.PermissionDenied("key x: wrap: 403")


def health_of(*names: str) -> Health:
    health = Health()
    health.track(names)
    return health


def observe(health: Health, name: str, *outcomes: errors.KeysteadError | None, start: float = 0.0) -> None:
    for number, outcome in enumerate(outcomes):
        health.observe(name, outcome, start + number)


def test_before_any_probe_all_is_well() -> None:
    health = health_of("a", "b")
    assert health.state(0.0, GRACE) is State.OK
    assert health.healthz(0.0, GRACE) == "ok"
    assert not health.failing
    assert health.down() == {}


def test_a_key_goes_down_at_the_third_failure_in_a_row() -> None:
    assert FAILURES_TO_GO_DOWN == 3
    health = health_of("a")
    observe(health, "a", AWAY, AWAY)
    assert health.state(2.0, GRACE) is State.OK
    assert health.failing, "a first failure is followed up at once"
    observe(health, "a", AWAY, start=2.0)
    assert health.state(2.0, GRACE) is State.LOST


def test_failures_with_a_success_between_them_do_not_add_up() -> None:
    health = health_of("a")
    observe(health, "a", AWAY, AWAY, None, AWAY, AWAY)
    assert health.state(5.0, GRACE) is State.OK


def test_a_key_comes_up_at_the_second_success_in_a_row() -> None:
    assert SUCCESSES_TO_COME_UP == 2
    health = health_of("a")
    observe(health, "a", AWAY, AWAY, AWAY, None)
    assert health.state(4.0, GRACE) is State.LOST
    assert health.failing
    observe(health, "a", AWAY, None, start=4.0)
    assert health.state(6.0, GRACE) is State.LOST
    observe(health, "a", None, start=6.0)
    assert health.state(6.0, GRACE) is State.OK
    assert not health.failing


def test_one_of_two_down_is_degraded_and_stays_ok_for_ever() -> None:
    health = health_of("a", "b")
    observe(health, "a", AWAY, AWAY, AWAY)
    observe(health, "b", None)
    assert health.state(100 * GRACE, GRACE) is State.DEGRADED
    assert health.healthz(100 * GRACE, GRACE) == "ok"
    assert health.down() == {"a": str(AWAY)}


def test_one_of_two_denied_is_degraded_and_stays_ok() -> None:
    health = health_of("a", "b")
    observe(health, "a", DENIED, DENIED, DENIED)
    assert health.state(5.0, GRACE) is State.DEGRADED
    assert health.healthz(5.0, GRACE) == "ok"


def test_an_outage_is_ok_for_the_grace_period_and_red_from_then_on() -> None:
    health = health_of("a", "b")
    observe(health, "a", AWAY, AWAY, AWAY, start=100.0)
    observe(health, "b", AWAY, AWAY, AWAY, start=500.0)
    last = 500.0 + GRACE - 1
    assert (health.state(last, GRACE), health.healthz(last, GRACE)) == (State.LOST, "ok")
    assert health.state(500.0 + GRACE, GRACE) is State.LOST_LONG
    assert health.healthz(500.0 + GRACE, GRACE) == f"remote unreachable for 60 min: {AWAY}; {AWAY}"


def test_the_grace_period_begins_with_the_first_failure_of_the_key_that_failed_last() -> None:
    health = health_of("a", "b")
    observe(health, "a", AWAY, AWAY, AWAY, start=0.0)
    observe(health, "b", AWAY, AWAY, AWAY, start=GRACE)
    assert health.state(GRACE + 10, GRACE) is State.LOST, "an hour of one key away is not an hour of both"


def test_a_grace_of_zero_is_red_with_the_third_failure() -> None:
    health = health_of("a")
    observe(health, "a", AWAY, AWAY, AWAY)
    assert health.state(2.0, 0.0) is State.LOST_LONG


def test_a_refusal_by_all_keys_is_red_at_the_third_probe_without_grace() -> None:
    tried = 0
    for refusal in (errors.PermissionDenied("p"), errors.KeyDisabled("d"), errors.KeyNotFound("n")):
        health = health_of("a", "b")
        observe(health, "a", refusal, refusal, refusal)
        observe(health, "b", refusal, refusal)
        assert health.healthz(3.0, GRACE) == "ok"
        observe(health, "b", refusal, start=2.0)
        assert health.state(3.0, GRACE) is State.DENIED
        assert health.healthz(3.0, GRACE) == f"remote denies key: {refusal}; {refusal}"
        tried += 1
    assert tried == 3


def test_one_key_away_and_one_denied_is_an_outage_not_a_refusal() -> None:
    health = health_of("a", "b")
    observe(health, "a", DENIED, DENIED, DENIED)
    observe(health, "b", AWAY, AWAY, AWAY)
    assert health.state(3.0, GRACE) is State.LOST


def test_wrong_answers_and_bad_credentials_are_not_a_refusal_of_the_key() -> None:
    for error in (errors.Misbehaved("m"), errors.Unauthenticated("u"), errors.Throttled("t")):
        health = health_of("a")
        observe(health, "a", error, error, error)
        assert health.state(3.0, GRACE) is State.LOST


def test_an_outage_that_ends_as_a_refusal_turns_red() -> None:
    health = health_of("a")
    observe(health, "a", AWAY, AWAY, AWAY, DENIED, DENIED)
    assert health.state(5.0, GRACE) is State.LOST
    observe(health, "a", DENIED, start=5.0)
    assert health.state(6.0, GRACE) is State.DENIED


def test_two_failures_of_the_network_do_not_make_one_refusal_three() -> None:
    health = health_of("a")
    observe(health, "a", AWAY, AWAY, DENIED)
    assert health.state(3.0, GRACE) is State.LOST
    observe(health, "a", DENIED, AWAY, DENIED, DENIED, start=3.0)
    assert health.state(7.0, GRACE) is State.LOST


def test_one_success_ends_the_length_of_an_outage_though_the_key_is_still_down() -> None:
    health = health_of("a")
    observe(health, "a", AWAY, AWAY, AWAY, start=0.0)
    observe(health, "a", None, AWAY, start=GRACE - 10)
    assert health.state(GRACE + 10, GRACE) is State.LOST


def test_a_reload_keeps_what_is_known_of_keys_that_stay_and_forgets_the_others() -> None:
    health = health_of("a", "b")
    observe(health, "a", AWAY, AWAY, AWAY)
    observe(health, "b", AWAY, AWAY, AWAY)
    health.track(["b", "c"])
    assert set(health.down()) == {"b"}
    assert health.state(3.0, GRACE) is State.DEGRADED
    health.track(["a"])
    assert health.state(3.0, GRACE) is State.OK
