"""The command line as a whole: help, version, completion, and what stays unimported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from keystead import __version__
from keystead.cli import _COMMANDS, main

COMMANDS = [
    [],
    ["serve"],
    ["config"],
    ["config", "lint"],
    ["config", "schema"],
    ["config", "explain"],
    ["status"],
    ["rotate"],
    ["rotate", "plan"],
    ["rotate", "verify"],
    ["kek"],
    ["kek", "mint"],
    ["doctor"],
    ["self-test"],
    ["inspect"],
    ["inventory"],
    ["key"],
    ["key", "list"],
    ["key", "retire-check"],
    ["recover"],
    ["recover", "rehearse"],
    ["recover", "blobs"],
    ["recover", "decrypt"],
    ["backup"],
    ["backup", "manifest"],
    ["generate"],
    ["generate", "migration"],
    ["generate", "static-pod"],
    ["generate", "daemonset"],
    ["generate", "sidecar"],
    ["generate", "systemd"],
    ["generate", "kubeadm"],
    ["generate", "encryption-config"],
    ["generate", "policy"],
    ["generate", "alerts"],
    ["generate", "dashboard"],
    ["conformance"],
    ["provider"],
    ["provider", "list"],
    ["provider", "info"],
    ["provider", "new"],
    ["provider", "update"],
    ["provider", "rules"],
    ["version"],
    ["completion"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_a_help_that_fits(command: list[str], flag: str) -> None:
    outcome = CliRunner().invoke(main, [*command, flag], terminal_width=100)
    assert outcome.exit_code == 0
    assert outcome.output.startswith(f"Usage: {' '.join(['main', *command])}")
    assert max(len(line) for line in outcome.output.splitlines()) <= 100


def test_the_help_names_every_command_and_every_exit_code() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for command in _COMMANDS:
        assert f"\n  {command} " in text
    for code in ("0 fine", "1 a check failed", "2 usage", "3 could not find out", "4 refused", "78 invalid"):
        assert code in " ".join(text.split())


def test_every_command_is_in_the_list_that_is_tested() -> None:
    assert {command[0] for command in COMMANDS if command} == set(_COMMANDS)


@pytest.mark.parametrize("command", [["serfe"], ["config", "lnt"], ["--frobnicate"], ["version", "--frobnicate"]])
def test_what_does_not_exist_is_a_usage_error(command: list[str]) -> None:
    outcome = CliRunner().invoke(main, command)
    assert outcome.exit_code == 2
    assert "Usage:" in outcome.output


def test_version_shows_what_it_runs_on() -> None:
    text = CliRunner().invoke(main, ["version"]).output
    assert f"keystead      {__version__}\n" in text
    facts = json.loads(CliRunner().invoke(main, ["version", "-o", "json"]).output)
    assert facts["keystead"] == __version__
    assert facts["kms"] == "v2, v1beta1"
    assert set(facts) == {"keystead", "python", "grpcio", "kms", "record format"}
    assert CliRunner().invoke(main, ["--version"]).output == f"keystead, version {__version__}\n"


def modules_after(*arguments: str) -> set[str]:
    """What is imported once a command has run in a fresh interpreter."""
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom keystead.cli import main\n"
        f"outcome = CliRunner().invoke(main, {list(arguments)!r})\nassert outcome.exit_code == 0, outcome.output\n"
        "print(*sys.modules)"
    )
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("arguments", [("version",), ("--help",), ("completion", "zsh"), ("serve", "--help")])
def test_a_quick_command_imports_neither_grpc_nor_pydantic(arguments: tuple[str, ...]) -> None:
    modules = modules_after(*arguments)
    assert "keystead.cli" in modules
    assert modules.isdisjoint({"grpc", "pydantic", "ruamel.yaml", "google.protobuf", "structlog", "keystead._core"})


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef keystead"), ("fish", "complete --no-files")]
)
def test_completion_is_a_script_for_the_shell(shell: str, sign: str) -> None:
    outcome = CliRunner().invoke(main, ["completion", shell])
    assert outcome.exit_code == 0
    assert sign in outcome.stdout
    assert "_KEYSTEAD_COMPLETE" in outcome.stdout


def test_completion_offers_the_commands() -> None:
    environment = os.environ | {"_KEYSTEAD_COMPLETE": "zsh_complete", "COMP_WORDS": "keystead s", "COMP_CWORD": "1"}
    program = "from keystead.cli import main; main(prog_name='keystead')"
    outcome = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert {"serve", "self-test"} <= set(outcome.stdout.split("\n"))


def test_an_unknown_shell_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2
