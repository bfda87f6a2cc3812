"""The commands of keystead on the pages about deployment and alerts are ones that it takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from keystead.cli import main
from reference.book import ROOT

PAGES = [*sorted((ROOT / "docs/deploy").glob("*.md")), ROOT / "docs/alerts/README.md", ROOT / "docs/operate/doctor.md"]
CONFIG = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
cluster: prod
stateDir: /var/lib/keystead
keys:
- {name: a, provider: local, keyFile: /etc/keystead/a.key}
endpoints:
- {name: main, socket: "unix:///run/keystead/kms.sock", epoch: 1, members: [{key: a, stage: active}]}
"""


def lines() -> Iterator[tuple[str, list[str]]]:
    """Each command in an indented block, without what a shell does with its output."""
    for page in PAGES:
        for line in re.findall(r"^    (?:\S*/)?keystead (.+)$", page.read_text(), re.MULTILINE):
            yield page.name, shlex.split(re.split(r" [>|] ", line)[0])


LINES = list(lines())


def test_there_are_commands() -> None:
    assert len(LINES) > 12
    assert {words[0] for _, words in LINES} >= {"generate", "doctor", "config"}


@pytest.mark.parametrize(("page", "words"), LINES, ids=[" ".join(words) for _, words in LINES])
def test_the_command_is_one_that_it_takes(page: str, words: list[str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    given = [str(config) if word.endswith("config.yaml") and word != words[0] else word for word in words]
    if words[0] in ("generate", "config"):
        outcome = CliRunner().invoke(main, given)
        assert outcome.exit_code == 0, f"{page}: {outcome.output}"
        assert outcome.stdout
        return
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), given.pop(0))
        assert found is not None, page
        command = found
    context = command.make_context("x", given, help_option_names=["-h", "--help"])
    assert context.params
