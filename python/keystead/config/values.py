"""The scalar values of a configuration, parsed once: durations, sockets, addresses, labels.

Each type says in words what is wrong, and carries the pattern that an editor checks.
"""

from __future__ import annotations

import grp
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

MAX_ADDRESS = 107
"""Bytes of a socket's address: sun_path of unix(7) has 108 with the final NUL."""

MAX_DIRECTORY = MAX_ADDRESS - 10
"""Bytes of a socket's directory: a socket is bound under a hidden name of nine characters first, and then renamed."""

MAX_SECONDS = 10 * 365 * 86400
"""Ten years: longer is a mistake, and far below where a float of seconds loses precision."""

MAX_PORT = 65535
MAX_GROUP = 2**32 - 2
"""The highest gid: 2**32 - 1 means "do not change" to chown(2)."""

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)")
DURATION = r"^(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns))+)$"


def parse_duration(value: Any) -> float:
    """Return the seconds of a duration as Kubernetes and Go write it: `30s`, `15m`, `720h`, `1h30m`."""
    if not isinstance(value, str) or len(value) > 64 or not re.fullmatch(DURATION, value):
        raise ValueError("should be a duration such as 30s, 15m, 720h or 1h30m; the units are h, m, s and ms")
    seconds = sum(float(number) * UNITS[unit] for number, unit in TERM.findall(value))
    if seconds > MAX_SECONDS:
        raise ValueError("is longer than ten years")
    return seconds


def at_least(minimum: str) -> AfterValidator:
    """Refuse a shorter duration."""
    return _bound(lambda seconds: seconds >= parse_duration(minimum), f"should be at least {minimum}")


def at_most(maximum: str) -> AfterValidator:
    """Refuse a longer duration."""
    return _bound(lambda seconds: seconds <= parse_duration(maximum), f"should be at most {maximum}")


def _bound(holds: Callable[[float], bool], message: str) -> AfterValidator:
    def check(seconds: float) -> float:
        if not holds(seconds):
            raise ValueError(message)
        return seconds

    return AfterValidator(check)


Duration = Annotated[
    float, PlainValidator(parse_duration), WithJsonSchema({"type": "string", "pattern": DURATION, "format": "duration"})
]


@dataclass(frozen=True, slots=True)
class Socket:
    """A unix socket, spelled as kube-apiserver reads it. Exactly one of `path` and `abstract` is set."""

    uri: str
    path: Path | None = None
    abstract: str | None = None
    """Name of a socket outside the file system, without the leading `@`."""

    def __str__(self) -> str:
        return self.uri

    @classmethod
    def parse(cls, value: Any) -> Socket:
        """Parse `unix:///path` or `unix:///@name`. Raises `ValueError` with what kube-apiserver would make of it."""
        address = _socket_address(value)
        if len(address.encode()) > MAX_ADDRESS:
            raise ValueError(f"is {len(address.encode())} bytes long; the kernel takes {MAX_ADDRESS}")
        if address.startswith("@"):
            return cls(value, abstract=address[1:])
        directory = len(address.rpartition("/")[0])
        if directory > MAX_DIRECTORY:
            raise ValueError(f"is in a directory of {directory} bytes; a socket needs one of {MAX_DIRECTORY} at most")
        return cls(value, path=Path(address))


def _socket_address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("should be text such as unix:///run/keystead/kms.sock")  # noqa: TRY004  # pydantic's contract
    if not re.fullmatch(r"[\x21-\x7e]*", value) or re.search(r"[%?#\\]", value):
        raise ValueError("has a space, %, ?, # or \\, or is not ASCII; kube-apiserver reads it as a URL")
    if not value.startswith("unix:///"):
        raise ValueError(_not_a_socket(value))
    address = value.removeprefix("unix://")
    if re.match(r"/+@", address):
        if not re.fullmatch(r"/@[A-Za-z0-9._:-]+", address):
            raise ValueError("names an abstract socket: unix:///@ and a name of letters, digits, '.', '_', ':' and '-'")
        return address[1:]
    if address.endswith("/") or any(part in ("", ".", "..") for part in address[1:].split("/")):
        raise ValueError("should be the plain path of a socket, without //, . or .. parts or a final /")
    return address


def _not_a_socket(value: str) -> str:
    if value.startswith("unix://"):
        rest = value.removeprefix("unix://")
        return (
            f"kube-apiserver takes the first segment, {rest.partition('/')[0]!r}, for a host name and drops it; "
            f"write unix:///{rest}"
        )
    if value.startswith("/"):
        return f"is a path; write unix://{value}"
    if value.startswith("unix:/"):
        return f"has too few slashes; write unix://{value.removeprefix('unix:')}"
    return "should begin with unix:/// and name an absolute path, such as unix:///run/keystead/kms.sock"


SocketField = Annotated[
    Socket,
    PlainValidator(Socket.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^unix:///[^/%?#\\ ][^%?#\\ ]*$"}),
]


def parse_admin(value: Any) -> Socket | None:
    """Parse `unix:///path`, or empty text for none. Raises `ValueError`, also for a socket without permissions."""
    if value == "":
        return None
    socket = Socket.parse(value)
    if socket.path is None:
        raise ValueError("should be a path: an abstract socket has no permissions")
    return socket


AdminSocket = Annotated[
    Socket | None,
    PlainValidator(parse_admin),
    PlainSerializer(lambda socket: "" if socket is None else str(socket)),
    WithJsonSchema({"type": "string"}),
]


def parse_listener(value: Any) -> str:
    """Check `127.0.0.1:9853` or `[::1]:9853`, or empty text. Raises `ValueError`."""
    if value == "":
        return ""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('should be an IP address and a port, such as 127.0.0.1:9853 or [::1]:9853, or "" for none')
    try:
        _ = ipaddress.IPv6Address(match[1]) if match[1] else ipaddress.IPv4Address(match[2])
    except ValueError:
        raise ValueError(f"{match[1] or match[2]} is not an IP address") from None
    if int(match[3]) > MAX_PORT:
        raise ValueError(f"{match[3]} is not a port: the highest is {MAX_PORT}")
    return match[0]


ListenAddress = Annotated[str, PlainValidator(parse_listener), WithJsonSchema({"type": "string"})]


def is_loopback(listener: str) -> bool:
    """Whether an address that `parse_listener` took can be reached from this machine alone, or is none."""
    return not listener or ipaddress.ip_address(listener.rpartition(":")[0].strip("[]")).is_loopback


def parse_mode(value: Any) -> int:
    """Parse a socket's mode, quoted octal digits. Raises `ValueError` for one that lets everybody in."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('should be octal digits in quotes, such as "0600": without quotes YAML reads a decimal number')
    mode = int(value, 8)
    if mode & 0o007:
        raise ValueError(
            f'"{value}" gives every user of the machine access, and whoever can connect can decrypt; '
            'use "0600", or "0660" with socketGroup'
        )
    if mode & 0o600 != 0o600:
        raise ValueError(f'"{value}" keeps out the user of the process itself; use "0600" or "0660"')
    return mode


SocketMode = Annotated[int, PlainValidator(parse_mode), WithJsonSchema({"type": "string", "pattern": "^0?[67][0-7]0$"})]


def parse_group(value: Any) -> int:
    """Return the number of a group, given by number or name. Raises `ValueError` if this machine has no such group."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MAX_GROUP:
            raise ValueError(f"should be a group's number from 0 to {MAX_GROUP}")
        return value
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError("should be a group's name or its number")
    try:
        return grp.getgrnam(value).gr_gid
    except KeyError:
        raise ValueError(f"this machine has no group {value!r}; create it, or give a number") from None


SocketGroup = Annotated[
    int, PlainValidator(parse_group), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]})
]


def parse_state_dir(value: Any) -> Path:
    """Return an absolute path. Raises `ValueError` for a relative one, which would depend on who starts the process."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("should be an absolute path such as /var/lib/keystead")
    if ".." in value.split("/"):
        raise ValueError("should not contain '..'")
    return Path(value)


AbsolutePath = Annotated[
    Path, PlainValidator(parse_state_dir), WithJsonSchema({"type": "string", "pattern": "^/", "format": "path"})
]


def _named(pattern: str, words: str) -> Callable[[Any], str]:
    compiled = re.compile(pattern)

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(words)
        return value

    return parse


CLUSTER = "([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)?"
ENDPOINT = "[a-z0-9-]{1,63}"

ClusterLabel = Annotated[
    str,
    PlainValidator(
        _named(CLUSTER, "should be up to 63 characters of a-z, 0-9, '.' and '-', a letter or digit at both ends")
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{CLUSTER}$"}),
]

EndpointName = Annotated[
    str,
    PlainValidator(_named(ENDPOINT, "should be 1 to 63 characters of a-z, 0-9 and '-', since it names a directory")),
    WithJsonSchema({"type": "string", "pattern": f"^{ENDPOINT}$"}),
]
