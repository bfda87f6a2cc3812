"""`keystead conformance`: try any KMS plugin over its socket."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.testing.rules import Outcome

BROKEN = 1
COULD_NOT_FIND_OUT = 3


@click.command()
@click.option("--endpoint", required=True, help="The plugin's socket as in an EncryptionConfiguration: unix:///path.")
@click.option(
    "--api",
    "apis",
    multiple=True,
    type=click.Choice(["v2", "v1beta1"]),
    default=["v2"],
    show_default=True,
    help="KMS API to try; may be given twice.",
)
@click.option("--timeout", type=float, default=3.0, show_default=True, help="Seconds per call, as the API server's.")
@click.option("--restart-cmd", default="", help="Command that restarts the plugin, for the rules about that.")
@click.option("--rotate-cmd", default="", help="Command that rotates the remote key, or has the plugin take a new one.")
@click.option("--rotate-wait", type=float, default=180.0, show_default=True, help="Seconds that a rotation may take.")
@click.option("--peer", default="", help="Socket of another node's plugin, or of a second process with the same keys.")
@click.option("--rule", "rule_ids", multiple=True, metavar="ID", help="Try this rule only; may be given several times.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "junit"]), default="text", help="Form of the answer."
)
def conformance(
    *,
    endpoint: str,
    apis: tuple[str, ...],
    timeout: float,
    restart_cmd: str,
    rotate_cmd: str,
    rotate_wait: float,
    peer: str,
    rule_ids: tuple[str, ...],
    output: str,
) -> None:
    """Try a KMS plugin of any make by the rules of kube-apiserver, with good clients and hostile ones.

    It encrypts random seeds, damages what came back, and sends what no good client sends: point it at a plugin under
    test and not at one that serves a cluster. Exit codes: 0 no rule is broken, 1 one is, 3 nobody answers.
    """
    from keystead.operate.self_test import grpc_address
    from keystead.testing import plugin_report
    from keystead.testing.plugin_rules import BOOK, PluginCase
    from keystead.testing.rules import Verdict, judge

    for name, value in (("--endpoint", endpoint), ("--peer", peer)):
        try:
            grpc_address(value or endpoint)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint=name) from None
    wanted = {one.upper() for one in rule_ids}
    if unknown := wanted - {rule.id for rule in BOOK.rules}:
        raise click.BadParameter(f"no rule {', '.join(sorted(unknown))}", param_hint="--rule")
    case = PluginCase(endpoint, tuple(dict.fromkeys(apis)), timeout, restart_cmd, rotate_cmd, rotate_wait, peer)
    first = case.probe()
    if first.refused and first.code.name in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
        click.echo(f"keystead: nobody answers at {endpoint}: {printable(str(first))}", err=True)
        sys.exit(COULD_NOT_FIND_OUT)
    outcomes: list[Outcome] = []
    for rule in BOOK.rules:
        if wanted and rule.id not in wanted:
            continue
        outcomes.append(outcome := judge(rule, case))
        if output == "text":
            click.echo(printable(plugin_report.line(outcome)))
            if outcome.verdict is Verdict.BROKEN:
                for line in plugin_report.explanation(outcome, endpoint, case.apis).splitlines():
                    click.echo(printable(line))
    if output == "json":
        click.echo(json.dumps(plugin_report.as_json(endpoint, case.apis, outcomes)))
    elif output == "junit":
        click.echo(plugin_report.as_junit(endpoint, case.apis, outcomes))
    else:
        click.echo(plugin_report.summary(outcomes))
    sys.exit(BROKEN if any(one.verdict is Verdict.BROKEN for one in outcomes) else 0)
