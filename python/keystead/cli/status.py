"""`keystead status`: one plugin, or all of a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from keystead.cli.fleet import COULD_NOT_FIND_OUT, FAULTY, compare
from keystead.cli.serve import DEFAULT_CONFIG
from keystead.cli.tables import ago, span, table
from keystead.cli.terminal import printable

Document = Mapping[str, Any]


@click.command()
@click.option("--admin", help="The plugin's admin socket: unix:///run/keystead/admin.sock.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    help=f"Configuration file that names the socket.  [default: {DEFAULT_CONFIG}]",
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="FILE|URL",
    help="Compare nodes: a saved `status -o json`, or http://node:9853/metrics, of each.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
@click.argument("more", nargs=-1, metavar="[FILE|URL]...")
def status(
    *, admin: str | None, config_path: Path | None, sources: tuple[str, ...], output: str, more: tuple[str, ...]
) -> None:
    """Show a running plugin: endpoints, keys, and the local KEK in use; or whether several nodes agree.

    Exit codes: 0 all is well, or all agree; 1 it is not, or they differ; 3 could not find out.
    """
    from keystead.operate.admin import CannotTell

    if more and not sources:
        raise click.UsageError("compare nodes with --from FILE|URL...")
    if sources:
        if admin is not None:
            raise click.UsageError("--admin is for one plugin, --from for several")
        sys.exit(compare((*sources, *more), output))
    try:
        document = _ask(admin, config_path)
    except CannotTell as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(COULD_NOT_FIND_OUT)
    sys.exit(_show(document, output))


def _ask(admin: str | None, config_path: Path | None) -> dict[str, Any]:
    from keystead.config.values import parse_admin
    from keystead.operate.admin import ask
    from keystead.operate.condition import admin_socket

    if admin is None:
        return ask(admin_socket(config_path or DEFAULT_CONFIG))
    try:
        socket = parse_admin(admin)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--admin") from None
    if socket is None or socket.path is None:
        raise click.BadParameter("is empty", param_hint="--admin")
    return ask(socket.path)


def _show(document: Document, output: str) -> int:
    from keystead.operate.condition import notes, problems

    found = list(problems(document))
    if output == "json":
        click.echo(json.dumps(document, indent=2))
        return FAULTY if found else 0
    for line in _lines(document):
        click.echo(line)
    for note in notes(document):
        click.echo(f"note  {printable(note)}")
    for problem in found:
        click.echo(f"FAIL  {printable(problem)}")
    click.echo("all is well" if not found else f"{len(found)} to look at")
    return FAULTY if found else 0


def _lines(status: Document) -> Iterator[str]:
    now, configuration = status["time"], status["configuration"]
    yield printable(
        f"{status['node']}: keystead {status['version']}, cluster {status['cluster'] or '(none)'}, "
        f"process {status['pid']} up {ago(status['startedAt'], now)}"
    )
    loaded = datetime.fromtimestamp(configuration["loadedAt"], UTC).isoformat(timespec="seconds")
    yield printable(f"configuration {configuration['source']}, in use since {loaded}")
    endpoints = status["endpoints"]
    yield ""
    yield from table(
        ("ENDPOINT", "STATE", "SINCE", "HEALTHZ", "EPOCH", "KEY_ID", "KEKS", "WAITING", "SOCKET"),
        [
            (
                one["name"], one["state"], ago(one["since"], now), one["healthz"], str(one["epoch"]), one["keyID"],
                str(one["keks"]), str(one["waiting"]), one["socket"],
            )
            for one in endpoints
        ],
    )  # fmt: skip
    yield ""
    yield from table(
        (
            "KEY",
            "ENDPOINT",
            "PROVIDER",
            "STAGE",
            "UP",
            "SINCE",
            "PROVEN",
            "SOAK",
            "VERSION",
            "LAST SUCCESS",
            "CREDENTIAL",
        ),
        [_key_row(one["name"], key, now) for one in endpoints for key in one["keys"]],
    )
    records = [(one["name"], one["record"]) for one in endpoints if one["record"] is not None]
    if records:
        yield ""
        yield from table(
            ("LOCAL KEK", "ENDPOINT", "AGE", "USES", "ON DISK", "WRAPPED UNDER"),
            [
                (
                    record["kekID"][:16], name, ago(record["created"], now), str(record["uses"]),
                    {True: "yes", False: "NO", None: "-"}[record["persisted"]],
                    ", ".join(_wrap(wrap) for wrap in record["wraps"]),
                )
                for name, record in records
            ],
        )  # fmt: skip
    yield ""


def _key_row(endpoint: str, key: Document, now: float) -> tuple[str, ...]:
    recovery = key["role"] == "recovery"
    version, observed = key["version"], key["observedVersion"]
    shown = version if version is not None else observed
    return (
        key["name"],
        endpoint,
        key["provider"],
        f"{key['stage']}, recovery" if recovery else key["stage"],
        "-" if recovery else "yes" if key["up"] else "NO",
        ago(key["since"], now),
        "-" if recovery else ago(key["provenAt"], now) if key["up"] else "NO",
        span(key["soakLeft"]) if key["soakLeft"] > 0 else "-",
        f"{version} (now {observed})" if version and observed and observed != version else shown or "-",
        ago(key["lastSuccess"], now),
        "-" if key["credentialExpiry"] is None else f"ends in {span(key['credentialExpiry'] - now)}",
    )


def _wrap(wrap: Document) -> str:
    version = f" version {wrap['version']}" if wrap["version"] else ""
    return f"{wrap['scheme']} {wrap['ref']}{version}" + (" (recovery)" if wrap["role"] == "recovery" else "")
