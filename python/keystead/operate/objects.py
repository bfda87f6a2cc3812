"""Objects as kube-apiserver stores them, turned into what `kubectl apply` takes.

Custom resources are stored as JSON. Built-in ones are protobuf: Secrets and ConfigMaps are decoded here, and of all
others the stored bytes are kept as they are, for what would decode them belongs to Kubernetes and changes with it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from keystead._proto.etcd import objects_pb2 as pb

_MAGIC = b"k8s\0"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false", "null", "nan", "inf"})
"""What one version of YAML or the other does not take for text."""

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object that `kubectl apply` takes."""

    tree: Tree


@dataclass(frozen=True, slots=True)
class Stored:
    """The bytes that an API server reads from etcd, for an object that is not decoded here."""

    content: bytes
    reason: str


def decode(content: bytes) -> Manifest | Stored:
    """Decode a decrypted object."""
    if content.startswith(b"{"):
        return _from_json(content)
    if not content.startswith(_MAGIC):
        return Stored(content, "it is neither JSON nor protobuf of Kubernetes")
    try:
        unknown = pb.Unknown.FromString(content[len(_MAGIC) :])
        kind = (unknown.type_meta.api_version, unknown.type_meta.kind)
        build = _KINDS.get(kind)
        if build is None:
            return Stored(content, f"protobuf of {kind[0]} {kind[1]}, which only Kubernetes decodes")
        if unknown.content_encoding or unknown.content_type:
            return Stored(content, f"a {kind[1]} in an unknown encoding")
        return Manifest({"apiVersion": kind[0], "kind": kind[1], **build(unknown.raw)})
    except (DecodeError, UnicodeDecodeError, _NewerError, OSError, OverflowError, ValueError) as exc:
        return Stored(content, f"protobuf that cannot be decoded here: {exc}")


def to_yaml(tree: Tree) -> str:
    """Write YAML that every parser reads alike, whichever version of it that follows: doubtful text is quoted."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.width = 1 << 20
    out = StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_text(self, text: str) -> ScalarNode:
        plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')
        return node


_Representer.add_representer(str, _Representer.represent_text)


def _from_json(content: bytes) -> Manifest | Stored:
    try:
        tree = json.loads(content)
        json.dumps(tree, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as exc:
        return Stored(content, f"JSON that cannot be decoded: {type(exc).__name__}")
    return Manifest(tree)


class _NewerError(Exception):
    """The message has a field that is not known here, which must not get lost."""


def _secret(raw: bytes) -> Tree:
    secret = _parsed(pb.Secret, raw)
    return _without_empty(
        {
            "metadata": _metadata(secret.metadata),
            "type": secret.type,
            "immutable": secret.immutable if secret.HasField("immutable") else None,
            "data": _encoded(secret.data),
            "stringData": dict(secret.string_data),
        }
    )


def _config_map(raw: bytes) -> Tree:
    config_map = _parsed(pb.ConfigMap, raw)
    return _without_empty(
        {
            "metadata": _metadata(config_map.metadata),
            "immutable": config_map.immutable if config_map.HasField("immutable") else None,
            "data": dict(sorted(config_map.data.items())),
            "binaryData": _encoded(config_map.binary_data),
        }
    )


_KINDS: dict[tuple[str, str], Callable[[bytes], Tree]] = {
    ("v1", "Secret"): _secret,
    ("v1", "ConfigMap"): _config_map,
}


def _metadata(meta: pb.ObjectMeta) -> Tree:
    _check_known(meta)
    owners = []
    for owner in meta.owner_references:
        _check_known(owner)
        owners.append(
            _without_empty(
                {
                    "apiVersion": owner.api_version,
                    "kind": owner.kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": owner.controller if owner.HasField("controller") else None,
                    "blockOwnerDeletion": (
                        owner.block_owner_deletion if owner.HasField("block_owner_deletion") else None
                    ),
                }
            )
        )
    return _without_empty(
        {
            "name": meta.name,
            "generateName": meta.generate_name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "generation": meta.generation or None,
            "creationTimestamp": _time(meta, "creation_timestamp"),
            "deletionTimestamp": _time(meta, "deletion_timestamp"),
            "deletionGracePeriodSeconds": (
                meta.deletion_grace_period_seconds if meta.HasField("deletion_grace_period_seconds") else None
            ),
            "labels": dict(sorted(meta.labels.items())),
            "annotations": dict(sorted(meta.annotations.items())),
            "ownerReferences": owners,
            "finalizers": list(meta.finalizers),
        }
    )


def _time(meta: pb.ObjectMeta, field: str) -> str | None:
    time: pb.Time = getattr(meta, field)
    # Kubernetes stores a time that is not set as an empty message.
    if not meta.HasField(field) or not time.seconds:
        return None
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parsed(message: Any, raw: bytes) -> Any:
    parsed = message.FromString(raw)
    _check_known(parsed)
    return parsed


def _check_known(message: Message) -> None:
    unknown = sorted({field.field_number for field in UnknownFieldSet(message)})  # type: ignore[attr-defined]  # its stub lacks iteration
    if unknown:
        numbers = ", ".join(map(str, unknown))
        raise _NewerError(f"a newer Kubernetes wrote field {numbers} of {message.DESCRIPTOR.name}")


def _encoded(content: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in sorted(content.items())}


def _without_empty(tree: Tree) -> Tree:
    return {name: value for name, value in tree.items() if value is not None and value not in ("", {}, [])}
