"""`keystead conformance` finds each flawed plugin, and passes sound ones of other make and Keystead itself."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from apiserver.conftest import running
from keystead.testing.plugin_rules import BOOK, PluginCase
from keystead.testing.rules import Outcome, Tier, Verdict, judge, reached
from support.process import Files

HERE = Path(__file__).parent
KEYSTEAD = Path(sys.executable).with_name("keystead")
IN_MEMORY = HERE.parent / "apiserver/flawed.py"
ON_DISK = HERE / "flawed_plugin.py"

# Which rules must catch a flaw; others may catch it too.
CAUGHT_BY = {
    "binds the uid": ("KS-C022",),
    "status flips": ("KS-C004",),
    "nonce is constant": ("KS-C014", "KS-C016"),
    "does not encrypt": ("KS-C015", "KS-C030"),
    "ciphertext too long": ("KS-C010",),
    "Encrypt names another key_id": ("KS-C011",),
    "annotation without a domain": ("KS-C012",),
    "hangs on large input": ("KS-C050",),
    "dies of an empty request": ("KS-C051",),
    "ignores trailing zeros": ("KS-C032",),
    "ignores key_id": ("KS-C034",),
    "ignores unknown annotations": ("KS-C037",),
    "does not authenticate annotations": ("KS-C035", "KS-C036"),
    "lets exceptions out": ("KS-C040",),
    "calls every failure temporary": ("KS-C040",),
    "explains too much": ("KS-C041",),
}
CAUGHT_ON_DISK = {
    "healthz in capitals": ("KS-C002",),
    "healthz is a sentence": ("KS-C002",),
    "Status of another version": ("KS-C001",),
    "empty key_id": ("KS-C003",),
    "Status waits in the line of Decrypts": ("KS-C005",),
    "annotations too large": ("KS-C013",),
    "a seed in base64": ("KS-C015",),
    "nonce is reused for other seeds": ("KS-C016",),
    "returns zeros for damaged data": ("KS-C030", "KS-C031", "KS-C033"),
    "a socket for everybody": ("KS-C065",),
    "v1: another version": ("KS-C070",),
    "v1: takes 32 bytes only": ("KS-C071",),
    "v1: a cipher of 70 kB": ("KS-C072",),
    "v1: ignores trailing zeros": ("KS-C073",),
    "v1: is the same as v2": ("KS-C074",),
    "a restart loses the key": ("KS-C080",),
    "key_id of the process": ("KS-C081", "KS-C091"),
    "a rotation is not noticed": ("KS-C085",),
    "a rotation flips back": ("KS-C085",),
    "a rotation forgets the old key": ("KS-C085",),
}
UNTRIED = {
    "KS-C020": "a plugin that loses what it has just encrypted is caught by each of the rules that decrypt",
    "KS-C021": "shown by the sound plugins only: mixed-up answers need a race",
    "KS-C052": "gRPC libraries refuse malformed requests by themselves",
    "KS-C053": "as KS-C052",
    "KS-C054": "as KS-C052",
    "KS-C055": "as KS-C052",
    "KS-C060": "grpcio accepts any authority; strict libraries are in other languages",
    "KS-C061": "as KS-C052",
    "KS-C062": "as KS-C052",
    "KS-C063": "as KS-C052",
    "KS-C064": "as KS-C052",
    "KS-C090": "caught by the test of peers below",
}
"""Rules for which no flawed plugin is here, and why."""


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from support.serving import short_directory

    with short_directory() as path:
        yield path


def verdicts(case: PluginCase, rules: Sequence[str]) -> dict[str, Outcome]:
    return {rule_id: judge(BOOK.find(rule_id), case) for rule_id in rules}


class Plugin:
    """A flawed plugin on disk, in a process that can be restarted."""

    def __init__(self, directory: Path, flaw: str, name: str = "kms") -> None:
        self.socket = directory / f"{name}.sock"
        self.keys = directory / "keys"
        self.keys.mkdir(exist_ok=True)
        self.command = [sys.executable, str(ON_DISK), str(self.socket), str(self.keys), flaw]

    @contextlib.contextmanager
    def run(self) -> Iterator[PluginCase]:
        """Serve, and yield a case whose commands restart and rotate this plugin."""
        restart = self.socket.with_suffix(".restart")
        script = f"touch {restart}; while [ -e {restart} ]; do sleep 0.05; done"
        with running(self.command, self.socket):
            case = PluginCase(
                f"unix://{self.socket}",
                ("v2", "v1beta1"),
                restart_command=shlex.join(["sh", "-c", script]),
                rotate_command=shlex.join(["touch", str(self.keys / "rotate")]),
                rotate_wait=3.0,
            )
            try:
                yield case
            finally:
                case.close()


@pytest.mark.parametrize("flaw", CAUGHT_BY)
def test_each_flaw_is_found_by_the_rules_for_it(flaw: str, directory: Path) -> None:
    assert f'"{flaw}"' in IN_MEMORY.read_text(), "the plugin does not know this flaw"
    path = directory / "kms.sock"
    with running([sys.executable, str(IN_MEMORY), str(path), flaw], path):
        found = verdicts(PluginCase(f"unix://{path}"), CAUGHT_BY[flaw])
    assert {one.verdict for one in found.values()} == {Verdict.BROKEN}, found


@pytest.mark.parametrize("flaw", CAUGHT_ON_DISK)
def test_each_flaw_over_time_is_found_by_the_rules_for_it(flaw: str, directory: Path) -> None:
    assert f'"{flaw}"' in ON_DISK.read_text(), "the plugin does not know this flaw"
    with contextlib.ExitStack() as stack:
        case = stack.enter_context(Plugin(directory, flaw).run())
        if "KS-C091" in CAUGHT_ON_DISK[flaw]:
            other = Plugin(directory, flaw, "peer")
            stack.enter_context(running(other.command, other.socket))
            case.peer = f"unix://{other.socket}"
        found = verdicts(case, CAUGHT_ON_DISK[flaw])
    assert {one.verdict for one in found.values()} == {Verdict.BROKEN}, found


def test_every_rule_has_a_flawed_plugin_or_a_reason_for_none() -> None:
    caught = {rule for rules in (*CAUGHT_BY.values(), *CAUGHT_ON_DISK.values()) for rule in rules}
    assert len(CAUGHT_BY) + len(CAUGHT_ON_DISK) >= 30
    assert caught | UNTRIED.keys() == {rule.id for rule in BOOK.rules}
    assert not caught & UNTRIED.keys()


def test_a_sound_plugin_of_another_make_shows_gold(directory: Path) -> None:
    plugin, other = Plugin(directory, "none"), Plugin(directory, "none", "peer")
    with plugin.run() as case, running(other.command, other.socket):
        case.peer = f"unix://{other.socket}"
        outcomes = [judge(rule, case) for rule in BOOK.rules]
    assert [one for one in outcomes if not one.verdict.kept] == []
    assert {one.id for one in outcomes if one.verdict is Verdict.NOT_APPLICABLE} == {"KS-C035", "KS-C036"}
    assert reached(outcomes, BOOK.rules) is Tier.GOLD


def test_a_peer_with_other_keys_is_found(directory: Path) -> None:
    (directory / "elsewhere").mkdir()
    plugin, other = Plugin(directory, "none"), Plugin(directory / "elsewhere", "none")
    with plugin.run() as case, running(other.command, other.socket):
        case.peer = f"unix://{other.socket}"
        assert judge(BOOK.find("KS-C090"), case).verdict is Verdict.BROKEN


def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(KEYSTEAD), "conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("transport", ["path", "abstract"])
def test_keystead_passes_on_every_api_and_transport_that_it_serves(transport: str, directory: Path) -> None:
    files = Files(directory)
    endpoint = f"unix://{files.socket}" if transport == "path" else f"unix:///@keystead-conformance-{directory.name}"
    files.write(files.document(socket=endpoint))
    with files.run() as process:
        process.until_event("health.changed")
        ran = conformance("--endpoint", endpoint, "--api", "v2", "--api", "v1beta1", "-o", "json")
        told = json.loads(ran.stdout)
        assert ran.returncode == 0, ran.stdout
        spent = {one["rule"]: one["verdict"] for one in told["rules"]}
        assert len(spent) == len(BOOK.rules)
        not_tried = {rule for rule, verdict in spent.items() if verdict != "passed"}
        needs_a_command = {"KS-C080", "KS-C081", "KS-C085", "KS-C090", "KS-C091"}
        assert not_tried == needs_a_command | ({"KS-C065"} if transport == "abstract" else set())
        assert process.popen.poll() is None
        assert "rpc.crashed" not in process.log


def test_the_answer_for_people_says_what_to_do_and_the_one_for_ci_is_junit(directory: Path) -> None:
    path = directory / "kms.sock"
    endpoint = f"unix://{path}"
    with running([sys.executable, str(IN_MEMORY), str(path), "binds the uid"], path):
        text = conformance("--endpoint", endpoint, "--rule", "KS-C022", "--rule", "ks-c001")
        junit = conformance("--endpoint", endpoint, "--rule", "KS-C022", "--rule", "KS-C080", "-o", "junit")
    assert text.returncode == 1
    for line in (
        "ok    KS-C001",
        "FAIL  KS-C022",
        "  expected   Decrypt with a uid of 0 characters to answer",
        "  got        DATA_LOSS: refused",
        "  why        Each call has another uid",
        f"  reproduce  keystead conformance --endpoint {endpoint} --api v2 --rule KS-C022",
        "1 passed, 1 broken; no tier, for 2 of",
    ):
        assert line in text.stdout, text.stdout
    suite = ET.fromstring(junit.stdout)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")
    failure = suite.find("testcase[@name='KS-C022']/failure")
    assert failure is not None
    assert "reproduce" in (failure.text or "")


def test_a_socket_where_nobody_answers_is_told_from_a_broken_plugin(directory: Path) -> None:
    ran = conformance("--endpoint", f"unix://{directory}/none.sock", "--timeout", "0.5")
    assert ran.returncode == 3
    assert "nobody answers" in ran.stderr
    for arguments, what in (
        (("--endpoint", "tcp://x"), "is not of the form"),
        (("--endpoint", "unix:///x", "--rule", "KS-C999"), "no rule KS-C999"),
        (("--endpoint", "unix:///x", "--peer", "y"), "is not of the form"),
    ):
        ran = conformance(*arguments)
        assert ran.returncode == 2
        assert what in ran.stderr
