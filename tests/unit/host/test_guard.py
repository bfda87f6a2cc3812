"""What the host makes of a provider that is slow, wrong, or says too much."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import pytest

from keystead import errors
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, Wrap
from keystead.host import guard as guard_module
from keystead.host import lane as lane_module
from keystead.host.caller import RETRY_NEEDS, RETRY_PAUSE, STUCK_LIMIT
from keystead.host.guard import CLOSING_SECONDS, HUNG_LIMIT, Guard
from keystead.host.limits import Bucket
from keystead.provider import Provider, WrapContext, Wrapped
from support.endpoints import Lines, events
from support.fakes import CANARY, CLUSTER, SCHEME, FakeProvider, RecordingObserver, guard_of, until

KEK = Kek.generate()
UNWRAPS_IN_FLIGHT = 16
"""The documented default of `limits.concurrency`."""
CONTEXT = WrapContext(KEK.kek_id, CLUSTER)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def opened(provider: FakeProvider) -> Guard:
    guard = guard_of(provider)
    guard.open(soon())
    return guard


def wrapped_by(guard: Guard, version: str | None = "1") -> Wrap:
    answer = guard.wrap(KEK.reveal(), CONTEXT, version, soon())
    assert guard.ref is not None
    return Wrap(SCHEME, guard.ref, answer.version, ROLE_ONLINE, answer.blob)


def record_of(*wraps: Wrap) -> Record:
    return KEK.encode_record(1, CLUSTER, wraps)


def test_what_was_wrapped_unwraps() -> None:
    guard = opened(FakeProvider("k"))
    assert guard.ref == "fake/k"
    assert guard.current_version(soon()) == "1"
    wrap = wrapped_by(guard)
    assert KEK.equals(bytes(guard.unwrap(wrap, CONTEXT, soon())))
    assert KEK.equals(bytes(guard.start_unwrap(record_of(wrap), CONTEXT, soon()).result(5)))


# Deadlines hold whatever the provider does.


@pytest.mark.parametrize("operation", ["open", "current_version", "wrap", "unwrap"])
def test_a_call_ends_at_its_deadline_though_the_provider_ignores_it(operation: str, gate: threading.Event) -> None:
    provider = FakeProvider("k")
    guard = guard_of(provider) if operation == "open" else opened(provider)
    wrap = Wrap(SCHEME, "fake/k", "1", ROLE_ONLINE, b"blob")
    provider.blocked[operation] = gate
    calls: dict[str, Any] = {
        "open": lambda at: guard.open(at),
        "current_version": lambda at: guard.current_version(at),
        "wrap": lambda at: guard.wrap(KEK.reveal(), CONTEXT, "1", at),
        "unwrap": lambda at: guard.unwrap(wrap, CONTEXT, at),
    }
    begun = time.monotonic()
    with pytest.raises(errors.Unavailable, match=rf"^key k: {operation}: no answer within the time limit$"):
        calls[operation](begun + 0.1)
    assert time.monotonic() - begun < 2.0


def test_a_provider_may_overrun_a_little_to_say_more_than_that_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert guard_module._GRACE == 0.1
    monkeypatch.setattr(guard_module, "_GRACE", 10.0)  # a busy machine may be late on its own account
    provider = FakeProvider("k")
    provider.delay["open"] = 0.1
    provider.raises["open"] = errors.Unavailable("10.0.0.7:8200 did not answer the TLS hello")
    with pytest.raises(errors.Unavailable, match="TLS hello"):
        guard_of(provider).open(soon(0.07))


def test_a_call_whose_time_is_over_before_its_turn_is_not_made(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.blocked["unwrap"] = gate
    record = record_of(wrapped_by(guard))
    running = [guard.start_unwrap(record, CONTEXT, soon(30)) for _ in range(UNWRAPS_IN_FLIGHT)]
    late = guard.start_unwrap(record, CONTEXT, time.monotonic())
    gate.set()
    assert len(wait(running, 10).done) == UNWRAPS_IN_FLIGHT
    with pytest.raises(errors.Unavailable, match="too many calls before this one"):
        late.result(10)
    assert provider.calls["unwrap"] == UNWRAPS_IN_FLIGHT


def test_at_most_16_unwraps_of_one_key_are_under_way_and_the_others_wait_in_line(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    record = record_of(wrapped_by(guard))
    provider.blocked["unwrap"] = gate
    pending = [guard.start_unwrap(record, CONTEXT, soon(30)) for _ in range(50)]
    until(lambda: provider.calls["unwrap"] == UNWRAPS_IN_FLIGHT == 16)
    assert guard.current_version(soon()) == "1", "housekeeping has threads of its own"
    gate.set()
    assert all(KEK.equals(bytes(future.result(10))) for future in pending)
    assert (provider.calls["unwrap"], provider.at_once["unwrap"]) == (50, 16)


def test_a_hung_key_does_not_delay_another(gate: threading.Event) -> None:
    hung, quick = FakeProvider("hung"), FakeProvider("quick")
    guards = opened(hung), opened(quick)
    hung.blocked["unwrap"] = gate
    stuck = record_of(wrapped_by(guards[0]))
    pending = [guards[0].start_unwrap(stuck, CONTEXT, soon(30)) for _ in range(100)]
    record = record_of(wrapped_by(guards[1]))
    assert KEK.equals(bytes(guards[1].start_unwrap(record, CONTEXT, soon()).result(5)))
    assert not any(future.done() for future in pending)


# Limits.


def limited(provider: FakeProvider) -> tuple[Guard, Record]:
    """An open key and a record of it, once its bucket is full again."""
    guard = opened(provider)
    record = record_of(wrapped_by(guard))
    guard._caller._bucket = Bucket(provider.config.limits.rate, provider.config.limits.concurrency, time.monotonic())
    provider.calls.clear()
    return guard, record


def test_unwraps_keep_to_the_configured_rate_after_a_burst_of_the_configured_concurrency() -> None:
    provider = FakeProvider("k", limits={"rate": 20, "concurrency": 4})
    guard, record = limited(provider)
    begun = time.monotonic()
    pending = [guard.start_unwrap(record, CONTEXT, soon(30)) for _ in range(14)]
    assert all(KEK.equals(bytes(future.result(30))) for future in pending)
    assert time.monotonic() - begun >= (14 - 4) / 20
    assert provider.at_once["unwrap"] <= 4


def test_a_call_that_the_rate_leaves_no_time_for_is_refused_by_us_with_the_limit_and_not_sent() -> None:
    provider = FakeProvider("k", limits={"rate": 1, "concurrency": 2})
    guard, record = limited(provider)
    pending = [guard.start_unwrap(record, CONTEXT, soon(0.5)) for _ in range(10)]
    failures = [future.exception(5) for future in pending]
    assert failures.count(None) == 2
    told = {str(failure) for failure in failures if failure is not None}
    assert told == {
        "key k: unwrap: not sent, for limits.rate of 1 calls per second is used up for as long as this call has time"
    }
    assert {type(failure) for failure in failures if failure is not None} == {errors.Throttled}
    assert provider.calls["unwrap"] == 2
    assert not guard.failing, "that is no fault of the remote"


def test_a_flood_of_unwraps_does_not_delay_housekeeping() -> None:
    provider = FakeProvider("k", limits={"rate": 1, "concurrency": 2})
    guard, record = limited(provider)
    flood = [guard.start_unwrap(record, CONTEXT, soon(3)) for _ in range(50)]
    until(lambda: provider.calls["unwrap"] == 2)
    begun = time.monotonic()
    for _ in range(3):
        wrap = wrapped_by(guard)
        assert KEK.equals(bytes(guard.unwrap(wrap, CONTEXT, soon())))
        assert guard.current_version(soon()) == "1"
    assert time.monotonic() - begun < 1.0
    assert not all(future.done() for future in flood)


def test_a_second_attempt_that_the_rate_leaves_no_time_for_is_the_first_failure() -> None:
    provider = FakeProvider("k", limits={"rate": 1, "concurrency": 1})
    guard, record = limited(provider)
    provider.unwrap_answer = fails_first(errors.Unavailable("503"))
    with pytest.raises(errors.Unavailable, match=r"^key k: unwrap: 503$"):
        guard.start_unwrap(record, CONTEXT, soon(RETRY_NEEDS + 0.15)).result(5)
    assert provider.calls["unwrap"] == 1


def test_a_pinned_version_is_wrapped_under_and_the_remote_is_not_asked_for_its_own() -> None:
    provider = FakeProvider("k", version="1")
    guard = opened(provider)
    provider.rotate()
    assert guard.current_version(soon()) == "1"
    assert provider.calls["current_version"] == 0
    assert wrapped_by(guard, guard.current_version(soon())).version == "1"


# A provider that hangs for ever.


@pytest.fixture
def soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a call up a twentieth of a second after its deadline."""
    monkeypatch.setattr(lane_module, "OVERRUN", 0.05)


class Factory:
    """Builds providers one after the other; the test decides what each of them does."""

    def __init__(self, *providers: FakeProvider) -> None:
        self.left = list(providers)
        self.observer = RecordingObserver()
        self.guard = Guard(providers[0].config, lambda: self.left.pop(0), self.observer)

    @property
    def stuck(self) -> int:
        counts: list[Any] = self.observer.all("stuck")
        return counts[-1][1] if counts else 0


def twins(count: int) -> list[FakeProvider]:
    """Providers of one remote key."""
    first = FakeProvider("k")
    others = [FakeProvider("k") for _ in range(count - 1)]
    for other in others:
        other.versions = first.versions
    return [first, *others]


@pytest.mark.usefixtures("soon_given_up")
def test_an_open_that_hangs_is_given_up_and_a_new_provider_is_opened(gate: threading.Event, logged: Lines) -> None:
    hung, good = twins(2)
    hung.blocked["open"] = gate
    factory = Factory(hung, good)
    guard = factory.guard
    with pytest.raises(errors.Unavailable, match=r"^key k: open: no answer within the time limit$"):
        guard.open(soon(0.05))
    until(lambda: factory.stuck == 1)
    assert guard.open(soon()) == "fake/k"
    assert (hung.calls["open"], good.calls["open"]) == (1, 1)
    assert [(line["key"], line["operation"], line["stuck"]) for line in events(logged, "key.hangs")] == [
        ("k", "open", 1)
    ]
    assert events(logged, "key.built_anew")
    until(lambda: hung.closed == 1)
    gate.set()
    until(lambda: factory.stuck == 0)
    until(lambda: hung.closed == 2)  # what it opened after all is closed again
    assert guard.current_version(soon()) == "1"
    assert good.calls["current_version"] == 1


@pytest.mark.usefixtures("soon_given_up")
@pytest.mark.parametrize("operation", ["current_version", "wrap", "unwrap"])
def test_a_provider_of_which_no_call_returns_is_built_anew_and_the_key_works_again_without_a_restart(
    operation: str, gate: threading.Event
) -> None:
    hung, good = twins(2)
    factory = Factory(hung, good)
    guard = factory.guard
    guard.open(soon())
    wrap = wrapped_by(guard)
    hung.blocked[operation] = gate
    calls: dict[str, Callable[[float], object]] = {
        "current_version": guard.current_version,
        "wrap": lambda at: guard.wrap(KEK.reveal(), CONTEXT, "1", at),
        "unwrap": lambda at: guard.unwrap(wrap, CONTEXT, at),
    }
    for number in range(HUNG_LIMIT):
        assert factory.left == [good], "one that hangs once may have met a bad moment"
        with pytest.raises(errors.Unavailable, match="no answer within the time limit"):
            calls[operation](soon(0.05))
        until(lambda number=number: factory.stuck == number + 1)  # type: ignore[misc]
        assert guard.ref == "fake/k"
    assert calls[operation](soon()) is not None
    assert factory.left == []
    assert good.calls == {"open": 1, operation: 1}
    assert KEK.equals(bytes(guard.start_unwrap(record_of(wrap), CONTEXT, soon()).result(5)))
    until(lambda: hung.closed == 1)


@pytest.mark.usefixtures("soon_given_up")
def test_a_provider_that_returns_between_is_not_built_anew(gate: threading.Event) -> None:
    provider, never = twins(2)
    factory = Factory(provider, never)
    guard = factory.guard
    guard.open(soon())
    for number in range(3 * HUNG_LIMIT):
        if number % 2:
            provider.blocked.pop("current_version")
            assert guard.current_version(soon()) == "1"
            continue
        provider.blocked["current_version"] = gate
        before = factory.stuck
        with pytest.raises(errors.Unavailable):
            guard.current_version(soon(0.02))
        until(lambda before=before: factory.stuck == before + 1)  # type: ignore[misc]
    assert factory.left == [never]


@pytest.mark.usefixtures("soon_given_up")
def test_a_key_of_which_32_calls_hang_says_so_and_makes_no_more_until_some_return(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STUCK_LIMIT == 32
    monkeypatch.setattr(guard_module, "HUNG_LIMIT", 10**6)
    provider = FakeProvider("k")
    factory = Factory(provider)
    guard = factory.guard
    guard.open(soon())
    record = record_of(wrapped_by(guard))
    provider.blocked["unwrap"] = gate
    for _ in range(2):
        pending = [guard.start_unwrap(record, CONTEXT, soon(0.05)) for _ in range(16)]
        assert {str(future.exception(5)) for future in pending} == {"key k: unwrap: no answer within the time limit"}
    until(lambda: factory.stuck == 32)
    before = threading.active_count()
    refused = r"^key k: unwrap: not called, for 32 calls before it have not ended although their time is over; if none"
    for _ in range(100):
        with pytest.raises(errors.Unavailable, match=refused):
            guard.start_unwrap(record, CONTEXT, soon()).result(5)
    assert threading.active_count() <= before + 1
    assert provider.calls["unwrap"] == 32
    gate.set()
    until(lambda: factory.stuck == 0)
    assert KEK.equals(bytes(guard.start_unwrap(record, CONTEXT, soon()).result(5)))


@pytest.mark.usefixtures("soon_given_up")
def test_a_new_provider_that_opens_as_another_key_is_not_used(gate: threading.Event) -> None:
    hung, other = FakeProvider("k"), FakeProvider("k", ref="fake/other")
    factory = Factory(hung, other)
    guard = factory.guard
    guard.open(soon())
    hung.blocked["unwrap"] = gate
    record = record_of(Wrap(SCHEME, "fake/k", "1", ROLE_ONLINE, b"blob"))
    pending = [guard.start_unwrap(record, CONTEXT, soon(0.02)) for _ in range(HUNG_LIMIT)]
    wait(pending, 5)
    until(lambda: factory.stuck == HUNG_LIMIT)
    with pytest.raises(errors.Misbehaved, match=r"another ref than before: fake/other, and not fake/k$"):
        guard.open(soon())
    assert guard.ref == "fake/k"


@pytest.mark.usefixtures("soon_given_up")
def test_a_provider_that_cannot_be_built_again_is_said_to_misbehave(gate: threading.Event) -> None:
    hung = FakeProvider("k")
    hung.blocked["open"] = gate
    factory = Factory(hung)
    with pytest.raises(errors.Unavailable):
        factory.guard.open(soon(0.02))
    until(lambda: factory.stuck == 1)
    with pytest.raises(errors.Misbehaved, match=r"^key k: building anew raised IndexError, which the adapter should"):
        factory.guard.open(soon())


@pytest.mark.usefixtures("soon_given_up")
def test_a_closed_key_counts_no_stuck_calls_any_more_for_another_may_have_its_name(gate: threading.Event) -> None:
    hung = FakeProvider("k")
    factory = Factory(hung)
    factory.guard.open(soon())
    hung.blocked["current_version"] = gate
    with pytest.raises(errors.Unavailable):
        factory.guard.current_version(soon(0.02))
    until(lambda: factory.stuck == 1)
    factory.guard.close()
    gate.set()
    until(lambda: factory.guard._caller.stuck == 0)
    counts: list[Any] = factory.observer.all("stuck")
    assert [count for _, count in counts] == [0, 1, 0]


def test_a_provider_that_never_closes_keeps_nobody(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CLOSING_SECONDS == 1.0
    monkeypatch.setattr(guard_module, "CLOSING_SECONDS", 0.05)

    class Clinging(FakeProvider):
        def close(self) -> None:
            gate.wait(60)

    guard = opened(Clinging("k"))
    begun = time.monotonic()
    guard.close()
    assert time.monotonic() - begun < 1.0


# A second attempt.


def fails_first(error: errors.ProviderError, times: int = 1) -> Callable[[bytes], object]:
    """Make `unwrap` fail that often."""
    left = [error] * times

    def answer(kek: bytes) -> object:
        if left:
            raise left.pop()
        return kek

    return answer


@pytest.mark.parametrize("error", [errors.Unavailable("503"), errors.Throttled("429")])
def test_a_failure_that_may_pass_is_tried_once_more_after_a_short_pause(error: errors.ProviderError) -> None:
    provider, observer = FakeProvider("k"), RecordingObserver()
    guard = Guard(provider.config, lambda: provider, observer)
    guard.open(soon())
    wrap = wrapped_by(guard)
    provider.unwrap_answer = fails_first(error)
    begun = time.monotonic()
    assert KEK.equals(bytes(guard.unwrap(wrap, CONTEXT, soon())))
    assert time.monotonic() - begun > RETRY_PAUSE[0]
    assert provider.calls["unwrap"] == 2
    seen = [(name, None if said is None else str(said)) for _, name, said in calls_of(observer)]
    assert seen == [("open", None), ("wrap", None), ("unwrap", f"key k: unwrap: {error}"), ("unwrap", None)]
    provider.unwrap_answer = fails_first(error, times=2)
    with pytest.raises(type(error)):
        guard.unwrap(wrap, CONTEXT, soon())
    assert provider.calls["unwrap"] == 4, "twice is enough"


def calls_of(observer: RecordingObserver) -> list[tuple[str, str, errors.KeysteadError | None]]:
    return observer.all("called")  # type: ignore[return-value]


def test_nothing_is_tried_twice_that_cannot_pass_or_has_too_little_time() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    wrap = wrapped_by(guard)
    provider.unwrap_answer = fails_first(errors.KeyDisabled("off"))
    with pytest.raises(errors.KeyDisabled):
        guard.unwrap(wrap, CONTEXT, soon())
    provider.unwrap_answer = fails_first(errors.Unavailable("away"))
    with pytest.raises(errors.Unavailable, match="away"):
        guard.unwrap(wrap, CONTEXT, soon(RETRY_NEEDS - 0.01))
    assert provider.calls["unwrap"] == 2


def test_a_key_is_failing_from_a_failure_that_may_pass_until_an_answer() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    assert not guard.failing
    for error, failing in ((errors.Unavailable("x"), True), (errors.KeyDisabled("x"), False)):
        provider.fail(error)
        with pytest.raises(type(error)):
            guard.current_version(soon(RETRY_NEEDS / 2))
        assert guard.failing is failing
    provider.fail(errors.Throttled("x"))
    with pytest.raises(errors.Throttled):
        guard.current_version(soon(RETRY_NEEDS / 2))
    provider.fail(None)
    guard.current_version(soon())
    assert not guard.failing


# Opening.


def test_many_callers_open_a_key_once(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    provider.blocked["open"] = gate
    guard = guard_of(provider)
    pending = [guard.start_open(soon()) for _ in range(20)]
    gate.set()
    assert {future.result(5) for future in pending} == {"fake/k"}
    assert guard.open(soon()) == "fake/k"
    assert provider.calls["open"] == 1


def test_a_failed_open_is_tried_again_by_the_next_call() -> None:
    provider = FakeProvider("k")
    provider.raises["open"] = errors.Unauthenticated("token expired")
    guard = guard_of(provider)
    for _ in range(2):
        with pytest.raises(errors.Unauthenticated, match=r"^key k: open: token expired$"):
            guard.open(soon())
        assert guard.ref is None
    provider.raises.clear()
    assert guard.open(soon()) == guard.ref == "fake/k"
    assert provider.calls["open"] == 3


def test_a_late_answer_to_open_counts(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    provider.blocked["open"] = gate
    guard = guard_of(provider)
    with pytest.raises(errors.Unavailable):
        guard.open(soon(0.01))
    gate.set()
    until(lambda: guard.ref is not None)
    assert provider.calls["open"] == 1


def test_an_unwrap_opens_the_key_first() -> None:
    provider = FakeProvider("k")
    record = record_of(wrapped_by(opened(provider)))
    guard = guard_of(provider)
    assert KEK.equals(bytes(guard.start_unwrap(record, CONTEXT, soon()).result(5)))
    assert guard.ref == "fake/k"


# What a record may make it do.


def test_a_record_that_names_another_key_makes_no_call() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    blob = b"blob"
    others = [
        record_of(Wrap(SCHEME, "fake/other", "1", ROLE_ONLINE, blob)),
        record_of(Wrap("other", "fake/k", "1", ROLE_ONLINE, blob)),
        record_of(Wrap(SCHEME, "fake/k", "1", ROLE_RECOVERY, blob), Wrap(SCHEME, "fake/other", "1", ROLE_ONLINE, blob)),
    ]
    for record in others:
        with pytest.raises(errors.NoConfiguredMember, match=r"^key k is fake fake/k, which this record does not name"):
            guard.start_unwrap(record, CONTEXT, soon()).result(5)
    assert provider.calls["unwrap"] == 0


def test_of_two_versions_of_one_key_the_later_is_unwrapped() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    first = wrapped_by(guard, "1")
    second = wrapped_by(guard, provider.rotate())
    del provider.versions["1"]
    assert KEK.equals(bytes(guard.start_unwrap(record_of(first, second), CONTEXT, soon()).result(5)))


# Errors.


@pytest.mark.parametrize("error", errors.ProviderError.__subclasses__())
def test_an_error_keeps_its_class_and_gains_the_name_of_the_key(error: type[errors.ProviderError]) -> None:
    provider = FakeProvider("aws-prod")
    guard = opened(provider)
    provider.fail(error("the other side said no"))
    with pytest.raises(error, match=r"^key aws-prod: current_version: the other side said no$") as caught:
        guard.current_version(soon())
    assert type(caught.value) is error


def test_a_subclass_of_an_adapter_becomes_the_class_that_the_host_knows() -> None:
    class VaultSealed(errors.Unavailable):
        def __init__(self, text: str, node: str) -> None:
            super().__init__(text, node)

        def __str__(self) -> str:
            return f"{self.args[0]} on {self.args[1]}"

    provider = FakeProvider("k")
    guard = opened(provider)
    provider.fail(VaultSealed("sealed", "bao-1"))
    with pytest.raises(errors.Unavailable, match=r"^key k: current_version: sealed on bao-1$") as caught:
        guard.current_version(soon())
    assert type(caught.value) is errors.Unavailable


def test_the_bare_base_class_is_misbehaviour() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.fail(errors.ProviderError("something"))
    with pytest.raises(errors.Misbehaved, match=r"^key k: current_version raised ProviderError, which names no class"):
        guard.current_version(soon())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"token {CANARY} refused"),
        ValueError(CANARY),
        errors.NotAuthentic(CANARY),
        TimeoutError(CANARY),
        SystemExit(CANARY),
    ],
)
@pytest.mark.parametrize("operation", ["open", "current_version", "wrap", "unwrap"])
def test_the_text_of_an_exception_that_nobody_classified_never_appears(operation: str, error: BaseException) -> None:
    provider = FakeProvider("k")
    guard = guard_of(provider) if operation == "open" else opened(provider)
    record = record_of(Wrap(SCHEME, "fake/k", "1", ROLE_ONLINE, b"blob"))
    provider.raises[operation] = error
    calls: dict[str, Any] = {
        "open": lambda: guard.open(soon()),
        "current_version": lambda: guard.current_version(soon()),
        "wrap": lambda: guard.wrap(KEK.reveal(), CONTEXT, "1", soon()),
        "unwrap": lambda: guard.start_unwrap(record, CONTEXT, soon()).result(5),
    }
    with pytest.raises(errors.Misbehaved) as caught:
        calls[operation]()
    assert str(caught.value).startswith(f"key k: {operation} raised {type(error).__name__}, which the adapter")
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in shown, "not even where a traceback is logged"


# Answers.


@pytest.mark.parametrize("ref", [None, b"bytes", "", "x" * 513, "two words", "é", "line\n", 7])
def test_a_ref_that_records_cannot_carry_is_refused(ref: object) -> None:
    provider = FakeProvider("k")
    provider.ref = ref
    guard = guard_of(provider)
    with pytest.raises(errors.Misbehaved, match=r"^key k: open returned a ref that is not 1 to 512"):
        guard.open(soon())
    assert guard.ref is None


def test_the_longest_ref_is_taken() -> None:
    provider = FakeProvider("k")
    provider.ref = "x" * 512
    assert guard_of(provider).open(soon()) == "x" * 512


@pytest.mark.parametrize("version", [3, b"3", "x" * 65, "v 3", "ü", "3\n"])
def test_a_version_that_records_cannot_carry_is_refused(version: object) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.current = version
    with pytest.raises(errors.Misbehaved, match=r"^key k: a version is not"):
        guard.current_version(soon())
    provider.wrap_answer = lambda answer: answer._replace(version=version)  # type: ignore[arg-type]
    with pytest.raises(errors.Misbehaved, match=r"^key k: a version is not"):
        guard.wrap(KEK.reveal(), CONTEXT, "1", soon())


@pytest.mark.parametrize("version", [None, "", "3", "x" * 64])
def test_no_version_and_every_printable_one_are_taken(version: str | None) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.current = version
    assert guard.current_version(soon()) == version


def test_a_wrap_under_another_version_than_asked_for_is_refused() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.rotate()
    provider.wrap_answer = lambda answer: answer._replace(version="2")
    with pytest.raises(errors.Misbehaved, match=r"^key k: wrap used version '2', asked was '1'$"):
        guard.wrap(KEK.reveal(), CONTEXT, "1", soon())
    assert guard.wrap(KEK.reveal(), CONTEXT, None, soon()).version == "2"


@pytest.mark.parametrize("blob", [b"", b"x" * 61, "text", bytearray(b"x" * 60), None])
def test_a_blob_that_is_not_bytes_within_the_declared_limit_is_refused(blob: object) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.wrap_answer = lambda answer: answer._replace(blob=blob)  # type: ignore[arg-type]
    with pytest.raises(errors.Misbehaved, match=r"^key k: wrap returned a blob that is not 1 to 60 bytes$"):
        guard.wrap(KEK.reveal(), CONTEXT, "1", soon())


def test_a_wrap_that_is_no_wrapped_is_refused() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    provider.wrap_answer = lambda answer: tuple(answer)
    with pytest.raises(errors.Misbehaved, match=r"^key k: wrap returned tuple instead of Wrapped$"):
        guard.wrap(KEK.reveal(), CONTEXT, "1", soon())
    provider.wrap_answer = lambda answer: Wrapped(answer.blob, answer.version)
    assert guard.wrap(KEK.reveal(), CONTEXT, "1", soon()).version == "1"


@pytest.mark.parametrize(
    ("kek", "told"),
    [
        (b"x" * 31, "31 bytes instead of 32"),
        (b"x" * 33, "33 bytes instead of 32"),
        (b"", "0 bytes instead of 32"),
        ("x" * 32, "str instead of bytes"),
        (memoryview(bytes(32)), "memoryview instead of bytes"),
        (None, "NoneType instead of bytes"),
    ],
)
def test_an_unwrap_that_is_not_32_bytes_is_refused(kek: object, told: str) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    wrap = wrapped_by(guard)
    provider.unwrap_answer = lambda _: kek
    with pytest.raises(errors.Misbehaved, match=rf"^key k: unwrap returned {told}$"):
        guard.unwrap(wrap, CONTEXT, soon())
    with pytest.raises(errors.Misbehaved, match=rf"^key k: unwrap returned {told}$"):
        guard.start_unwrap(record_of(wrap), CONTEXT, soon()).result(5)


# Credentials.


def test_credentials_are_renewed_when_asked_and_a_failure_is_returned_and_logged_once(logged: Lines) -> None:
    provider = FakeProvider("k")
    guard = guard_of(provider)
    assert guard.keep_alive(soon()) is None
    assert provider.calls == {}, "a key that is not open has none to renew"
    guard.open(soon())
    assert guard.keep_alive(soon()) is None
    provider.raises["keep_alive"] = errors.Unauthenticated("login refused")
    for _ in range(3):
        failure = guard.keep_alive(soon())
        assert type(failure) is errors.Unauthenticated
        assert str(failure) == "key k: keep_alive: login refused"
    provider.raises.clear()
    assert guard.keep_alive(soon()) is None
    assert [line["event"] for line in logged] == ["key.not_renewed", "key.renewed"]
    assert provider.calls["keep_alive"] == 5


def test_a_provider_without_credentials_that_end_has_nothing_to_renew() -> None:
    class Plain(FakeProvider):
        keep_alive = Provider.keep_alive
        credential_expiry = Provider.credential_expiry

    guard = opened(Plain("k"))
    assert guard.keep_alive(soon()) is None
    assert guard.credential_expiry is None


@pytest.mark.parametrize(
    ("answer", "taken"),
    [(None, None), (1.8e9, 1.8e9), (1_800_000_000, 1.8e9), ("soon", None), (math.inf, None), (math.nan, None)],
)
def test_the_end_of_credentials_is_what_the_provider_said_with_its_last_call(answer: object, taken: object) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    assert guard.credential_expiry is None
    provider.expiry = answer
    guard.keep_alive(soon())
    assert guard.credential_expiry == taken
    provider.expiry = None
    guard.current_version(soon())
    assert guard.credential_expiry is None


# Closing.


def test_a_closed_key_refuses_calls_as_something_that_will_pass() -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    record = record_of(wrapped_by(guard))
    guard.close()
    assert provider.closed == 1
    for call in (
        lambda: guard.start_unwrap(record, CONTEXT, soon()),
        lambda: guard.start_open(soon()),
        lambda: guard.current_version(soon()),
    ):
        with pytest.raises(errors.Unavailable, match=r"^key k: closed by a reload; try again$"):
            call()


def test_a_call_under_way_ends_although_its_key_is_closed(gate: threading.Event) -> None:
    provider = FakeProvider("k")
    guard = opened(provider)
    record = record_of(wrapped_by(guard))
    provider.blocked["unwrap"] = gate
    pending: Future[bytes | bytearray] = guard.start_unwrap(record, CONTEXT, soon())
    until(lambda: provider.calls["unwrap"] == 1)
    guard.close()
    gate.set()
    assert KEK.equals(bytes(pending.result(5)))


def test_a_provider_that_cannot_close_stops_nobody() -> None:
    class Clinging(FakeProvider):
        def close(self) -> None:
            raise RuntimeError(CANARY)

    opened(Clinging("k")).close()
