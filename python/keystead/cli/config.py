"""`keystead config`: check a configuration, and say what can be in one."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keystead.cli.serve import DEFAULT_CONFIG

if TYPE_CHECKING:
    from keystead.config import Problem
    from keystead.config.outline import Entry

INVALID = 2
WARNED = 1
WIDEST = 100


@click.group("config")
def config_group() -> None:
    """Check a configuration, and explain what can be in one."""


@config_group.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    help=f"Configuration file.  [default: KEYSTEAD_CONFIG_INLINE, or else {DEFAULT_CONFIG}]",
)
@click.option(
    "--encryption-config",
    "encryption",
    type=click.Path(path_type=Path),
    help="kube-apiserver's EncryptionConfiguration, to be checked against the file.",
)
@click.option("--strict", is_flag=True, help="Exit 1 if there are warnings.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def lint(*, path: Path | None, encryption: Path | None, strict: bool, output: str) -> None:
    """Report every problem of a configuration with its line, and what deserves a second look.

    Opens no key and no socket. Exit codes: 0 valid, 1 warnings with --strict, 2 invalid.
    """
    from keystead.config import ConfigInvalid, Configuration, lint_text, load_text, read_file
    from keystead.config.encryption import judge

    inline = os.environ.get("KEYSTEAD_CONFIG_INLINE")
    problems: list[Problem] = []
    warnings: list[Problem] = []
    name = str(path or DEFAULT_CONFIG)
    configuration: Configuration | None = None
    try:
        if path is None and inline is not None:
            name, text = "KEYSTEAD_CONFIG_INLINE", inline
        else:
            text = read_file(path or DEFAULT_CONFIG)
        warnings = lint_text(text, name)
        configuration = load_text(text, name)
    except ConfigInvalid as exc:
        problems = exc.problems
    if encryption is not None:
        try:
            judged = judge(read_file(encryption), str(encryption), configuration)
            problems, warnings = problems + judged.problems, warnings + judged.warnings
        except ConfigInvalid as exc:
            problems = problems + exc.problems
        name = f"{name} and {encryption}"
    _show_findings(name, problems, warnings, output)
    sys.exit(INVALID if problems else WARNED if warnings and strict else 0)


@config_group.command()
def schema() -> None:
    """Print the JSON Schema of the file, with every installed provider."""
    from keystead.config import schema as composer

    classes, failures = composer.usable_providers()
    _warn(failures)
    click.echo(json.dumps(composer.schema(classes), indent=2, ensure_ascii=False))


@config_group.command()
@click.argument("path", default="")
def explain(*, path: str) -> None:
    """Describe the field at PATH, such as endpoints.localKEK.maxAge; without PATH, list all fields.

    The fields of a key depend on its provider: keys.local.keyFile.
    """
    from keystead.config import outline
    from keystead.config.schema import schema as compose
    from keystead.config.schema import usable_providers

    classes, failures = usable_providers()
    _warn(failures)
    entries = outline.outline(compose(classes))
    if not path:
        for entry in entries:
            click.echo(f"{'  ' * entry.path.count('.')}{_summary(entry)}")
        return
    found = outline.find(entries, path)
    if found is None:
        close = outline.closest(entries, path)
        raise click.UsageError(f"no field {path!r}" + (f" (did you mean {close!r}?)" if close else ""))
    _show_entry(found, [entry for entry in entries if entry.parent == found.path])


def _warn(failures: list[str]) -> None:
    for failure in failures:
        click.echo(f"keystead: left out: {failure}", err=True)


def _show_findings(name: str, problems: list[Problem], warnings: list[Problem], output: str) -> None:
    if output == "json":
        found = [
            {"severity": severity, **asdict(one)}
            for severity, several in (("error", problems), ("warning", warnings))
            for one in several
        ]
        click.echo(json.dumps({"valid": not problems, "findings": found}))
        return
    for problem in problems:
        click.echo(str(problem))
    for warning in warnings:
        click.echo(str(replace(warning, path=f"warning: {warning.path}")))
    counted = _count(len(problems), "problem") if problems else f"valid, {_count(len(warnings), 'warning')}"
    click.echo(f"{name}: {counted}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _summary(entry: Entry) -> str:
    note = " required" if entry.required else f" default {entry.default}" if entry.default is not None else ""
    return f"{entry.name} <{entry.type}>{note}"


def _show_entry(entry: Entry, children: list[Entry]) -> None:
    width = min(shutil.get_terminal_size().columns, WIDEST)
    click.echo(f"FIELD: {entry.path} <{entry.type}>")
    click.echo("Required." if entry.required else "Optional." if entry.default is None else f"Default: {entry.default}")
    click.echo()
    click.echo(textwrap.fill(entry.description, width, initial_indent="  ", subsequent_indent="  "))
    for child in children:
        click.echo(f"\n  {_summary(child)}")
        click.echo(textwrap.fill(child.description, width, initial_indent="    ", subsequent_indent="    "))
