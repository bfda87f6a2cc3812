"""`keystead backup`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from keystead.cli.stores import COULD_NOT_FIND_OUT, open_snapshot, prefix_option, reading
from keystead.cli.terminal import printable


@click.group()
def backup() -> None:
    """What belongs beside a backup of etcd."""


@backup.command()
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Configuration of the plugin on this node."
)
@click.option("--snapshot", type=click.Path(path_type=Path), help="File that etcdctl snapshot save wrote.")
@prefix_option
def manifest(*, config_path: Path | None, snapshot: Path | None, prefix: str) -> None:
    """Print as JSON which keys, in which versions, a backup needs. It is public: keep it beside the snapshot.

    Exit code 3 if the snapshot or the state of an endpoint cannot be read; the rest is printed all the same.
    """
    from keystead.config import ConfigInvalid, load
    from keystead.operate import manifest as made
    from keystead.operate.survey import survey

    if config_path is None and snapshot is None:
        raise click.UsageError("give --config, --snapshot, or both")
    body, lacking = made.manifest(), []
    if config_path is not None:
        try:
            config = load(config_path)
        except ConfigInvalid as exc:
            for problem in exc.problems:
                click.echo(f"keystead: {problem}", err=True)
            sys.exit(2)
        body |= made.of_configuration(config)
        lacking = list(made.unreadable_states(config))
    if snapshot is not None:
        with reading(store := open_snapshot(snapshot)) as progress:
            surveyed = survey(store, prefix, progress)
        body["snapshot"] = made.of_snapshot(store, surveyed)
    click.echo(json.dumps(body, indent=2))
    for reason in lacking:
        click.echo(f"keystead: {printable(reason)}", err=True)
    if lacking:
        sys.exit(COULD_NOT_FIND_OUT)
