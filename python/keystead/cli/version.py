"""`keystead version`."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version as distribution_version
from typing import Literal

import click

from keystead import __version__


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def version(output: Literal["text", "json"]) -> None:
    """Print the versions of Keystead and of what it runs on."""
    facts = {
        "keystead": __version__,
        "python": platform.python_version(),
        "grpcio": distribution_version("grpcio"),
        "kms": "v2, v1beta1",
        "record format": "1",
    }
    if output == "json":
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name:14}{value}")
