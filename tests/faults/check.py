"""What has to hold during a fault, whatever it is."""

from __future__ import annotations

from grpc import StatusCode

from faults.expected import FAULTS
from faults.measure import AT_LEAST, COLD, Measured, longest, p50

TIMEOUT = 3.0
"""Seconds that an API server waits, by default."""
NOISE = 0.02
"""Seconds by which a median may differ on a loaded machine. A Decrypt from memory takes about a thousandth."""


def check(found: Measured, healthy: Measured, others: int) -> None:
    """Compare with what is expected and with the same remote without a fault; `others` answer meanwhile."""
    expected = FAULTS[found.fault][found.provider]
    assert all(call.seconds < TIMEOUT for call in [*found.status, *found.hot, *found.cold, *found.others])
    assert len(found.cold) == COLD
    assert {call.code for call in found.cold} == {expected.code}, found.cold
    assert set(found.decrypts) <= set(expected.decrypt)
    assert found.decrypts.total() == COLD
    assert set(found.unwraps) <= set(expected.call)
    assert found.unwraps.total() >= COLD

    for calls, usual in ((found.status, healthy.status), (found.hot, healthy.hot)):
        assert len(calls) >= AT_LEAST
        assert {call.code for call in calls} == {StatusCode.OK}
        assert p50(calls) < p50(usual) + NOISE
        assert longest(calls) < TIMEOUT / 2
    assert {call.text for call in found.status} == {"ok"}
    # The endpoints of the other remotes notice nothing.
    assert [call.code for call in found.others] == [StatusCode.OK] * others
    assert found.back < TIMEOUT
