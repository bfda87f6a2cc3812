"""`keystead kek`: records of local KEKs, made by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from keystead.cli.serve import DEFAULT_CONFIG
from keystead.cli.terminal import printable

REFUSED = 1
INVALID = 2
COULD_NOT_FIND_OUT = 3


@click.group()
def kek() -> None:
    """Make a record that several nodes share."""


@kek.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    help=f"Configuration file.  [default: {DEFAULT_CONFIG}]",
)
@click.option("--endpoint", help="Endpoint of the record; not needed if there is one only.")
def mint(*, config_path: Path | None, endpoint: str | None) -> None:
    """Make a local KEK, wrapped under every active key, and write its record to standard output.

    The record is no secret. Place the same file on all nodes, as localKEK.recordFile, or as STATEDIR/ENDPOINT/current
    of a node that has none. Exit codes: 0 made, 1 a key refused, 2 invalid configuration, 3 a key did not answer.
    """
    from keystead.config import ConfigInvalid, load
    from keystead.errors import KeysteadError
    from keystead.host.verdict import is_transient
    from keystead.operate.shared_record import make

    if sys.stdout.isatty():
        raise click.UsageError("a record is binary: send it to a new file: keystead kek mint > record.new")
    try:
        config = load(config_path or DEFAULT_CONFIG)
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(f"keystead: {problem}", err=True)
        sys.exit(INVALID)
    chosen = [one for one in config.endpoints if endpoint in (None, one.name)]
    if len(chosen) != 1:
        names = ", ".join(one.name for one in config.endpoints)
        raise click.UsageError(f"choose one endpoint with --endpoint: {names}")
    try:
        state = make(config, chosen[0])
    except KeysteadError as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(COULD_NOT_FIND_OUT if is_transient(exc) else REFUSED)
    sys.stdout.buffer.write(state.encoded)
    click.echo(f"key_id     {state.key_id}", err=True)
    click.echo(f"local KEK  {state.record.kek_id.hex()}", err=True)
    for wrap in state.record.wraps:
        click.echo(printable(f"wrapped    {wrap.scheme} {wrap.ref} {wrap.version}".rstrip()), err=True)
