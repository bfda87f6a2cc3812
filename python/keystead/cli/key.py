"""`keystead key`: the remote keys that data depends on, and whether one can be taken away."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystead.cli.stores import COULD_NOT_FIND_OUT, etcd_options, open_etcd, open_snapshot, prefix_option, reading
from keystead.cli.tables import show
from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.operate.remote_keys import NodeKeys
    from keystead.operate.retire import Check
    from keystead.operate.store import Store
    from keystead.operate.survey import Survey

REFUSED = 4

from_option = click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="FILE|SOCKET",
    help="What keystead status -o json printed on a node, or its admin socket; give one of each node.",
)
more_argument = click.argument("more", nargs=-1, metavar="[FILE|SOCKET]...")
output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)


@click.group()
def key() -> None:
    """Show which remote keys data depends on, and whether one can be taken away."""


@key.command("list")
@click.option("--snapshot", type=click.Path(path_type=Path), help="File that etcdctl snapshot save wrote.")
@etcd_options
@prefix_option
@from_option
@output_option
@more_argument
def list_keys(
    *,
    snapshot: Path | None,
    etcd: str | None,
    prefix: str,
    sources: tuple[str, ...],
    more: tuple[str, ...],
    output: str,
    **tls: Path | None,
) -> None:
    """List the remote keys of a store, and of nodes, with how much depends on each. Needs no key."""
    from keystead.operate.key_list import listed

    if (snapshot is None) == (etcd is None):
        raise click.UsageError("give one of --snapshot and --etcd")
    nodes, unread = _nodes(sources, more)
    for problem in unread:
        click.echo(f"keystead: {printable(problem)}", err=True)
    where = [open_snapshot(snapshot)] if snapshot else [open_etcd(str(etcd), prefix, **tls)]
    ((_, _, surveyed),) = _surveys(where, prefix)
    keys = listed(surveyed.rows, nodes)
    if output == "json":
        click.echo(
            json.dumps(
                {
                    "store": where[0].name,
                    "keys": [
                        {
                            "names": one.names,
                            "scheme": one.scheme,
                            "ref": one.ref,
                            "version": one.version or None,
                            "role": one.role,
                            "objects": one.objects,
                            "objectsThatNeedIt": one.alone,
                            "seeds": one.seeds,
                            "nodesEncrypting": one.nodes,
                        }
                        for one in keys
                    ],
                }
            )
        )
    elif keys:
        rows = [
            (
                ",".join(one.names) or "-",
                one.scheme,
                one.ref,
                one.version or "-",
                one.role,
                one.objects,
                one.alone,
                one.nodes,
            )
            for one in keys
        ]
        show(("NAME", "SCHEME", "REF", "VERSION", "ROLE", "OBJECTS", "ALONE", "NODES"), rows)
    else:
        click.echo("no key: Keystead encrypted nothing here")
    if unread:
        sys.exit(COULD_NOT_FIND_OUT)


@key.command("retire-check")
@click.argument("name", metavar="KEY")
@etcd_options
@click.option(
    "--snapshot",
    "snapshots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A backup that may be restored one day; may be given several times.",
)
@prefix_option
@from_option
@click.option("--keep", multiple=True, metavar="KEY", help="Another key that stays, where no node says so.")
@output_option
@more_argument
def retire_check(
    *,
    name: str,
    etcd: str | None,
    snapshots: tuple[Path, ...],
    prefix: str,
    sources: tuple[str, ...],
    more: tuple[str, ...],
    keep: tuple[str, ...],
    output: str,
    **tls: Path | None,
) -> None:
    """Tell whether KEY, or KEY@VERSION, can be destroyed without losing data.

    KEY is a name in the configuration of a node that --from shows, or a ref as keystead key list shows it. Changes
    nothing. Exit codes: 0 nothing needs it, 3 could not find out, 4 something needs it.
    """
    from keystead.operate.remote_keys import Named, RemoteKey, UnknownKey
    from keystead.operate.retire import check

    if etcd is None and not snapshots:
        raise click.UsageError("give --etcd, or at least one --snapshot")
    nodes, unread = _nodes(sources, more)
    where: list[Store] = [open_etcd(etcd, prefix, **tls)] if etcd is not None else []
    where += [open_snapshot(path) for path in snapshots]
    stores = _surveys(where, prefix)
    named = Named()
    for node in nodes:
        named.add_node(node)
    for _, _, surveyed in stores:
        for row in surveyed.rows:
            if row.holder.record is not None:
                named.keys.update(RemoteKey(wrap.scheme, wrap.ref) for wrap in row.holder.record.wraps)
    try:
        wanted = named.find(name)
        kept = [named.find(one).key for one in keep]
    except UnknownKey as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(COULD_NOT_FIND_OUT)
    result = check(wanted, stores, nodes, kept, unread)
    if output == "json":
        click.echo(json.dumps(_as_json(result)))
    else:
        _show(result)
    sys.exit({"needed": REFUSED, "unknown": COULD_NOT_FIND_OUT, "free": 0}[result.verdict])


def _surveys(where: list[Any], prefix: str) -> list[tuple[str, bool, Survey]]:
    """Count what is in each store; the program ends with 3 if one cannot be read."""
    from keystead.operate.etcd_client import EtcdStore
    from keystead.operate.survey import survey

    with ExitStack() as stack:
        progress = stack.enter_context(reading(*where))
        return [(store.name, isinstance(store, EtcdStore), survey(store, prefix, progress)) for store in where]


def _nodes(sources: tuple[str, ...], more: tuple[str, ...]) -> tuple[list[NodeKeys], list[str]]:
    """Read the nodes' files, those that follow the last `--from` too, and say why the others could not be."""
    from keystead.operate.admin import CannotTell
    from keystead.operate.node_files import load

    if more and not sources:
        raise click.UsageError("name nodes with --from FILE|SOCKET...")
    nodes, unread = [], []
    for source in (*sources, *more):
        try:
            nodes.append(load(source))
        except CannotTell as exc:
            unread.append(str(exc))
    return nodes, unread


def _show(result: Check) -> None:
    click.echo(f"key   {printable(str(result.wanted))}")
    for other in result.staying:
        click.echo(f"keeps {printable(str(other))}")
    rows = [
        (use.store, "live" if use.is_live else "backup", use.objects, use.needed, use.redundant) for use in result.uses
    ]
    show(("STORE", "KIND", "OBJECTS", "NEED IT", "LOSE ONE OF SEVERAL"), rows)
    for need in result.needs:
        click.echo(f"REFUSED  {printable(need)}")
    for doubt in result.doubts:
        click.echo(f"UNKNOWN  {printable(doubt)}")
    for use in result.uses:
        if use.foreign:
            click.echo(
                f"note     {printable(use.store)}: {use.foreign} objects are under other KMS plugins, "
                "which may use the same remote key: ask them"
            )
    if not any(not use.is_live for use in result.uses):
        click.echo("note     no backup was named: a restore of one that has objects under it would need it")
    click.echo(
        {
            "needed": "NOT to be retired",
            "unknown": "could not find out whether it can be retired",
            "free": "nothing that was checked needs it. Disable it first; destroy it when nothing has complained",
        }[result.verdict]
    )


def _as_json(result: Check) -> dict[str, Any]:
    return {
        "key": {"scheme": result.wanted.key.scheme, "ref": result.wanted.key.ref, "version": result.wanted.version},
        "verdict": result.verdict,
        "staying": [{"scheme": key.scheme, "ref": key.ref} for key in result.staying],
        "stores": [
            {
                "name": use.store,
                "live": use.is_live,
                "objects": use.objects,
                "needed": use.needed,
                "redundant": use.redundant,
                "foreign": use.foreign,
                "damaged": use.damaged,
            }
            for use in result.uses
        ],
        "nodes": [{"name": name, "use": use or None} for name, use in result.nodes],
        "needs": result.needs,
        "doubts": result.doubts,
    }
