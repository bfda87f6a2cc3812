"""Options that name keys for a recovery, and what becomes of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from keystead.operate.keys_at_hand import KeysAtHand

Command = Callable[..., None]


def key_options(command: Command) -> Command:
    """Add what names the keys."""
    for add in (
        click.option(
            "--kek-file",
            "kek_files",
            multiple=True,
            type=click.Path(path_type=Path),
            help="32 bytes that another tool unwrapped; may be given several times. See recover blobs.",
        ),
        click.option(
            "--set",
            "key_fields",
            multiple=True,
            metavar="FIELD=VALUE",
            help="A field of the key of --provider, such as keyFile=/etc/keystead/lab.key. Never a secret: paths only.",
        ),
        click.option("--provider", help="Provider of one remote key."),
        click.option(
            "--keys",
            "keys_file",
            type=click.Path(path_type=Path),
            help="File with entries of keys:, or a whole configuration, whose keys are tried.",
        ),
    ):
        command = add(command)
    return command


@contextmanager
def keys_at_hand(given: dict[str, Any]) -> Iterator[KeysAtHand]:
    """Build what the options name, and close it at the end; end the program with 2 for what cannot be used."""
    from keystead.config import ConfigInvalid
    from keystead.operate.keys_at_hand import KeyRefused, KeysAtHand, key_of, keys_in

    try:
        fields = dict(_field(pair) for pair in given["key_fields"])
        if fields and given["provider"] is None:
            raise click.UsageError("--set belongs to --provider")
        configs = keys_in(given["keys_file"]) if given["keys_file"] else []
        if given["provider"] is not None:
            configs.append(key_of(given["provider"], fields))
        keys = KeysAtHand(configs, given["kek_files"])
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(f"keystead: {problem}", err=True)
        sys.exit(2)
    except KeyRefused as exc:
        raise click.UsageError(str(exc)) from exc
    try:
        yield keys
    finally:
        keys.close()


def _field(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise click.UsageError(f"--set {pair}: write FIELD=VALUE")
    return name, value
