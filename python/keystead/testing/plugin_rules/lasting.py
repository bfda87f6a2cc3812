"""KS-C080 to 099: over a restart, over a rotation, and on another node."""

from __future__ import annotations

import time

from keystead.testing.plugin_rules.book import BOOK, PluginCase, new_seed, opens, sealed_of, status_of
from keystead.testing.rules import Broken, NotShown, Tier

WATCHED = 5.0
"""Seconds for which a new key_id is watched for going back."""


@BOOK.rule(
    80,
    Tier.BRONZE,
    "What was encrypted before a restart decrypts after it.",
    why="Otherwise each upgrade of the plugin loses every Secret.",
    fix="Keep nothing in the process that decrypting needs.",
    needs="--restart-cmd",
)
def restart_loses_nothing(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    case.restart()
    opens(case.client(), sealed, seed, "Decrypt after a restart")


@BOOK.rule(
    81,
    Tier.BRONZE,
    "A restart changes neither key_id nor version.",
    why="Another key_id makes every object stale, on one node only; another version turns the API server's health red "
    "until it is restarted.",
    fix="Derive key_id from the remote key and its version, never from a process, a host or a time.",
    needs="--restart-cmd",
)
def restart_changes_nothing(case: PluginCase) -> None:
    before = status_of(case.client())
    case.restart()
    after = status_of(case.client())
    if (before.key_id, before.version) != (after.key_id, after.version):
        raise Broken(f"{before.version}/{before.key_id}"[:200], f"{after.version}/{after.key_id}"[:200])


@BOOK.rule(
    85,
    Tier.GOLD,
    "After a rotation key_id is another one, Encrypt follows it, it does not go back, and old ciphertexts decrypt.",
    why="A rotation that does not show is never taken up: objects stay under the old key. One that flips makes them "
    "stale again and again, and one that loses the old key loses the data.",
    fix="Change key_id only after the new key has encrypted and decrypted, and never back.",
    needs="--rotate-cmd",
)
def rotation(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    before, sealed = status_of(client).key_id, sealed_of(client, seed)
    case.rotate()
    after = _changed(case, before)
    opens(client, sealed, seed, "Decrypt of what the old key encrypted")
    fresh = sealed_of(client, seed)
    if fresh.key_id != after:
        raise Broken(f"Encrypt to name the new key_id {after!r}"[:200], repr(fresh.key_id)[:200])
    opens(client, fresh, seed, "Decrypt of what the new key encrypted")
    ends = time.monotonic() + WATCHED
    while time.monotonic() < ends:
        now = status_of(client).key_id
        if now != after:
            raise Broken(f"key_id to stay {after!r}"[:200], repr(now)[:200])
        time.sleep(0.1)


@BOOK.rule(
    90,
    Tier.SILVER,
    "Another node decrypts what this one encrypted, and the other way round.",
    why="API servers read each other's objects. Where a plugin cannot, Secrets can be read on one node only.",
    fix="Configure all nodes for the same keys before any of them encrypts under a new one.",
    needs="--peer",
)
def peers_read_each_other(case: PluginCase) -> None:
    if not case.peer:
        raise NotShown("give --peer with the socket of another node's plugin, or of a second process")
    here, there = case.client(), case.client(case.peer)
    for one, other, what in ((here, there, "the peer"), (there, here, "this plugin")):
        seed = new_seed()
        opens(other, sealed_of(one, seed), seed, f"Decrypt by {what}")


@BOOK.rule(
    91,
    Tier.SILVER,
    "Another node has the same key_id.",
    why="While nodes differ, each takes the other's fresh objects for stale, and a migration never ends.",
    fix="Derive key_id from what all nodes share.",
    needs="--peer",
)
def peers_agree(case: PluginCase) -> None:
    if not case.peer:
        raise NotShown("give --peer with the socket of another node's plugin, or of a second process")
    here, there = status_of(case.client()).key_id, status_of(case.client(case.peer)).key_id
    if here != there:
        raise Broken(f"the same key_id, {here!r}"[:200], repr(there)[:200])


def _changed(case: PluginCase, before: str) -> str:
    client, ends = case.client(), time.monotonic() + case.rotate_wait
    while time.monotonic() < ends:
        now = status_of(client).key_id
        if now != before:
            return now
        time.sleep(0.2)
    raise Broken(f"another key_id within {case.rotate_wait:g} s after --rotate-cmd", f"still {before!r}"[:200])
