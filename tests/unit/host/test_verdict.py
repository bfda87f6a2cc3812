"""One error out of several."""

from __future__ import annotations

import itertools

import pytest

from keystead import errors
from keystead.host.verdict import combine, is_transient

PROVIDER_ERRORS: tuple[type[errors.ProviderError], ...] = (
    errors.Unavailable,
    errors.Throttled,
    errors.Unauthenticated,
    errors.PermissionDenied,
    errors.KeyNotFound,
    errors.KeyDisabled,
    errors.InvalidCiphertext,
    errors.ConfigError,
    errors.Misbehaved,
)
DEFINITIVE = tuple(error for error in PROVIDER_ERRORS if not error.transient)
PRECONDITION = (errors.KeyNotFound, errors.KeyDisabled, errors.ConfigError)
DATA_LOSS = (errors.InvalidCiphertext, errors.NotAuthentic)


def test_every_class_of_provider_error_is_in_these_tests() -> None:
    assert set(PROVIDER_ERRORS) == set(errors.ProviderError.__subclasses__())


@pytest.mark.parametrize("error", [*PROVIDER_ERRORS, errors.NotAuthentic, errors.NoConfiguredMember])
def test_failures_of_one_class_keep_it(error: type[errors.KeysteadError]) -> None:
    assert type(combine([error("a"), error("b")])) is error
    assert type(combine([error("a")])) is error


def test_every_message_is_kept_once_and_in_order() -> None:
    combined = combine(
        [errors.Unavailable("key b: away"), errors.KeyDisabled("key a: off"), errors.Throttled("key b: away")]
    )
    assert str(combined) == "key b: away; key a: off"


def test_if_any_failure_may_pass_the_answer_is_unavailable() -> None:
    transient = (errors.Unavailable, errors.Throttled, errors.TimedOut)
    pairs = [(first, other) for first in transient for other in (*DEFINITIVE, errors.NotAuthentic)]
    assert len(pairs) == 24
    for first, other in pairs:
        assert type(combine([first("x"), other("y")])) is errors.Unavailable
        assert type(combine([other("y"), first("x")])) is errors.Unavailable


def test_definitive_failures_follow_the_documented_order_whichever_came_first() -> None:
    ranks: list[tuple[type[errors.KeysteadError], ...]] = [
        (errors.PermissionDenied,),
        (errors.Unauthenticated,),
        PRECONDITION,
        DATA_LOSS,
        (errors.Misbehaved,),
    ]
    tried = 0
    for (high, better), (low, worse) in itertools.combinations(enumerate(ranks), 2):
        assert high < low
        for strong, weak in itertools.product(better, worse):
            assert type(combine([strong("s"), weak("w")])) is strong
            assert type(combine([weak("w"), strong("s")])) is strong
            tried += 1
    assert tried == 24


def test_a_member_that_turned_out_not_to_be_named_does_not_hide_what_the_named_one_said() -> None:
    unnamed = errors.NoConfiguredMember("key b: not in this record")
    assert type(combine([unnamed, errors.InvalidCiphertext("key a: refused")])) is errors.InvalidCiphertext
    assert type(combine([errors.Misbehaved("key a: 31 bytes"), unnamed])) is errors.Misbehaved


def test_only_what_may_pass_by_itself_is_transient() -> None:
    passing = {errors.Unavailable, errors.Throttled, errors.TimedOut, errors.Overloaded, errors.NotReady}
    classes = {*PROVIDER_ERRORS, *errors.KeysteadError.__subclasses__()} - {errors.ProviderError}
    assert len(classes) >= 17
    assert {error for error in classes if is_transient(error("x"))} == passing
