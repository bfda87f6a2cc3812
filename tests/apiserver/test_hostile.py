"""Upstream's own client code and the worst of clients (cmd/hostile) against Keystead, and against flawed plugins."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from support.serving import Client

from .conftest import BUILD_LIMIT, RUN_LIMIT, Hostile, running

FLAWED = Path(__file__).with_name("flawed.py")
SECOND_VERSION = ("-api", "v2")

# Which checks must catch a flaw; others may catch it too.
CAUGHT_BY = {
    "binds the uid": ("H07", "H52"),
    "status flips": ("H02",),
    "nonce is constant": ("H04",),
    "does not encrypt": ("H04", "H11", "H14"),
    "ciphertext too long": ("H03", "H51"),
    "Encrypt names another key_id": ("H03", "H51"),
    "annotation without a domain": ("H03", "H51"),
    "hangs on large input": ("H17",),
    "dies of an empty request": ("H20",),
    "ignores trailing zeros": ("H12",),
    "ignores key_id": ("H14", "H53"),
    "ignores unknown annotations": ("H15",),
    "does not authenticate annotations": ("H15", "H16", "H53"),
    "lets exceptions out": ("H10", "H11"),
    "calls every failure temporary": ("H10", "H11"),
    "explains too much": ("H10", "H11"),
}

pytestmark = pytest.mark.timeout(BUILD_LIMIT + RUN_LIMIT)


def test_no_client_gets_a_wrong_answer_from_keystead_or_disturbs_another(hostile: Hostile, directory: Path) -> None:
    names = hostile.names()
    assert len(names) >= 31
    assert len(set(names)) == len(names)
    path = directory / "kms.sock"

    command = [sys.executable, "-m", "keystead", "serve", "--dev"]
    with running(command, path, {"KEYSTEAD_DEV_DIR": str(directory)}) as plugin:
        _until_ok(path)
        outcome = hostile.attack(f"unix://{path}")
        assert plugin.poll() is None

    print(outcome.text)
    assert outcome.code == 0, outcome.text
    assert outcome.passed == names
    assert "rpc.crashed" not in path.with_suffix(".log").read_text()
    assert plugin.returncode == 0


def test_a_sound_plugin_of_another_make_passes_every_check(hostile: Hostile, directory: Path) -> None:
    path = directory / "kms.sock"
    with running([sys.executable, str(FLAWED), str(path), "none"], path):
        outcome = hostile.attack(f"unix://{path}", *SECOND_VERSION)
    assert outcome.code == 0, outcome.text
    assert outcome.passed == hostile.names(*SECOND_VERSION)


@pytest.mark.parametrize("flaw", CAUGHT_BY)
def test_each_flaw_is_caught_by_the_checks_that_are_there_for_it(flaw: str, hostile: Hostile, directory: Path) -> None:
    assert f'"{flaw}"' in FLAWED.read_text(), "the plugin does not know this flaw"
    path = directory / "kms.sock"
    with running([sys.executable, str(FLAWED), str(path), flaw], path):
        outcome = hostile.attack(f"unix://{path}", *SECOND_VERSION, "-only", ",".join(CAUGHT_BY[flaw]))
    assert outcome.code == 1, outcome.text
    assert outcome.failed == list(CAUGHT_BY[flaw]), outcome.text


def _until_ok(path: Path) -> None:
    """Wait until the plugin has its local KEK: the socket listens before that, and the client wants one Status."""
    client, ends = Client(f"unix:{path}"), time.monotonic() + 30
    while client.status().healthz != "ok":
        assert time.monotonic() < ends, client.status()
        time.sleep(0.02)
