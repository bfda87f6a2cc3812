"""The comparison of several nodes, as text and JSON: for `keystead status --from` and `keystead rotate verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from keystead.cli.tables import span, table
from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.operate.fleet import Verdict
    from keystead.operate.nodes import Key

FAULTY = 1
COULD_NOT_FIND_OUT = 3


def compare(sources: Sequence[str], output: str, *, rotated: bool = False, epoch: int | None = None) -> int:
    """Say whether the nodes agree, and with `rotated` whether a rotation is complete too; return the exit code."""
    from keystead.operate.fleet import judge
    from keystead.operate.sources import load_all

    nodes, unknown = load_all(sources)
    verdict = judge(nodes, unknown, rotated=rotated, epoch=epoch)
    if output == "json":
        click.echo(json.dumps(_as_json(verdict), indent=2))
    else:
        click.echo("\n".join(_fleet_lines(verdict, rotated)))
    return 0 if verdict.agree else FAULTY if verdict.differences else COULD_NOT_FIND_OUT


def _fleet_lines(verdict: Verdict, rotated: bool) -> Iterator[str]:
    nodes = verdict.nodes
    yield from table(
        ("NODE", "KEYSTEAD", "CLUSTER", "ENDPOINT", "EPOCH", "KEY_ID", "HEALTHZ"),
        [
            (
                node.name,
                node.version,
                node.cluster,
                one.name,
                str(one.configured_epoch),
                one.key_id or one.key_id_hash,
                one.healthz,
            )
            for node in nodes
            for one in node.endpoints.values()
        ],
    )
    yield ""
    names = dict.fromkeys((one.name, key) for node in nodes for one in node.endpoints.values() for key in one.keys)
    rows = []
    for endpoint, name in names:
        found = [node.endpoints[endpoint].keys.get(name) if endpoint in node.endpoints else None for node in nodes]
        rows.append((f"{endpoint}/{name}", *(_cell(key) for key in found)))
    yield from table(("MEMBER", *(printable(node.name) for node in nodes)), rows)
    yield ""
    for note in verdict.notes:
        yield f"note    {printable(note)}"
    for unknown in verdict.unknown:
        yield f"UNKNOWN {printable(unknown)}"
    for one in verdict.differences:
        yield f"{'DANGER ' if one.danger else 'DIFFERS'} {printable(f'{one.where}: {one.what}')}"
        yield f"        do: {printable(one.todo)}"
    yield _last_line(verdict, rotated)


def _cell(key: Key | None) -> str:
    if key is None:
        return "MISSING"
    if key.role == "recovery":
        return f"{key.stage}, recovery"
    soak = f", soak {span(key.soak_left)}" if key.soak_left > 0 else ""
    return f"{key.stage}, {'proven' if key.proven else 'NOT PROVEN'}{soak}"


def _last_line(verdict: Verdict, rotated: bool) -> str:
    nodes, differences = len(verdict.nodes), len(verdict.differences)
    if verdict.differences:
        counted = f"{differences} difference{'' if differences == 1 else 's'}"
        return f"the rotation is not complete: {counted}" if rotated else f"the nodes do not agree: {counted}"
    if not verdict.agree:
        return "could not find out whether " + ("the rotation is complete" if rotated else "the nodes agree")
    if nodes == 1:
        return "one node only, and nothing is wrong there: give one status of each"
    return f"the rotation is complete on all {nodes} nodes" if rotated else f"all {nodes} nodes agree"


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "agree": verdict.agree,
        "nodes": [
            {
                "name": node.name,
                "version": node.version,
                "cluster": node.cluster,
                "ageSeconds": round(node.age, 1),
                "endpoints": [
                    {
                        "name": one.name,
                        "epoch": one.configured_epoch,
                        "keyID": one.key_id or None,
                        "keyIDHash": one.key_id_hash,
                        "healthz": one.healthz,
                        "keys": [
                            {"name": key.name, "stage": key.stage, "role": key.role, "proven": key.proven}
                            for key in one.keys.values()
                        ],
                    }
                    for one in node.endpoints.values()
                ],
            }
            for node in verdict.nodes
        ],
        "differences": [
            {"where": one.where, "what": one.what, "todo": one.todo, "danger": one.danger}
            for one in verdict.differences
        ],
        "unknown": list(verdict.unknown),
        "notes": list(verdict.notes),
    }
