"""What `keystead recover` shows: the records of a snapshot, what opened them, and the commands that would."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystead.cli.tables import show
from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.operate.by_hand import ByHand
    from keystead.operate.export import Export
    from keystead.operate.rehearse import Outcome, Rehearsal
    from keystead.operate.store import SnapshotStore

Ways = list[tuple["Outcome", list["ByHand"]]]


def show_ways(ways: Ways, snapshot: Path, *, written: bool = True) -> None:
    if not written:
        click.echo(f"keystead recover blobs --snapshot {shlex.quote(str(snapshot))} --out DIR")
    click.echo("umask 077")
    for outcome, several in ways:
        use = outcome.use
        cluster = f"cluster {use.record.cluster}, " if use.record.cluster else ""
        click.echo(
            f"\n# local KEK {use.label}, made {_made(use.record.created)}, {cluster}"
            f"{use.objects} objects under {use.seeds} seeds"
        )
        for way in several:
            role = " (recovery)" if way.is_recovery else ""
            version = f" version {way.wrap.version}" if way.wrap.version else ""
            click.echo(f"# {printable(way.wrap.scheme)} {printable(way.wrap.ref)}{version}{role}")
            if way.note:
                click.echo(f"#   {printable(way.note)}")
            if way.command is not None:
                click.echo(printable(way.command))
    results = sorted({str(way.result) for _, several in ways for way in several if way.command is not None})
    if results:
        files = " ".join(f"--kek-file {shlex.quote(result)}" for result in results)
        click.echo(
            f"\n# With what these wrote:\nkeystead recover rehearse --snapshot {shlex.quote(str(snapshot))} {files}"
        )


def show_rehearsal(rehearsal: Rehearsal, store: SnapshotStore, ways: Ways, *, had_keys: bool) -> None:
    """Print the table, what failed, and what to do."""
    ours = sum(outcome.use.objects for outcome in rehearsal.outcomes)
    others = sum(row.objects for row in rehearsal.rows) - ours
    click.echo(f"{store.name}: revision {store.revision}, {ours} objects by Keystead, {others} others")
    if not rehearsal.outcomes:
        click.echo("nothing to rehearse: Keystead encrypted nothing in it")
        return
    rows = [
        (
            use.label,
            _made(use.record.created),
            use.record.cluster,
            use.objects,
            use.seeds,
            outcome.opened,
            outcome.by or "-",
        )
        for outcome in rehearsal.outcomes
        for use in (outcome.use,)
    ]
    show(("LOCAL KEK", "MADE", "CLUSTER", "OBJECTS", "SEEDS", "OPENED", "BY"), rows)
    for key, reason in rehearsal.failures:
        click.echo(f"FAIL  {printable(key)}: {printable(reason)}")
    for outcome in rehearsal.outcomes:
        if had_keys and outcome.by is None:
            click.echo(f"FAIL  {outcome.use.label}: {printable(outcome.refusal)}")
    if rehearsal.complete and had_keys:
        click.echo("ok    an object of every seed opened: these keys read all that Keystead encrypted here")
    elif not had_keys:
        click.echo("\nNo key was given. Any one line of each local KEK gives what reads its objects.\n")
        show_ways(ways, Path(store.name), written=False)


def show_export(result: Export, directory: Path) -> None:
    """Print how many objects went where."""
    click.echo(f"{result.written} objects written to {directory}")
    for reason, number in sorted(result.kept_as_stored.items()):
        click.echo(f"  {number} of them as they are stored, in files .stored: {printable(reason)}")
    for number, what in (
        (result.not_encrypted, "selected objects are not encrypted in this snapshot: left out"),
        (result.foreign, "selected objects are under keys that are not Keystead's: left out"),
    ):
        if number:
            click.echo(f"{number} {what}")
    for key, reason in result.failures:
        click.echo(f"FAIL  {printable(key)}: {printable(reason)}")
    if result.failed:
        click.echo(f"{result.failed} objects do not open")


def rehearsal_json(rehearsal: Rehearsal, store: SnapshotStore, ways: Ways, *, complete: bool) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "snapshot": store.name,
        "revision": store.revision,
        "warnings": store.warnings,
        "complete": complete,
        "records": [record_json(outcome, several) for outcome, several in ways],
        "failures": [{"key": key, "reason": reason} for key, reason in rehearsal.failures],
    }


def record_json(outcome: Outcome, several: list[ByHand]) -> dict[str, Any]:
    """Return one local KEK with its wraps."""
    use = outcome.use
    return {
        "kekID": use.record.kek_id.hex(),
        "created": use.record.created,
        "cluster": use.record.cluster,
        "keyIDs": use.key_ids,
        "objects": use.objects,
        "seeds": use.seeds,
        "opened": outcome.opened,
        "failed": outcome.failed,
        "by": outcome.by,
        "refusal": outcome.refusal or None,
        "wraps": [
            {
                "scheme": way.wrap.scheme,
                "ref": way.wrap.ref,
                "version": way.wrap.version,
                "role": "recovery" if way.is_recovery else "online",
                "files": [str(path) for path in way.files],
                "result": str(way.result),
                "command": way.command,
                "note": way.note or None,
            }
            for way in several
        ],
    }


def _made(created: int) -> str:
    from keystead.operate.describe import time_text

    return time_text(created)
