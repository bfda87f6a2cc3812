"""Durations, sockets, modes, addresses: what is taken, and what is said of the rest."""

from __future__ import annotations

import grp
from pathlib import Path

import pytest

from keystead.config.values import (
    MAX_ADDRESS,
    MAX_DIRECTORY,
    Socket,
    is_loopback,
    parse_admin,
    parse_duration,
    parse_group,
    parse_listener,
    parse_mode,
    parse_state_dir,
)


def test_durations_are_written_as_in_kubernetes() -> None:
    cases = {
        "30s": 30.0,
        "15m": 900.0,
        "720h": 2_592_000.0,
        "1h30m": 5400.0,
        "1.5h": 5400.0,
        ".5s": 0.5,
        "250ms": 0.25,
        "1m0.5s": 60.5,
        "0": 0.0,
        "0s": 0.0,
    }
    for text, seconds in cases.items():
        assert parse_duration(text) == pytest.approx(seconds), text


@pytest.mark.parametrize(
    "value", ["", "30", "s", "1d", "-1s", "+1s", "1 h", "1h ", "1H", "h1", 30, 1.5, None, "1" * 65 + "s"]
)
def test_anything_else_is_not_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"^should be a duration such as 30s, 15m, 720h or 1h30m; the units are"):
        parse_duration(value)


def test_a_duration_has_an_upper_bound() -> None:
    assert parse_duration("87600h") == 315_360_000.0
    with pytest.raises(ValueError, match="is longer than ten years"):
        parse_duration("87601h")
    with pytest.raises(ValueError, match="is longer than ten years"):
        parse_duration("9" * 60 + "h")


def test_a_path_socket_is_parsed() -> None:
    socket = Socket.parse("unix:///run/keystead/kms.sock")
    assert (socket.path, socket.abstract) == (Path("/run/keystead/kms.sock"), None)
    assert socket.uri == str(socket) == "unix:///run/keystead/kms.sock"


def test_an_abstract_socket_is_parsed() -> None:
    socket = Socket.parse("unix:///@keystead-1")
    assert (socket.path, socket.abstract) == (None, "keystead-1")
    assert socket.uri == "unix:///@keystead-1"


def test_the_host_name_trap_is_explained() -> None:
    with pytest.raises(ValueError) as caught:
        Socket.parse("unix://run/keystead/kms.sock")
    assert str(caught.value) == (
        "kube-apiserver takes the first segment, 'run', for a host name and drops it; "
        "write unix:///run/keystead/kms.sock"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/run/kms.sock", "is a path; write unix:///run/kms.sock"),
        ("unix:/run/kms.sock", "has too few slashes; write unix:///run/kms.sock"),
        ("unix:run/kms.sock", "should begin with unix:/// and name an absolute path"),
        ("run/kms.sock", "should begin with unix:///"),
        ("@name", "should begin with unix:///"),
        ("tcp://127.0.0.1:1", "should begin with unix:///"),
        ("", "should begin with unix:///"),
        ("unix:///", "should be the plain path of a socket"),
        ("unix:///run/", "should be the plain path of a socket"),
        ("unix:////run/x", "should be the plain path of a socket"),
        ("unix:///run//x", "should be the plain path of a socket"),
        ("unix:///run/../x", "should be the plain path of a socket"),
        ("unix:///run/./x", "should be the plain path of a socket"),
        ("unix:///@", "names an abstract socket"),
        ("unix:///@a/b", "names an abstract socket"),
        ("unix:////@a", "names an abstract socket"),
        ("unix:///run/a%20b", "kube-apiserver reads it as a URL"),
        ("unix:///run/a?b", "kube-apiserver reads it as a URL"),
        ("unix:///run/a#b", "kube-apiserver reads it as a URL"),
        ("unix:///run/a b", "kube-apiserver reads it as a URL"),
        ("unix:///run/ä", "kube-apiserver reads it as a URL"),
        ("unix://run/\x1b[2J", "kube-apiserver reads it as a URL"),
        (5, "should be text such as unix:///run/keystead/kms.sock"),
    ],
)
def test_any_other_socket_is_refused_with_its_reason(value: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        Socket.parse(value)
    assert said in str(caught.value)


def test_a_socket_address_fits_the_kernel() -> None:
    longest = "/run/" + "x" * (MAX_ADDRESS - 5)
    assert Socket.parse(f"unix://{longest}").path == Path(longest)
    with pytest.raises(ValueError, match="is 108 bytes long; the kernel takes 107"):
        Socket.parse(f"unix://{longest}x")
    assert Socket.parse("unix:///@" + "x" * 106).abstract == "x" * 106
    with pytest.raises(ValueError, match="is 108 bytes long"):
        Socket.parse("unix:///@" + "x" * 107)


def test_a_socket_needs_room_in_its_directory_for_the_name_it_is_bound_under_first() -> None:
    deepest = "/run/" + "x" * (MAX_DIRECTORY - 5)
    assert Socket.parse(f"unix://{deepest}/s").path == Path(deepest) / "s"
    with pytest.raises(ValueError, match="is in a directory of 98 bytes; a socket needs one of 97 at most"):
        Socket.parse(f"unix://{deepest}x/s")


def test_the_admin_socket_is_a_path_or_nothing() -> None:
    assert parse_admin("") is None
    socket = parse_admin("unix:///run/keystead/admin.sock")
    assert socket is not None
    assert socket.path == Path("/run/keystead/admin.sock")
    for wrong in ("unix:///@name", "/run/keystead/admin.sock", "unix://run/admin.sock", 7, None):
        with pytest.raises(ValueError, match=r"should|kube-apiserver|is a path"):
            parse_admin(wrong)


def test_modes_are_octal_text() -> None:
    assert {text: parse_mode(text) for text in ("0600", "600", "0660", "0700", "0770")} == {
        "0600": 0o600,
        "600": 0o600,
        "0660": 0o660,
        "0700": 0o700,
        "0770": 0o770,
    }


@pytest.mark.parametrize("value", [600, 384, "0o600", "0680", "rw", "", "04600", "60", "0600\n"])
def test_a_mode_in_another_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r'^should be octal digits in quotes, such as "0600"'):
        parse_mode(value)


@pytest.mark.parametrize("value", ["0666", "0604", "0602", "0601", "777"])
def test_a_mode_that_lets_everybody_in_is_refused_with_the_reason(value: str) -> None:
    with pytest.raises(ValueError, match="gives every user of the machine access, and whoever can connect can decrypt"):
        parse_mode(value)


@pytest.mark.parametrize("value", ["060", "0400", "000"])
def test_a_mode_without_access_for_the_process_itself_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="keeps out the user of the process itself"):
        parse_mode(value)


def test_metrics_listen_on_an_address_of_which_it_is_known_who_can_reach_it() -> None:
    for text in ("127.0.0.1:9853", "127.8.0.1:1", "[::1]:65535", "127.0.0.1:0", ""):
        assert parse_listener(text) == text
        assert is_loopback(text)
    for text in ("0.0.0.0:9853", "[::]:9853", "10.0.0.1:80", "[2001:db8::1]:80"):
        assert parse_listener(text) == text
        assert not is_loopback(text)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("127.0.0.1:65536", "65536 is not a port: the highest is 65535"),
        ("127.0.0.300:80", "127.0.0.300 is not an IP address"),
        ("[127.0.0.1]:80", "is not an IP address"),
        ("localhost:9853", "should be an IP address and a port"),
        ("127.0.0.1", "should be an IP address and a port"),
        (":9853", "should be an IP address and a port"),
        ("::1:9853", "should be an IP address and a port"),
        (9853, "should be an IP address and a port"),
    ],
)
def test_any_other_address_is_refused_with_its_reason(value: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_listener(value)
    assert said in str(caught.value)


def test_a_group_is_a_number_or_the_name_of_one() -> None:
    mine = grp.getgrgid(0)
    assert parse_group(mine.gr_name) == 0
    assert parse_group(65532) == 65532
    assert parse_group(0) == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no-such-group-here", "this machine has no group 'no-such-group-here'; create it, or give a number"),
        ("1000", "should be a group's name or its number"),
        ("", "should be a group's name or its number"),
        (True, "should be a group's name or its number"),
        (-1, "should be a group's number from 0 to 4294967294"),
        (2**32 - 1, "should be a group's number from 0 to 4294967294"),
    ],
)
def test_any_other_group_is_refused(value: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_group(value)
    assert said in str(caught.value)


def test_a_state_directory_is_absolute() -> None:
    assert parse_state_dir("/var/lib/keystead") == Path("/var/lib/keystead")
    for value in ("var", "./var", "~/var", "", 5, "/a\0b"):
        with pytest.raises(ValueError, match="should be an absolute path"):
            parse_state_dir(value)
    with pytest.raises(ValueError, match=r"should not contain '\.\.'"):
        parse_state_dir("/var/../etc")
