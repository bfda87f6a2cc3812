"""Time is measured so that a faulty adapter is caught, and a busy machine is not taken for one."""

from __future__ import annotations

import time

import pytest

from keystead.provider import Unavailable
from keystead.testing import NotShown, case
from keystead.testing.rules import Broken


def late(deadline: float) -> None:
    time.sleep(deadline - time.monotonic() + 0.5)
    raise Unavailable("half a second too late")


def test_a_call_that_is_late_twice_breaks_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "BRIEF", 0.05)
    with pytest.raises(Broken, match=r"ends within its deadline of 0\.05 s"):
        case.must_end_in_time("wrap", late, Unavailable)


def test_a_call_that_was_late_because_the_machine_was_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(case.Pace):
        def __exit__(self, *told: object) -> None:
            super().__exit__(*told)
            self.lost = 5.0

    monkeypatch.setattr(case, "BRIEF", 0.05)
    monkeypatch.setattr(case, "SPOILT", 3)
    monkeypatch.setattr(case, "Pace", Lost)
    with pytest.raises(NotShown, match="too busy to measure"):
        case.must_end_in_time("wrap", late, Unavailable)


def test_a_thread_that_is_woken_late_counts_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with case.Pace() as pace:
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 3.0)
        time.sleep(0.1)
        monkeypatch.undo()
    assert pace.lost >= 2.9
