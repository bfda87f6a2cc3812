"""When one node lets a key become active."""

from __future__ import annotations

from keystead.host.stages import PROOF_LIFE, Candidate, hold, soak_left

WALL = 1_790_000_000.0
SOAK = 900.0


def test_a_soak_runs_from_the_first_sight_of_a_key_that_decrypts() -> None:
    assert soak_left(None, SOAK, 1000.0) is None
    assert soak_left(1000.0, SOAK, 1000.0) == SOAK
    assert soak_left(1000.0, SOAK, 1899.0) == 1.0
    assert soak_left(1000.0, SOAK, 1900.0) == 0.0
    assert soak_left(1000.0, SOAK, 9999.0) == 0.0


def test_a_soak_of_nothing_asks_for_nothing() -> None:
    assert soak_left(None, 0.0, 1000.0) == 0.0


def test_no_candidate_is_held() -> None:
    assert hold([], WALL) is None


def test_a_key_that_is_ready_is_not_held() -> None:
    assert hold([Candidate("b", 0.0, PROOF_LIFE)], WALL) is None


def test_the_first_that_is_not_ready_is_named() -> None:
    held = hold([Candidate("a", 0.0, 0.0), Candidate("b", None, 0.0), Candidate("c", 1.0, 0.0)], WALL)
    assert held is not None
    assert held.startswith("key b ")


def test_the_text_stays_the_same_while_a_soak_is_waited_for() -> None:
    texts = {hold([Candidate("b", 900.0 - passed, 0.0)], WALL + passed) for passed in range(0, 900, 5)}
    assert texts == {
        "key b has not been decrypt on this node for long enough, and others may still lack it: wait until "
        "2026-09-21T14:29Z, when it becomes active by itself"
    }


def test_a_proof_ends_after_five_minutes() -> None:
    assert PROOF_LIFE == 300.0
    for age, why in ((301.0, "key b: unwrap: 403"), (None, None)):
        held = hold([Candidate("b", 0.0, age, why)], WALL)
        assert held is not None
        assert held.endswith(f"mend this: {why or 'nothing was tried yet'}")
