"""`keystead doctor`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from keystead.cli.serve import DEFAULT_CONFIG
from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.operate.doctor.book import Finding
    from keystead.operate.doctor.rounds import Helpers, Result

CHECK_FAILED = 1
COULD_NOT_FIND_OUT = 3
APISERVER = Path("/etc/kubernetes/manifests/kube-apiserver.yaml")
WORDS = {"fail": "FAIL", "warn": "WARN", "unknown": "????"}


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    help=f"Configuration file.  [default: KEYSTEAD_CONFIG_INLINE, or else {DEFAULT_CONFIG}]",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["static-pod", "systemd", "sidecar", "daemonset"]),
    help="How the plugin is run; its manifest or unit is then looked at too.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="The plugin's manifest or unit.  [default: where a static pod or a unit of systemd usually is]",
)
@click.option(
    "--encryption-config",
    "encryption",
    type=click.Path(path_type=Path),
    help="kube-apiserver's EncryptionConfiguration.",
)
@click.option(
    "--apiserver-manifest",
    "apiserver",
    type=click.Path(path_type=Path),
    help=f"kube-apiserver's manifest.  [default: {APISERVER}, if it is there]",
)
@click.option("--kubernetes", help="Version of the API server, as 1.36, where no manifest tells it.")
@click.option("--wait", metavar="DURATION", help="Look again until all is well, for so long at most: 2m.")
@click.option("-v", "--verbose", is_flag=True, help="Show also what is well.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def doctor(
    *,
    config_path: Path | None,
    form: Literal["static-pod", "systemd", "sidecar", "daemonset"] | None,
    manifest: Path | None,
    encryption: Path | None,
    apiserver: Path | None,
    kubernetes: str | None,
    wait: str | None,
    verbose: bool,
    output: str,
) -> None:
    """Look over this node: what would hurt the cluster, why, and what to do about it.

    Run it as the plugin's user, before kube-apiserver depends on the plugin and whenever something changes. It wraps
    and unwraps a random value with each remote key, and changes nothing. Exit codes: 0 nothing fails, 1 something
    does, 3 something could not be found out.
    """
    from keystead.config.values import parse_duration
    from keystead.operate.doctor.apiserver import minor_version
    from keystead.operate.doctor.rounds import Node, until_well

    try:
        seconds = parse_duration(wait) if wait is not None else 0.0
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--wait") from None
    if kubernetes is not None and minor_version(kubernetes) is None:
        raise click.BadParameter("should be a version such as 1.36", param_hint="--kubernetes")
    if manifest is not None and form is None:
        raise click.UsageError("--manifest needs --as, which says what it is")
    inline = os.environ.get("KEYSTEAD_CONFIG_INLINE") if config_path is None else None
    node = Node(
        config_file=None if inline is not None else config_path or DEFAULT_CONFIG,
        config_text=inline,
        form=form,
        manifest=manifest,
        encryption=encryption,
        apiserver=apiserver or (APISERVER if APISERVER.exists() else None),
        kubernetes=kubernetes,
    )
    result = until_well(node, helpers(), seconds)
    code = CHECK_FAILED if result.of("fail") else COULD_NOT_FIND_OUT if result.of("unknown") else 0
    if output == "json":
        _show_json(result, code)
    else:
        _show(result, code, verbose=verbose)
    sys.exit(code)


def helpers() -> Helpers:
    """What the checks take from the rest of the program: the sockets' rules are those of `serve`."""
    from keystead.operate.doctor.rounds import Helpers
    from keystead.registry import provider_class
    from keystead.server import sockets

    def directory_refused(path: Path) -> str | None:
        try:
            return sockets.check_parent(path)
        except sockets.SocketRefused as exc:
            return str(exc)

    def path_refused(path: Path) -> str | None:
        try:
            # What listens there may be the plugin itself: its own check looks at that.
            sockets.check_path(path, take_over=True)
        except sockets.SocketRefused as exc:
            return str(exc)
        return None

    return Helpers(provider_class, directory_refused, path_refused)


def _show(result: Result, code: int, *, verbose: bool) -> None:
    if verbose:
        for check in result.passed:
            click.echo(f"ok    {check.id}  {check.title}")
    for text in lines(result.findings):
        click.echo(text)
    counts = "  ".join(f"{word} {len(result.of(word))}" for word in ("warn", "fail", "unknown"))
    click.echo(f"ok {len(result.passed)}  {counts}  (exit {code})")


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings for people: what belongs to one check together, and explained once."""
    for number, finding in enumerate(findings):
        check = finding.check
        yield f"{WORDS[finding.level]}  {check.id}  {printable(finding.subject)}: {printable(finding.got)}"
        if number + 1 < len(findings) and findings[number + 1].check is check:
            continue
        yield f"      expected  {check.title[0].lower()}{check.title[1:]}: {check.expected}"
        yield f"      why       {check.why}"
        yield f"      fix       {check.fix}"
        yield f"      see       {check.link}"


def _show_json(result: Result, code: int) -> None:
    findings = [
        {
            "id": one.check.id,
            "level": one.level,
            "subject": one.subject,
            "title": one.check.title,
            "expected": one.check.expected,
            "got": one.got,
            "why": one.check.why,
            "fix": one.check.fix,
            "docs": one.check.link,
        }
        for one in result.findings
    ]
    passed = [check.id for check in result.passed]
    click.echo(json.dumps({"ok": code == 0, "exitCode": code, "findings": findings, "passed": passed}))
