"""The case that rules for plugin sockets work with, and the book that they are entered into."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from google.protobuf.message import DecodeError

from keystead._proto.v2 import api_pb2 as v2
from keystead.testing.plugin_rules.client import Client, Reply, Sealed
from keystead.testing.rules import Broken, NotApplicable, NotShown, RuleBook, Tier

SEED_SIZE = 32
BACK = 60.0
"""Seconds that a restarted plugin may take to answer again; kube-apiserver's writes live for three minutes."""


@dataclass
class PluginCase:
    """One plugin, and what the operator allows to be done to it."""

    endpoint: str
    apis: tuple[str, ...] = ("v2",)
    timeout: float = 3.0
    restart_command: str = ""
    rotate_command: str = ""
    rotate_wait: float = 180.0
    peer: str = ""
    _clients: list[Client] = field(default_factory=list)

    def client(self, endpoint: str = "", authority: str = "localhost") -> Client:
        """Make a connection of its own, closed with the case."""
        made = Client(endpoint or self.endpoint, self.timeout, authority)
        self._clients.append(made)
        return made

    def close(self) -> None:
        clients, self._clients = self._clients, []
        for one in clients:
            one.close()

    def restart(self) -> None:
        """Run the operator's command for a restart, and wait until the plugin answers."""
        if not self.restart_command:
            raise NotShown("give --restart-cmd to have the plugin restarted")
        self._run(self.restart_command)
        self.close()
        ends = time.monotonic() + BACK
        while (reply := self.probe()).refused:
            if time.monotonic() > ends:
                raise Broken(f"the plugin to answer within {BACK:g} s after --restart-cmd", str(reply))
            time.sleep(0.2)

    def rotate(self) -> None:
        """Run the operator's command for a rotation."""
        if not self.rotate_command:
            raise NotShown("give --rotate-cmd to have the key rotated")
        self._run(self.rotate_command)

    def probe(self) -> Reply:
        """Ask what an API server asks first, over a connection of its own; for v2 that it is healthy counts, too."""
        client = Client(self.endpoint, self.timeout)
        try:
            if "v2" not in self.apis:
                return client.version_v1()
            reply = client.status()
            with contextlib.suppress(DecodeError):
                healthz = v2.StatusResponse.FromString(reply.answer).healthz if reply.answer is not None else "ok"
                return reply if healthz == "ok" else Reply(None, reply.code, healthz, reply.seconds)
            return reply
        finally:
            client.close()

    def _run(self, command: str) -> None:
        words = shlex.split(command)
        try:
            ran = subprocess.run(words, capture_output=True, text=True, timeout=BACK, check=False)  # noqa: S603  the operator's
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise NotShown(f"{command!r}: {exc}") from None
        if ran.returncode != 0:
            tail = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise NotShown(f"{command!r} ended with {ran.returncode}: {tail[0][:200]}")


Check = Callable[[PluginCase], None]


class PluginBook(RuleBook[PluginCase]):
    """Leaves out the rules of an API that is not tried."""

    def rule(
        self, number: int, tier: Tier, title: str, *, why: str, fix: str, needs: str = "", api: str = "v2"
    ) -> Callable[[Check], Check]:
        """Enter a check as a rule about an API, or with an empty `api` about any."""
        enter = super().rule(number, tier, title, why=why, fix=fix, needs=needs)

        def guarded(check: Check) -> Check:
            @functools.wraps(check)
            def checked(case: PluginCase) -> None:
                if missing := [one for one in api.split() if one not in case.apis]:
                    raise NotApplicable(f"{' and '.join(missing)} is not tried; see --api")
                try:
                    check(case)
                finally:
                    case.close()

            enter(checked)
            return check

        return guarded


BOOK: Final = PluginBook(
    "KS-C",
    "docs/vendors/socket-rules.md",
    "Rules for plugin sockets",
    "What [`keystead conformance`](../commands.md#keystead-conformance) tries on any KMS plugin. A single rule: "
    "`keystead conformance --endpoint unix:///path --rule KS-C030`.",
)


def status_of(client: Client) -> v2.StatusResponse:
    """Call Status; a refusal, or bytes that are no answer, break the rule."""
    reply = client.status()
    if reply.answer is None:
        broken("Status to answer", reply)
    try:
        return v2.StatusResponse.FromString(reply.answer)
    except DecodeError:
        raise Broken("Status to answer with a StatusResponse", str(reply)) from None


def sealed_of(client: Client, seed: bytes) -> Sealed:
    """Call Encrypt; a refusal, or bytes that are no answer, break the rule."""
    reply = client.encrypt(seed)
    if reply.answer is None:
        broken(f"Encrypt of {len(seed)} bytes to answer", reply)
    try:
        answer = v2.EncryptResponse.FromString(reply.answer)
    except DecodeError:
        raise Broken("Encrypt to answer with an EncryptResponse", str(reply)) from None
    return Sealed(answer.ciphertext, answer.key_id, dict(answer.annotations))


def opens(client: Client, sealed: Sealed, seed: bytes, what: str = "Decrypt", uid: str | None = None) -> None:
    """Call Decrypt; anything but the seed breaks the rule."""
    reply = client.decrypt(sealed, uid)
    if reply.answer is None:
        broken(f"{what} to answer", reply)
    if plaintext_of(reply) != seed:
        raise Broken(f"{what} to return the seed", "other bytes")


def plaintext_of(reply: Reply) -> bytes:
    """Return the plaintext of a DecryptResponse."""
    try:
        return bytes(v2.DecryptResponse.FromString(reply.answer or b"").plaintext)
    except DecodeError:
        raise Broken("a DecryptResponse", str(reply)) from None


def must_be_refused(client: Client, sealed: Sealed, seed: bytes, what: str) -> Reply:
    """Call Decrypt with something that was never encrypted; an answer, or none in time, breaks the rule."""
    reply = client.decrypt(sealed)
    if reply.answer is not None:
        same = plaintext_of(reply) == seed
        raise Broken(f"Decrypt of {what} to be refused", "the right seed" if same else "WRONG BYTES as a plaintext")
    if reply.code.name == "DEADLINE_EXCEEDED":
        broken(f"Decrypt of {what} to be refused in time", reply)
    return reply


def still_serves(case: PluginCase, after: str) -> None:
    """Whether the plugin goes on serving others; if not, that breaks the rule."""
    reply = case.probe()
    if reply.refused:
        broken(f"the plugin to serve others after {after}", reply)


def new_seed() -> bytes:
    """Return what kube-apiserver would have encrypted."""
    return os.urandom(SEED_SIZE)


def broken(expected: str, reply: Reply) -> NoReturn:
    """Say that a rule is broken."""
    raise Broken(expected, str(reply))
