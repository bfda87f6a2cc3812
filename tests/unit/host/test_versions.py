"""Which version a wrap names, and how long a new one has to be seen before it does."""

from __future__ import annotations

import pytest

from keystead.host.versions import Sightings, is_newer, version_to_use

DELAY = 120.0


def seen(*answers: tuple[float, str | None]) -> Sightings:
    found = Sightings()
    for moment, version in answers:
        found = found.after(version, moment)
    return found


def test_a_version_settles_once_every_answer_over_the_delay_has_named_it() -> None:
    assert seen((0, "2")).settled(DELAY) is None
    assert seen((0, "2"), (119, "2")).settled(DELAY) is None
    assert seen((0, "2"), (60, "2"), (120, "2")).settled(DELAY) == "2"
    assert seen((0, "2")).settled(0.0) == "2"


def test_another_answer_between_begins_the_delay_anew() -> None:
    flapping = seen((0, "2"), (60, "1"), (119, "2"), (121, "2"))
    assert flapping.settled(DELAY) is None
    assert flapping.after("2", 239).settled(DELAY) == "2"


def test_time_without_an_answer_proves_nothing() -> None:
    assert seen((0, "2"), (1, "2")).settled(DELAY) is None, "however late it is now"


def test_credentials_that_may_not_look_leave_the_choice_to_the_remote() -> None:
    blind = seen((0, "2"), (120, None))
    assert blind.blind
    assert version_to_use("1", blind, DELAY) is None
    assert version_to_use("1", Sightings(), DELAY) == "1", "a key that was not asked yet is another matter"


@pytest.mark.parametrize(
    ("in_record", "named", "used"),
    [
        ("1", "2", "2"),
        ("9", "10", "10"),
        ("2", "1", "2"),
        ("10", "9", "10"),
        ("3", "3", "3"),
        ("", "", ""),
        ("", "1", ""),
        ("a", "b", "a"),
        ("1", "latest", "1"),
        ("1732874400-f0", "1732874401-0e", "1732874401-0e"),
        ("1732874401-0e", "1732874400-f0", "1732874401-0e"),
        ("9-x", "10-a", "10-a"),
        ("5-a", "5-b", "5-a"),
        ("9", "10-a", "10-a"),
        ("-9", "-10", "-9"),
        ("1.9-a", "2.0-a", "1.9-a"),
        (None, "7", "7"),
        (None, "", ""),
    ],
)
def test_a_version_goes_up_and_never_back(in_record: str | None, named: str, used: str) -> None:
    assert version_to_use(in_record, seen((0, named), (120, named)), DELAY) == used


def test_versions_that_cannot_be_compared_change_with_a_new_epoch() -> None:
    settled = seen((0, "b"), (120, "b"))
    assert version_to_use("a", settled, DELAY, new_epoch=True) == "b"
    assert version_to_use("5", seen((0, "4"), (120, "4")), DELAY, new_epoch=True) == "5", "numbers can be"


def test_what_is_refused_is_left_at_once_but_not_downwards() -> None:
    assert version_to_use("1", seen((0, "2")), DELAY) == "1"
    assert version_to_use("1", seen((0, "2")), DELAY, at_once=True) == "2"
    assert version_to_use("5", seen((0, "1")), DELAY, at_once=True) == "5"


def test_only_numbers_are_newer() -> None:
    assert is_newer("10", "9")
    for version, than in (("9", "10"), ("1", "1"), ("b", "a"), ("", "1"), ("1", ""), ("²", "1")):
        assert not is_newer(version, than)
