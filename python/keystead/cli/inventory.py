"""`keystead inventory`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystead.cli.stores import etcd_options, open_etcd, open_snapshot, prefix_option, reading
from keystead.cli.tables import show
from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.operate.inventory import Dimension, Finding, Line
    from keystead.operate.store import Store

CHECK_FAILED = 1


@click.command()
@click.option("--snapshot", type=click.Path(path_type=Path), help="File that etcdctl snapshot save wrote.")
@etcd_options
@prefix_option
@click.option(
    "--by",
    type=click.Choice(["resource", "namespace", "provider", "key", "record"]),
    default="resource",
    show_default=True,
    help="What to count by; key: the remote keys of the records; record: the local KEKs.",
)
@click.option(
    "--encryption-config",
    type=click.Path(path_type=Path),
    help="kube-apiserver's EncryptionConfiguration, to hold what is stored against it.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def inventory(
    *,
    snapshot: Path | None,
    etcd: str | None,
    by: Dimension,
    prefix: str,
    encryption_config: Path | None,
    output: str,
    **tls: Path | None,
) -> None:
    """Count what is in etcd under which key. Needs no key.

    Exit codes: 0 fine, 1 something is damaged, or against the EncryptionConfiguration, 3 the store cannot be read.
    """
    from keystead.config import ConfigInvalid
    from keystead.operate import encryption_config as encryption
    from keystead.operate.describe import time_text
    from keystead.operate.inventory import findings, lines, never_encrypted
    from keystead.operate.survey import survey

    try:
        config = encryption.load(encryption_config) if encryption_config else None
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(f"keystead: {problem}", err=True)
        sys.exit(2)
    store: Store
    if snapshot is not None and etcd is None:
        store = open_snapshot(snapshot)
    elif etcd is not None and snapshot is None:
        store = open_etcd(etcd, prefix, **tls)
    else:
        raise click.UsageError("give one of --snapshot and --etcd")
    with reading(store) as progress:
        surveyed = survey(store, prefix, progress)
    rows = surveyed.rows
    found = findings(rows, config)
    answer = lines(rows, by, time_text)
    if output == "json":
        body = {
            "store": store.name,
            "revision": store.revision,
            "warnings": store.warnings,
            "by": by,
            "lines": [_line(by, line) for line in answer],
            "objects": surveyed.objects,
            "neverEncrypted": never_encrypted(rows),
            "outsidePrefix": surveyed.outside,
            "findings": [_finding(one) for one in found],
        }
        click.echo(json.dumps(body))
    else:
        _show(
            by,
            answer,
            found,
            f"{store.name}: {surveyed.objects} objects at revision {store.revision}",
            never_encrypted(rows),
        )
    if any(one.fails for one in found):
        sys.exit(CHECK_FAILED)


def _line(by: Dimension, line: Line) -> dict[str, Any]:
    from keystead.host.report import key_id_hash
    from keystead.operate.inventory import HEADS

    names = {"KEY_ID": "keyID", "LOCAL KEK": "localKEK"}
    label = {
        names.get(head, head.lower()): None if value == "-" else value
        for head, value in zip(HEADS[by], line.label, strict=True)
    }
    if label.get("keyID"):
        label["keyIDHash"] = key_id_hash(str(label["keyID"]))
    return {
        **label,
        "objects": line.objects,
        "seeds": line.seeds,
        "oldestRevision": line.oldest,
        "newestRevision": line.newest,
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "fails": one.fails,
        "resource": one.resource,
        "objects": one.objects,
        "text": str(one),
    }


def _show(by: Dimension, answer: list[Line], found: list[Finding], summary: str, never: int) -> None:
    from keystead.operate.inventory import HEADS

    if answer:
        rows = [(*line.label, line.objects, line.seeds, line.oldest) for line in answer]
        show((*HEADS[by], "OBJECTS", "SEEDS", "OLDEST-REV"), rows)
    click.echo(printable(summary) + (f", {never} of which Kubernetes never encrypts" if never else ""))
    for one in found:
        click.echo(f"{'FAIL' if one.fails else 'note'}  {printable(str(one))}")
    if resources := sorted({one.resource for one in found if one.is_helped_by_migration}):
        click.echo(f"Next: keystead generate migration --resources {printable(','.join(resources))}")
