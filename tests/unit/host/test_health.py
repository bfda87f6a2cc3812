"""The health machine, with the clock passed in. One endpoint has the keys `a` and `b`."""

from __future__ import annotations

from keystead import errors
from keystead.host.health import FAILURES_TO_GO_DOWN, SUCCESSES_TO_COME_UP, KeyHealth, State, healthz, state_of

GRACE = 3600.0
AWAY = errors.Unavailable("key x: wrap: no route to host")
DENIED = errors.PermissionDenied("key x: wrap: 403")


class Keys:
    """The keys of one endpoint by name, and what Status would say of them."""

    def __init__(self, *names: str) -> None:
        self.keys = {name: KeyHealth() for name in names}

    def state(self, now: float, grace: float = GRACE, *, ready: bool = True, safe: bool = True) -> State:
        return state_of(self.keys.values(), now, grace, ready=ready, safe=safe)

    def healthz(self, now: float, grace: float = GRACE) -> str:
        return healthz(self.state(now, grace), self.keys.values(), now)

    @property
    def failing(self) -> bool:
        return any(key.failing for key in self.keys.values())

    def down(self) -> dict[str, str]:
        return {name: str(key.error) for name, key in self.keys.items() if not key.up}


def health_of(*names: str) -> Keys:
    return Keys(*names)


def observe(health: Keys, name: str, *outcomes: errors.KeysteadError | None, start: float = 0.0) -> None:
    for number, outcome in enumerate(outcomes):
        health.keys[name] = health.keys[name].after(outcome, start + number)


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


def test_one_success_does_not_take_a_refusal_back() -> None:
    health = health_of("a")
    observe(health, "a", DENIED, DENIED, DENIED, None)
    assert health.state(3.0) is State.DENIED
    observe(health, "a", DENIED, None, start=4.0)
    assert health.state(5.0) is State.DENIED
    observe(health, "a", None, start=6.0)
    assert health.state(6.0) is State.OK


def test_wrong_bytes_put_a_key_down_at_once_and_two_successes_bring_it_back() -> None:
    health = health_of("a", "b")
    observe(health, "b", None, errors.Misbehaved("key b: unwrap returned another key"))
    assert health.state(1.0) is State.DEGRADED
    observe(health, "b", None, start=2.0)
    assert health.state(2.0) is State.DEGRADED
    observe(health, "b", None, start=3.0)
    assert health.state(3.0) is State.OK


def test_without_a_local_kek_it_starts_whatever_the_keys_do() -> None:
    health = health_of("a")
    assert health.state(0.0, ready=False) is State.INIT
    observe(health, "a", DENIED, DENIED, DENIED)
    assert health.state(3.0, ready=False) is State.INIT


def test_unsafe_is_graver_than_anything_else() -> None:
    health = health_of("a")
    assert health.state(0.0, safe=False) is State.UNSAFE
    assert health.state(0.0, ready=False, safe=False) is State.UNSAFE
    assert healthz(State.UNSAFE, [], 0.0) == "self-test failed"


def test_a_key_knows_since_when_it_is_up_or_down_and_when_it_last_worked() -> None:
    health = health_of("a")
    observe(health, "a", None, AWAY, AWAY, start=10.0)
    key = health.keys["a"]
    assert (key.up, key.since, key.last_success) == (True, 10.0, 10.0)
    observe(health, "a", AWAY, None, None, start=20.0)
    key = health.keys["a"]
    assert (key.up, key.since, key.last_success, key.error) == (True, 22.0, 22.0, None)
    observe(health, "a", AWAY, AWAY, AWAY, start=30.0)
    assert (health.keys["a"].up, health.keys["a"].since) == (False, 32.0)


def test_a_remote_that_flaps_every_second_neither_goes_down_nor_turns_red() -> None:
    health = health_of("a")
    observe(health, "a", *[AWAY, None] * 100)
    assert (health.state(200.0), health.healthz(200.0)) == (State.OK, "ok")
    observe(health, "a", *[AWAY, AWAY, None] * 1400, start=200.0)
    assert (health.state(200.0 + 4200), health.healthz(200.0 + 4200)) == (State.OK, "ok")
