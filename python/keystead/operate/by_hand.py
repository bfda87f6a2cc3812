"""The command of each KMS's own tool that turns a wrap into the 32 bytes of the local KEK, without Keystead.

What is in a record comes from etcd, where others may write, so all of it is quoted for the shell.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keystead._core import ROLE_RECOVERY, Record, Wrap
from keystead.provider import WrapContext

_CRYPTO_KEY = re.compile(r"projects/([^/]+)/locations/([^/]+)/keyRings/([^/]+)/cryptoKeys/([^/]+)")
_MULTI_REGION_KEY = re.compile(r"arn:[^:]+:kms::\d+:key/(mrk-[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class ByHand:
    """One wrap, the files that its command reads, and the command."""

    wrap: Wrap
    files: dict[Path, bytes]
    result: Path
    """Where the command puts the 32 bytes."""
    command: str | None
    """The line for a shell; `None` if only the provider itself can do it."""
    note: str
    """What has to be known beside it; may be empty."""

    @property
    def is_recovery(self) -> bool:
        """Whether the wrap is for a key that no plugin uses."""
        return self.wrap.role == ROLE_RECOVERY


def by_hand(record: Record, label: str, directory: Path, region: str | None = None) -> list[ByHand]:
    """Return what can be done for each wrap of a record, with files in `directory`.

    `region` is where a multi-Region key of AWS is asked, since its ref names no region.
    """
    result = directory / f"{label}.kek"
    ways = []
    for number, wrap in enumerate(record.wraps):
        others = [other.scheme for other in record.wraps[:number]].count(wrap.scheme)
        stem = f"{label}.{wrap.scheme}" + (f".{others + 1}" if others else "")
        blob, context = directory / f"{stem}.blob", directory / f"{stem}.aad"
        make = _COMMANDS.get(wrap.scheme, _unknown)
        made = make(_Task(wrap, WrapContext(record.kek_id, record.cluster), blob, context, result, region))
        files = {blob: wrap.blob}
        if made.needs_context:
            files[context] = record.remote_aad
        ways.append(ByHand(wrap, files, result, made.command, made.note))
    return ways


@dataclass(frozen=True, slots=True)
class _Task:
    wrap: Wrap
    context: WrapContext
    blob: Path
    aad: Path
    result: Path
    region: str | None


@dataclass(frozen=True, slots=True)
class _Made:
    command: str | None
    note: str = ""
    needs_context: bool = False


def _aws(task: _Task) -> _Made:
    region = task.region
    note = ""
    if match := _MULTI_REGION_KEY.fullmatch(task.wrap.ref):
        # The service wants an ARN of its own region, or the bare id.
        key, region = match[1], region or "REGION"
        note = "a multi-Region key: put a region where it has a replica" if region == "REGION" else ""
    else:
        key = task.wrap.ref
        parts = key.split(":")
        region = region or (parts[3] if len(parts) > 4 else None) or "REGION"
    command = _shell(
        "aws", "kms", "decrypt", "--region", region, "--key-id", key,
        "--ciphertext-blob", f"fileb://{task.blob}",
        "--encryption-context", json.dumps(task.context.mapping, separators=(",", ":")),
        "--query", "Plaintext", "--output", "text",
    )  # fmt: skip
    return _Made(f"{command} | base64 -d > {_shell(str(task.result))}", note)


def _gcp(task: _Task) -> _Made:
    match = _CRYPTO_KEY.fullmatch(task.wrap.ref)
    if match is None:
        return _unknown(task)
    project, location, ring, key = match.groups()
    command = _shell(
        "gcloud", "kms", "decrypt", f"--project={project}", f"--location={location}", f"--keyring={ring}",
        f"--key={key}", f"--ciphertext-file={task.blob}", f"--additional-authenticated-data-file={task.aad}",
        f"--plaintext-file={task.result}",
    )  # fmt: skip
    return _Made(command, needs_context=True)


def _vault(task: _Task) -> _Made:
    *front, mount, key = task.wrap.ref.split("/") if "/" in task.wrap.ref else ("", task.wrap.ref)
    path = f"{mount}/decrypt/{key}"
    namespace = [f"-namespace={'/'.join(front)}"] if front and front != [""] else []
    note = (
        f"the ref {task.wrap.ref} is [lineage/][namespace/]mount/key: a lineage is no part of the namespace, and a "
        "mount may have slashes"
        if namespace
        else ""
    )
    command = _shell(
        "bao", "write", *namespace, "-field=plaintext", path, f"ciphertext=@{task.blob}",
        f"associated_data={base64.b64encode(task.context.aad).decode()}",
    )  # fmt: skip
    return _Made(f"{command} | base64 -d > {_shell(str(task.result))}", note)


def _age(task: _Task) -> _Made:
    command = _shell("age", "-d", "-i", "IDENTITY", "-o", str(task.result), str(task.blob))
    return _Made(command, "IDENTITY is the file with the private key")


def _local(task: _Task) -> _Made:
    return _Made(None, f"give --provider local --set name={shlex.quote(task.wrap.ref)} --set keyFile=FILE")


def _unknown(task: _Task) -> _Made:
    return _Made(
        None,
        f"give --provider {shlex.quote(task.wrap.scheme)} with the fields of its key, or have the KMS unwrap the blob "
        "with the additional data beside it",
        needs_context=True,
    )


_COMMANDS: dict[str, Callable[[_Task], _Made]] = {
    "age-x25519": _age,
    "aws-kms": _aws,
    "gcp-kms": _gcp,
    "local": _local,
    "vault-transit": _vault,
}


def _shell(*words: str) -> str:
    return shlex.join(words)
