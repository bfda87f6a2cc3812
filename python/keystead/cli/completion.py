"""`keystead completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script; for bash: source <(keystead completion bash)."""
    root = ctx.find_root()
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(completion_class(root.command, {}, "keystead", "_KEYSTEAD_COMPLETE").source())
