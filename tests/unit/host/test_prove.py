"""Trying keys before they are put to use."""

from __future__ import annotations

import threading
import time

import pytest

from keystead import errors
from keystead.host.prove import Unproven, prove
from support.fakes import CLUSTER, FakeProvider, guard_of


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_an_active_key_wraps_and_unwraps_and_another_one_is_only_opened() -> None:
    active, other = FakeProvider("a"), FakeProvider("b")
    prove([guard_of(active)], [guard_of(other)], CLUSTER, soon())
    assert (active.calls["open"], active.calls["wrap"], active.calls["unwrap"]) == (1, 1, 1)
    assert (other.calls["open"], other.calls["wrap"], other.calls["unwrap"]) == (1, 0, 0)


def test_without_keys_there_is_nothing_to_prove() -> None:
    prove([], [], CLUSTER, soon())


def test_every_key_that_fails_is_named() -> None:
    away, denied, good = FakeProvider("a"), FakeProvider("b"), FakeProvider("c")
    away.fail(errors.Unavailable("connection refused"))
    denied.raises["unwrap"] = errors.PermissionDenied("no decrypt right")
    with pytest.raises(Unproven) as caught:
        prove([guard_of(denied), guard_of(good)], [guard_of(away)], CLUSTER, soon(0.5))
    assert caught.value.reasons == [
        "key b: unwrap: no decrypt right",
        "key a: open: connection refused",
    ]
    assert not caught.value.transient
    assert not caught.value.hopeless


@pytest.mark.parametrize(
    ("error", "transient", "hopeless"),
    [
        (errors.Unavailable("away"), True, False),
        (errors.Throttled("slow down"), True, False),
        (errors.Unauthenticated("token expired"), False, False),
        (errors.KeyDisabled("scheduled for deletion"), False, False),
        (errors.ConfigError("no such region"), False, True),
        (errors.Misbehaved("nonsense"), False, True),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(error: errors.ProviderError, transient: bool, hopeless: bool) -> None:
    key = FakeProvider()
    key.fail(error)
    with pytest.raises(Unproven) as caught:
        prove([guard_of(key)], [], CLUSTER, soon(0.5))
    assert (caught.value.transient, caught.value.hopeless) == (transient, hopeless)


def test_a_key_that_returns_another_value_than_it_was_given_is_not_proven() -> None:
    key = FakeProvider()
    key.unwrap_answer = lambda kek: bytes(len(kek))
    with pytest.raises(Unproven, match="another key than was wrapped"):
        prove([guard_of(key)], [], CLUSTER, soon())


def test_keys_that_hang_are_given_up_together_at_the_deadline() -> None:
    keys = [FakeProvider(name) for name in "abc"]
    release = threading.Event()
    for key in keys:
        key.blocked["open"] = release
    began = time.monotonic()
    with pytest.raises(Unproven) as caught:
        prove([guard_of(key) for key in keys], [], CLUSTER, soon(0.3))
    assert time.monotonic() - began < 2
    assert len(caught.value.reasons) == 3
    release.set()
