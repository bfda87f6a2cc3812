"""Options that name an etcd or its snapshot, and reading them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keystead.cli.progress import ProgressLine, progress_line
from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.operate.etcd_client import EtcdStore
    from keystead.operate.store import SnapshotStore, Store

COULD_NOT_FIND_OUT = 3

Command = Callable[..., None]

prefix_option = click.option(
    "--prefix", default="/registry/", show_default=True, help="kube-apiserver's --etcd-prefix and a slash."
)
snapshot_option = click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    required=True,
    help="File that etcdctl snapshot save wrote.",
)


def etcd_options(command: Command) -> Command:
    """Add what names a running etcd and the files for TLS to it, spelled as etcdctl does."""
    path = click.Path(path_type=Path)
    for add in (
        click.option("--key", type=path, help="Key of the client certificate."),
        click.option("--cert", type=path, help="Client certificate for etcd."),
        click.option("--cacert", type=path, help="CA of etcd's certificate."),
        click.option("--etcd", metavar="URL", help="A running etcd: https://127.0.0.1:2379."),
    ):
        command = add(command)
    return command


@contextmanager
def reading(*stores: Store) -> Iterator[ProgressLine]:
    """Show progress; print the doubts about the stores; end the program with 3 if one cannot be read to its end."""
    from keystead.operate.store import Unreadable

    try:
        with progress_line() as progress:
            yield progress
    except Unreadable as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(COULD_NOT_FIND_OUT)
    for store in stores:
        for warning in store.warnings:
            click.echo(f"keystead: {printable(store.name)}: warning: {warning}", err=True)


def open_snapshot(path: Path) -> SnapshotStore:
    """Open a file; end the program with 3 if that is impossible."""
    from keystead.operate.store import SnapshotStore, Unreadable

    try:
        return SnapshotStore(path)
    except Unreadable as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(COULD_NOT_FIND_OUT)


def open_etcd(url: str, prefix: str, cacert: Path | None, cert: Path | None, key: Path | None) -> EtcdStore:
    """Name a running etcd; nothing is called yet."""
    from keystead.operate.etcd_client import EtcdStore, Tls

    try:
        return EtcdStore(url, prefix, Tls(cacert, cert, key))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
