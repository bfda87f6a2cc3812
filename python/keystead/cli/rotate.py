"""`keystead rotate`: the steps of a rotation, and whether it is complete."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keystead.cli.serve import DEFAULT_CONFIG

if TYPE_CHECKING:
    from keystead.operate.rotation import Step

WIDTH = 100


@click.group()
def rotate() -> None:
    """Plan a rotation, and see whether it is complete on all nodes. Changes nothing."""


@rotate.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    help=f"Configuration as it is now.  [default: {DEFAULT_CONFIG}]",
)
@click.option("--endpoint", help="Endpoint to rotate; not needed if there is one only.")
@click.option("--add", multiple=True, metavar="KEY", help="A key to encrypt with from now on; it may be new.")
@click.option("--drop", multiple=True, metavar="KEY", help="A key to do without in the end.")
@click.option("--to-version", "pins", multiple=True, metavar="KEY=VERSION", help="Keep a key to this version.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def plan(
    *,
    config_path: Path | None,
    endpoint: str | None,
    add: tuple[str, ...],
    drop: tuple[str, ...],
    pins: tuple[str, ...],
    output: str,
) -> None:
    """Print each step of a rotation: what to change on every node, and what to wait for.

    With --add and --drop a key is replaced, with one of them one is added or taken out, with neither there are new
    local KEKs and seeds under the same keys.
    """
    from keystead.config import ConfigInvalid, load
    from keystead.operate.rotation import Impossible, Wish
    from keystead.operate.rotation import plan as make

    try:
        config = load(config_path or DEFAULT_CONFIG)
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(f"keystead: {problem}", err=True)
        sys.exit(2)
    name = endpoint or (config.endpoints[0].name if len(config.endpoints) == 1 else None)
    if name is None:
        names = ", ".join(one.name for one in config.endpoints)
        raise click.UsageError(f"there are several endpoints: choose one with --endpoint: {names}")
    try:
        steps = make(config, name, Wish(add, drop, dict(map(_pin, pins))))
    except Impossible as exc:
        raise click.UsageError(str(exc)) from None
    if output == "json":
        click.echo(json.dumps({"endpoint": name, "steps": [asdict(step) for step in steps]}, indent=2))
        return
    click.echo("\n".join(_lines(name, steps)))


@rotate.command()
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    metavar="FILE|URL",
    help="Each node: a saved `status -o json`, or http://node:9853/metrics.",
)
@click.option("--epoch", type=int, help="The epoch that the rotation was to reach.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
@click.argument("more", nargs=-1, metavar="[FILE|URL]...")
def verify(*, sources: tuple[str, ...], epoch: int | None, output: str, more: tuple[str, ...]) -> None:
    """Say whether a rotation is complete: all nodes agree, and encrypt under what their configuration says.

    What is stored is another matter: see keystead inventory. Exit codes: 0 complete, 1 not, 3 could not find out.
    """
    from keystead.cli.fleet import compare

    sys.exit(compare((*sources, *more), output, rotated=True, epoch=epoch))


def _pin(text: str) -> tuple[str, str]:
    key, equals, version = text.partition("=")
    if not equals or not key or not version:
        raise click.UsageError(f"--to-version {text}: write KEY=VERSION")
    return key, version


def _lines(endpoint: str, steps: Sequence[Step]) -> Iterator[str]:
    yield f"Rotation of the endpoint {endpoint} in {len(steps)} steps. Finish each everywhere before the next."
    yield "NODE1 NODE2 ... are what each node says: a saved `keystead status -o json`, or the URL of its /metrics."
    for number, step in enumerate(steps, 1):
        yield f"\n{number}. {step.title}, {step.where}"
        if step.change:
            yield "   In the configuration; fields that are not shown stay:"
            yield textwrap.indent(step.change.rstrip(), " " * 7)
        for command in step.run:
            yield f"     $ {command}"
        for wait in step.wait:
            yield textwrap.fill(wait, WIDTH, initial_indent="   wait  ", subsequent_indent="         ")
        if step.back:
            yield textwrap.fill(step.back, WIDTH, initial_indent="   back  ", subsequent_indent="         ")
