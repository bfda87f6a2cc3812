"""`keystead generate`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import click

from keystead.cli.deploy import COMMANDS


@click.group()
def generate() -> None:
    """Print what a cluster needs; nothing is applied."""


@generate.command()
@click.option(
    "--resources", required=True, help="Comma-separated, as kubectl spells them: secrets,pandas.bears.example."
)
@click.option("--kubernetes", default="1.37", show_default=True, help="Version of the API servers: 1.37, v1.36.3.")
@click.option(
    "--method",
    type=click.Choice(["auto", "objects", "loop"]),
    default="auto",
    show_default=True,
    help="objects: StorageVersionMigration; loop: a script of kubectl replace; auto: objects from 1.37 on.",
)
def migration(*, resources: str, kubernetes: str, method: Literal["auto", "objects", "loop"]) -> None:
    """Print what has the API server write every object of some resources anew.

    Until that is done, what is stored stays under the old key. It does not find out by itself which version the API
    servers have.
    """
    from keystead.operate import migration as made

    try:
        parsed = [made.Resource.parse(one.strip()) for one in resources.split(",")]
        minor = made.minor_of(kubernetes)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    api = made.api_of(minor)
    if method == "objects" and api is None:
        raise click.UsageError(f"Kubernetes {kubernetes} has no StorageVersionMigration: take --method loop")
    if api is not None and (method == "objects" or (method == "auto" and api == "v1")):
        click.echo(made.objects(parsed, api, datetime.now(UTC).strftime("%Y%m%d-%H%M%S")), nl=False)
    else:
        click.echo(made.loop(parsed), nl=False)


for _command in COMMANDS:
    generate.add_command(_command)
