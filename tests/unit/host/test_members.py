"""Which members a record may reach, and opening them together."""

from __future__ import annotations

import threading
import time

from keystead import errors
from keystead._core import ROLE_ONLINE, ROLE_RECOVERY, Kek, Record, Wrap
from keystead.host.members import Member, Members
from support.fakes import CLUSTER, SCHEME, FakeProvider, guard_of, members_of


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def record_naming(*refs: str, scheme: str = SCHEME, role: int = ROLE_ONLINE) -> Record:
    wraps = [Wrap(scheme, ref, "1", role, b"blob") for ref in refs]
    if role == ROLE_RECOVERY:
        wraps.append(Wrap("aws-kms", "arn:x", "", ROLE_ONLINE, b"blob"))
    return Kek.generate().encode_record(1, CLUSTER, wraps)


def chosen(members: Members, record: Record) -> list[str]:
    return [guard.name for guard in members.for_record(record)]


def test_a_record_reaches_the_members_it_names_in_the_order_of_the_configuration() -> None:
    members = members_of(FakeProvider("c"), FakeProvider("a"), decrypt=(FakeProvider("b"),))
    assert members.open(soon()) == {}
    assert chosen(members, record_naming("fake/a", "fake/b", "fake/c")) == ["c", "a", "b"]
    assert chosen(members, record_naming("fake/b")) == ["b"]
    assert chosen(members, record_naming("fake/other")) == []
    assert chosen(members, record_naming("fake/a", scheme="aws-kms")) == []


def test_a_member_that_failed_a_moment_ago_is_asked_last() -> None:
    members = members_of(FakeProvider("a"), FakeProvider("b"), FakeProvider("c"))
    members.open(soon())
    record = record_naming("fake/a", "fake/b", "fake/c")
    members.all[0].guard._caller.failing = True
    assert chosen(members, record) == ["b", "c", "a"]
    members.all[1].guard._caller.failing = True
    assert chosen(members, record) == ["c", "a", "b"]
    members.all[0].guard._caller.failing = False
    assert chosen(members, record) == ["a", "c", "b"]


def test_a_recovery_wrap_reaches_no_member() -> None:
    members = members_of(FakeProvider("a"))
    assert chosen(members, record_naming("fake/a", role=ROLE_RECOVERY)) == []
    members.open(soon())
    assert chosen(members, record_naming("fake/a", role=ROLE_RECOVERY)) == []


def test_until_a_member_is_open_a_record_of_its_scheme_may_need_it() -> None:
    members = members_of(FakeProvider("a"))
    assert chosen(members, record_naming("fake/anything")) == ["a"]
    assert chosen(members, record_naming("fake/a", scheme="aws-kms")) == []


def test_only_active_members_wrap() -> None:
    members = members_of(FakeProvider("a"), FakeProvider("b"), decrypt=(FakeProvider("c"),))
    assert [guard.name for guard in members.active] == ["a", "b"]


def test_refs_are_known_once_every_member_is_open() -> None:
    away = FakeProvider("b")
    members = members_of(FakeProvider("a"), away)
    away.raises["open"] = errors.Unavailable("away")
    assert members.refs() is None
    assert {name: str(error) for name, error in members.open(soon()).items()} == {"b": "key b: open: away"}
    assert members.refs() is None
    away.raises.clear()
    assert members.open(soon()) == {}
    assert members.refs() == [(SCHEME, "fake/a"), (SCHEME, "fake/b")]


def test_members_open_together_and_one_that_hangs_is_named(gate: threading.Event) -> None:
    providers = [FakeProvider(name) for name in ("a", "b", "c")]
    for provider in providers[:2]:
        provider.blocked["open"] = gate
    members = members_of(*providers)
    begun = time.monotonic()
    closed = members.open(soon(1.0))
    assert time.monotonic() - begun < 5.0
    assert set(closed) == {"a", "b"}
    assert {type(error) for error in closed.values()} == {errors.Unavailable}
    assert members.all[2].guard.ref == "fake/c"


def test_a_member_that_a_reload_has_closed_is_named_and_the_others_open() -> None:
    members = members_of(FakeProvider("a"), FakeProvider("b"))
    members.all[0].guard.close()
    assert set(members.open(soon())) == {"a"}
    assert members.all[1].guard.ref == "fake/b"


def test_two_members_that_are_one_remote_key_are_named() -> None:
    same = FakeProvider("a", ref="fake/x"), FakeProvider("b", ref="fake/x")
    members = members_of(*same)
    assert members.twins() is None, "nothing is known before they are open"
    members.open(soon())
    assert members.twins() == "the keys a and b are both fake fake/x: remove one of them"
    other = members_of(FakeProvider("a"), FakeProvider("b"))
    other.open(soon())
    assert other.twins() is None


def test_one_key_may_be_a_member_of_several_endpoints() -> None:
    provider = FakeProvider("a")
    guard = guard_of(provider)
    for active in (True, False):
        members = Members((Member(guard, active),))
        members.open(soon())
        assert members.twins() is None
    assert provider.calls["open"] == 1
