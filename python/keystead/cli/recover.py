"""`keystead recover`: read a snapshot of etcd without a cluster, with any one key that it is under."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

import click

from keystead.cli.at_hand import key_options, keys_at_hand
from keystead.cli.recovery_text import record_json, rehearsal_json, show_export, show_rehearsal, show_ways
from keystead.cli.stores import COULD_NOT_FIND_OUT, open_snapshot, prefix_option, reading, snapshot_option

CHECK_FAILED = 1
REFUSED = 4


@click.group()
def recover() -> None:
    """Read a snapshot of etcd without a cluster, with any one key that it is under.

    Needs no configuration of the plugin and no API server.
    """


output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)


@recover.command()
@snapshot_option
@prefix_option
@key_options
@output_option
def rehearse(*, snapshot: Path, prefix: str, output: str, **given: Any) -> None:
    """Prove that a snapshot can be read: open one object of every seed, and write nothing.

    Without a key, say which keys would do, and by which commands of their own tools. Exit codes: 0 all can be read,
    1 something cannot, 3 the file or a remote could not be read, or no key was given.
    """
    from keystead.operate.by_hand import by_hand
    from keystead.operate.rehearse import open_one_per_seed, prepare, unwrap_all

    with keys_at_hand(given) as keys, reading(store := open_snapshot(snapshot)) as progress:
        rehearsal = prepare(store, prefix, progress)
        if keys and rehearsal.outcomes:
            unwrap_all(rehearsal, keys, progress)
            open_one_per_seed(rehearsal, store, prefix, keys, progress)
        had_keys, unavailable = bool(keys), keys.unavailable
    ways = [(outcome, by_hand(outcome.use.record, outcome.use.label, Path("DIR"))) for outcome in rehearsal.outcomes]
    complete = rehearsal.complete and (had_keys or not rehearsal.outcomes)
    if output == "json":
        click.echo(json.dumps(rehearsal_json(rehearsal, store, ways, complete=complete)))
    else:
        show_rehearsal(rehearsal, store, ways, had_keys=had_keys)
    if not complete:
        sys.exit(COULD_NOT_FIND_OUT if unavailable or not had_keys else CHECK_FAILED)


@recover.command()
@snapshot_option
@prefix_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the blobs; made if need be.")
@click.option("--region", help="Region in which a multi-Region key of AWS KMS is asked.")
@output_option
def blobs(*, snapshot: Path, prefix: str, out: Path, region: str | None, output: str) -> None:
    """Write the wrapped local KEKs to files, and print the commands that unwrap them without Keystead.

    What is written is no secret: it stands in etcd in clear. What the commands write is one.
    """
    from keystead.operate.by_hand import by_hand
    from keystead.operate.rehearse import prepare

    with reading(store := open_snapshot(snapshot)) as progress:
        rehearsal = prepare(store, prefix, progress)
    ways = [(outcome, by_hand(outcome.use.record, outcome.use.label, out, region)) for outcome in rehearsal.outcomes]
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        for way in (way for _, several in ways for way in several):
            for path, content in way.files.items():
                _write(path, content)
    except OSError as exc:
        raise click.ClickException(f"{exc.filename}: {exc.strerror}") from exc
    if output == "json":
        click.echo(json.dumps({"records": [record_json(outcome, several) for outcome, several in ways]}))
        return
    show_ways(ways, snapshot)


@recover.command()
@snapshot_option
@prefix_option
@key_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the objects: new, or empty.")
@click.option("--resource", "resources", multiple=True, help="Only this resource, as secrets; may be given again.")
@click.option("--namespace", "namespaces", multiple=True, help="Only this namespace; may be given again.")
@click.option("--name", "names", multiple=True, help="Only objects of this name; may be given again.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="Form of the files.")
@click.option("--i-understand", is_flag=True, help="Yes, write what was encrypted to this disk in plaintext.")
def decrypt(
    *,
    snapshot: Path,
    prefix: str,
    out: Path,
    resources: tuple[str, ...],
    namespaces: tuple[str, ...],
    names: tuple[str, ...],
    output: Literal["yaml", "json"],
    i_understand: bool,
    **given: Any,
) -> None:
    """Write what Keystead encrypted to files, in plaintext.

    Secrets, ConfigMaps and custom resources become files for kubectl, all else is kept as it is stored. Exit codes:
    0 all that was selected was written, 1 something does not open, 3 the file or a remote could not be read, 4 refused
    without --i-understand.
    """
    from keystead.operate.export import Selection, export

    if not i_understand:
        click.echo(
            "keystead: this writes Secrets in plaintext, readable for whoever can read the disk, its snapshots and its "
            "backups. Choose a directory in memory, such as /dev/shm/recovered, and add --i-understand",
            err=True,
        )
        sys.exit(REFUSED)
    selection = Selection(prefix, resources, namespaces, names)
    with keys_at_hand(given) as keys, reading(store := open_snapshot(snapshot)) as progress:
        if not keys:
            raise click.UsageError(
                "give a key: --kek-file, --keys, or --provider; recover rehearse says which would do"
            )
        try:
            result = export(store, selection, keys, out, output, progress)
        except OSError as exc:
            raise click.ClickException(
                f"{exc.filename or out}: {exc.strerror}; what was written before is still there"
            ) from exc
        unavailable = keys.unavailable
    show_export(result, out)
    if result.failed:
        sys.exit(COULD_NOT_FIND_OUT if unavailable else CHECK_FAILED)


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there already only if it has the same content."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if path.read_bytes() == content:
            return
        raise click.ClickException(f"{path} exists with another content: give an empty directory") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
