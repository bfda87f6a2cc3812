"""When a token is renewed and when it is replaced, on a clock of the test's own and without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import PermissionDenied, Throttled, Unauthenticated, Unavailable
from keystead.providers._vault.answers import Answer
from keystead.providers._vault.config import JwtAuth, TokenAuth
from keystead.providers._vault.credentials import Credentials
from providers.vault.given import soon


@dataclass
class FakeServer:
    """A FAKE of the server's token store. It hands out `t1`, `t2` and so on, for `ttl` seconds each."""

    ttl: int = 1000
    renewed_ttl: int | None = None
    renewable: bool = True
    expire_time: str | None = None
    down: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    """Tokens that the policy keeps from the operation."""
    dead: set[str] = field(default_factory=set)
    login_status: int = 200
    log: list[str] = field(default_factory=list)
    made: int = 0

    def request(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        token: str | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        operation = path.rpartition("/")[2]
        self.log.append(f"{operation} {token or ''}".strip())
        if operation in self.down:
            raise Unavailable(f"{operation} is down")
        if token in self.dead or (operation == "operate" and token in self.denied):
            return Answer(path, 403, {}, "permission denied")
        match operation:
            case "login":
                if self.login_status != 200:
                    return Answer(path, self.login_status, {}, "no")
                self.made += 1
                return self._granted(path, f"t{self.made}", self.ttl)
            case "renew-self":
                return self._granted(path, str(token), self.ttl if self.renewed_ttl is None else self.renewed_ttl)
            case "lookup-self":
                about = {"ttl": self.ttl, "renewable": self.renewable, "expire_time": self.expire_time}
                return Answer(path, 200, {"data": about}, "")
        return Answer(path, 200, {"data": {}}, "")

    def _granted(self, path: str, token: str, ttl: int) -> Answer:
        auth = {"client_token": token, "lease_duration": ttl, "renewable": self.renewable}
        return Answer(path, 200, {"auth": auth}, "")

    def forget_connections(self) -> None:
        pass

    def since(self) -> list[str]:
        """The log since the last call of this."""
        log, self.log = self.log, []
        return log


@dataclass
class Case:
    server: FakeServer
    credentials: Credentials
    now: float = 1000.0

    def operate(self, *, optional: bool = False) -> list[str]:
        """Make a call that must succeed, and return what was asked of the server."""
        assert self.credentials.request("POST", "operate", soon(), optional=optional).ok
        return self.server.since()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "jwt").write_text("a.b.c")
    server = FakeServer()
    auth = JwtAuth(method="jwt", role="r", jwtFile=tmp_path / "jwt")
    made = Case(server, Credentials(auth, server, lambda: made.now))
    return made


def test_a_token_is_got_once_and_used_until_half_its_life(case: Case) -> None:
    assert case.operate() == ["login", "operate t1"]
    case.now += 499
    assert case.operate() == ["operate t1"]


def test_a_token_past_half_its_life_is_renewed_once_after_the_call(case: Case) -> None:
    case.operate()
    case.now += 501
    assert case.operate() == ["operate t1", "renew-self t1"]
    case.now += 499
    assert case.operate() == ["operate t1"]


def test_a_renewal_that_fails_fails_no_call_and_is_tried_again_after_a_pause(case: Case) -> None:
    case.operate()
    case.now += 520
    case.server.down = {"renew-self"}
    assert case.operate() == ["operate t1", "renew-self t1"]
    assert case.operate() == ["operate t1"]
    case.now += 480 / 8
    assert case.operate() == ["operate t1", "renew-self t1"]


def test_a_token_that_the_server_renews_for_less_and_less_is_replaced(case: Case) -> None:
    case.operate()
    case.now += 501
    case.server.renewed_ttl = 300
    assert case.operate() == ["operate t1", "renew-self t1", "login"]
    assert case.operate() == ["operate t2"]


def test_a_token_that_is_renewed_for_less_serves_on_if_no_new_one_can_be_had(case: Case) -> None:
    case.operate()
    case.now += 501
    case.server.renewed_ttl, case.server.down = 300, {"login"}
    assert case.operate() == ["operate t1", "renew-self t1", "login"]
    case.now += 200
    case.server.down = set()
    assert case.operate() == ["operate t1", "renew-self t1", "login"]


def test_a_token_that_cannot_be_renewed_is_replaced_at_half_its_life(case: Case) -> None:
    case.server.renewable = False
    case.operate()
    case.now += 501
    assert case.operate() == ["operate t1", "login"]


def test_an_idle_token_is_kept_alive_and_costs_nothing_before_half_its_life(case: Case) -> None:
    keep, since = case.credentials.keep_alive, case.server.since
    keep(soon())
    assert since() == ["login"]
    case.now += 499
    keep(soon())
    assert since() == []
    case.now += 2
    for _ in range(5):
        keep(soon())
        assert since() == ["renew-self t1"]
        case.now += 501
    case.now += 1000
    keep(soon())
    assert since() == ["login"]


def test_the_end_of_a_token_is_nobodys_business_until_it_cannot_be_renewed(case: Case) -> None:
    credentials = case.credentials
    assert credentials.expiry is None
    case.operate()
    case.now += 501
    assert credentials.expiry is None
    case.server.down = {"renew-self", "login"}
    with pytest.raises(Unavailable, match="renew-self is down"):
        credentials.keep_alive(soon())
    assert credentials.expiry == pytest.approx(time.time() + 499, abs=5)
    case.now += 100
    assert credentials.expiry == pytest.approx(time.time() + 399, abs=5)
    case.server.down = set()
    credentials.keep_alive(soon())
    assert credentials.expiry is None


def test_the_end_of_a_token_shows_that_lives_on_for_less_and_cannot_be_replaced(case: Case) -> None:
    case.operate()
    case.now += 501
    case.server.renewed_ttl, case.server.down = 300, {"login"}
    with pytest.raises(Unavailable, match="login is down"):
        case.credentials.keep_alive(soon())
    assert case.credentials.expiry == pytest.approx(time.time() + 300, abs=5)


@pytest.mark.parametrize(
    ("renewable", "expire_time", "shows"),
    [(False, "2031-01-01", True), (True, "2031-01-01", False), (False, None, False)],
)
def test_the_end_of_a_token_from_a_file_shows_if_only_somebody_else_can_replace_it(
    renewable: bool, expire_time: str | None, shows: bool, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("given")
    server = FakeServer(ttl=1000 if expire_time else 0, renewable=renewable, expire_time=expire_time)
    credentials = Credentials(TokenAuth(method="token", tokenFile=tmp_path / "token"), server, lambda: 50.0)
    credentials.keep_alive(soon())
    assert credentials.expiry == (pytest.approx(time.time() + 1000, abs=5) if shows else None)


def test_of_many_first_calls_one_logs_in_and_all_get_its_failure(case: Case) -> None:
    entered, go = threading.Event(), threading.Event()
    request, failures = case.server.request, []

    def waiting(method: str, path: str, deadline: float, **rest: Any) -> Answer:
        entered.set()
        go.wait(10)
        return request(method, path, deadline, **rest)

    def call() -> None:
        try:
            case.operate()
        except Unauthenticated as exc:
            failures.append(str(exc))

    case.server.login_status = 400
    case.server.request = waiting  # type: ignore[method-assign]  # this server waits
    threads = [threading.Thread(target=call) for _ in range(6)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    # All must be past the point where they see that somebody logs in already.
    while sum(thread.is_alive() for thread in threads) < 6:
        time.sleep(0.01)
    time.sleep(0.2)
    go.set()
    for thread in threads:
        thread.join()
    assert len(set(failures)) == 1
    assert len(failures) == 6
    assert case.server.log == ["login"]


def test_a_token_that_is_over_is_replaced_before_the_call(case: Case) -> None:
    case.operate()
    case.now += 1000
    assert case.operate() == ["login", "operate t2"]


def test_a_token_without_an_end_is_never_renewed(case: Case) -> None:
    case.server.ttl = 0
    case.operate()
    case.now += 1e9
    assert case.operate() == ["operate t1"]


def test_a_dead_token_is_replaced_and_the_call_repeated(case: Case) -> None:
    case.operate()
    case.server.dead = {"t1"}
    assert case.operate() == ["operate t1", "lookup-self t1", "login", "operate t2"]


def test_a_young_token_that_is_alive_and_refused_is_a_matter_of_policy(case: Case) -> None:
    case.server.denied = {"t1"}
    with pytest.raises(PermissionDenied):
        case.operate()
    assert case.server.since() == ["login", "operate t1", "lookup-self t1"]


def test_an_older_token_that_is_refused_is_replaced_since_new_policies_reach_only_new_tokens(case: Case) -> None:
    case.operate()
    case.now += 61
    case.server.denied = {"t1"}
    assert case.operate() == ["operate t1", "lookup-self t1", "login", "operate t2"]


def test_a_policy_that_denies_every_token_makes_no_storm_of_logins(case: Case) -> None:
    case.operate()
    case.now += 61
    case.server.denied = {"t1", "t2", "t3"}
    case.server.down = set()
    for _ in range(10):
        with pytest.raises(PermissionDenied):
            case.operate()
    assert case.server.since().count("login") == 1
    case.now += 61
    with pytest.raises(PermissionDenied):
        case.operate()
    assert case.server.since().count("login") == 1


def test_a_denial_of_what_is_optional_is_no_reason_for_a_new_token_but_a_dead_token_is(case: Case) -> None:
    case.operate()
    case.now += 61
    case.server.denied = {"t1"}
    with pytest.raises(PermissionDenied):
        case.operate(optional=True)
    assert case.server.since() == ["operate t1", "lookup-self t1"]
    case.server.dead = {"t1"}
    assert case.operate(optional=True) == ["operate t1", "lookup-self t1", "login", "operate t2"]


def test_a_token_that_dies_soon_after_it_was_denied_is_replaced(case: Case) -> None:
    case.server.denied = {"t1"}
    with pytest.raises(PermissionDenied):
        case.operate()
    case.server.since()
    case.server.dead = {"t1"}
    assert case.operate() == ["operate t1", "lookup-self t1", "login", "operate t2"]


def test_a_denied_call_stays_denied_if_no_new_token_can_be_had(case: Case) -> None:
    case.operate()
    case.now += 61
    case.server.denied, case.server.down = {"t1"}, {"login"}
    with pytest.raises(PermissionDenied):
        case.operate()


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_login_that_is_refused_is_unauthenticated(case: Case, status: int) -> None:
    case.server.login_status = status
    with pytest.raises(Unauthenticated, match=f"login by jwt: auth/jwt/login: HTTP {status}: no"):
        case.operate()


def test_a_login_that_is_limited_or_unanswered_is_not_called_refused(case: Case) -> None:
    case.server.login_status = 429
    with pytest.raises(Throttled):
        case.operate()
    case.server.down = {"login"}
    with pytest.raises(Unavailable, match="login is down"):
        case.operate()


def test_a_token_file_that_is_gone_does_not_keep_the_token_from_being_renewed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    server = FakeServer()
    auth = TokenAuth(method="token", tokenFile=file)
    idle = Case(server, Credentials(auth, server, lambda: idle.now))
    assert idle.operate() == ["lookup-self first", "operate first"]
    file.unlink()
    idle.now += 501
    assert idle.operate() == ["operate first", "renew-self first"]
    file.write_text("second")
    idle.now += 501
    assert idle.operate() == ["operate first", "lookup-self second"]
    assert idle.operate() == ["operate second"]


def test_a_token_with_less_than_a_second_left_is_not_taken_for_one_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("last")
    server = FakeServer(ttl=0, expire_time="2026-01-01T00:00:00Z", renewed_ttl=100)
    auth = TokenAuth(method="token", tokenFile=tmp_path / "token")
    idle = Case(server, Credentials(auth, server, lambda: idle.now))
    assert idle.operate() == ["lookup-self last", "operate last", "renew-self last"]
    assert idle.operate() == ["operate last"]


def test_a_token_shows_in_no_representation(case: Case) -> None:
    case.operate()
    assert "t1" not in repr(case.credentials._lease)
