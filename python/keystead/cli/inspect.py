"""`keystead inspect`."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from typing import BinaryIO

import click

from keystead.cli.terminal import printable

MAX_INPUT = 4 * 1024 * 1024


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def inspect(*, file: BinaryIO, output: str) -> None:
    """Say in words what a ciphertext, record, state file or value from etcd is.

    Reads FILE, or standard input: raw bytes, base64 or hexadecimal. Needs no key and shows no secret.
    """
    from keystead.errors import MalformedRequest
    from keystead.operate.describe import describe

    data = file.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise click.UsageError(f"more than {MAX_INPUT} bytes is nothing that Keystead writes")
    decoded = _decode(data)
    try:
        try:
            description = describe(decoded)
        except MalformedRequest:
            # etcdctl --print-value-only adds a line feed to the value.
            if not decoded.endswith(b"\n"):
                raise
            description = describe(decoded[:-1])
    except MalformedRequest as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(1)
    if output == "json":
        facts = [{"label": label, "value": text} for label, text in description.facts]
        click.echo(json.dumps({"kind": description.kind, "facts": facts}))
        return
    click.echo(description.kind)
    for label, text in description.facts:
        click.echo(f"  {label:14}{printable(text)}")


def _decode(data: bytes) -> bytes:
    """Undo hexadecimal or base64 if the input is text of that form; raw bytes are taken as they are."""
    text = b"".join(data.split())
    for undo in (binascii.unhexlify, lambda encoded: base64.b64decode(encoded, validate=True)):
        try:
            return undo(text)
        except (binascii.Error, ValueError):
            continue
    return data
