"""`keystead self-test`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from keystead.cli.terminal import printable

CHECK_FAILED = 1
COULD_NOT_FIND_OUT = 3


@click.command("self-test")
@click.option("--endpoint", required=True, help="The plugin's socket as in an EncryptionConfiguration: unix:///path.")
@click.option("--api", type=click.Choice(["v2", "v1beta1"]), default="v2", show_default=True, help="KMS API to call.")
@click.option("--timeout", type=float, default=3.0, show_default=True, help="Seconds per call, as the API server's.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def self_test(*, endpoint: str, api: str, timeout: float, output: str) -> None:
    """Call a plugin as kube-apiserver does, and explain what came back.

    Works with any KMS plugin. What it encrypts is random and thrown away.
    """
    from keystead.operate.self_test import CallFailed, SelfTest, Step, Unreachable

    try:
        test = SelfTest(endpoint, timeout)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--endpoint") from None
    steps: list[Step] = []
    failure: tuple[int, str] | None = None
    try:
        for step in test.run_v2() if api == "v2" else test.run_v1():
            steps.append(step)
            if output == "text":
                mark = "ok  " if step.ok else "FAIL"
                click.echo(f"{mark}  {step.name:12}{step.seconds * 1000:8.1f} ms  {printable(step.seen)}")
    except Unreachable as exc:
        failure = COULD_NOT_FIND_OUT, str(exc)
    except CallFailed as exc:
        failure = CHECK_FAILED, str(exc)
    finally:
        test.close()
    ok = failure is None and all(step.ok for step in steps)
    if output == "json":
        error = failure[1] if failure else None
        click.echo(json.dumps({"ok": ok, "error": error, "steps": [asdict(step) for step in steps]}))
    else:
        if test.sealed is not None and ok:
            _explain(test.sealed.annotations.get("kek.keystead.dev"), test.sealed.key_id)
        if failure is not None:
            click.echo(f"FAIL  {printable(failure[1])}")
    sys.exit(0 if ok else failure[0] if failure else CHECK_FAILED)


def _explain(record: bytes | None, key_id: str) -> None:
    from keystead.operate.describe import describe_record

    if record is None:
        return
    click.echo("\nWhat the API server will store beside each object, in clear:")
    for label, text in describe_record(record, key_id):
        click.echo(f"  {label:14}{printable(text)}")
