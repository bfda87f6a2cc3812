"""Stored objects become manifests; what cannot be decoded whole is kept as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ruamel.yaml import YAML

from keystead._proto.etcd import objects_pb2 as pb
from keystead.operate.objects import Manifest, Stored, decode, to_yaml


def stored(kind: str, message: Any, version: str = "v1", more: bytes = b"", **fields: str) -> bytes:
    meta = pb.TypeMeta(api_version=version, kind=kind)
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    return b"k8s\0" + pb.Unknown(type_meta=meta, raw=raw + more, **fields).SerializeToString()


def manifest(content: bytes) -> dict[str, Any]:
    decoded = decode(content)
    assert isinstance(decoded, Manifest), decoded
    return decoded.tree


def reason(content: bytes) -> str:
    decoded = decode(content)
    assert isinstance(decoded, Stored)
    assert decoded.content == content
    return decoded.reason


def test_a_secret_with_every_field() -> None:
    meta = pb.ObjectMeta(
        name="s",
        namespace="default",
        uid="u",
        generation=2,
        creation_timestamp=pb.Time(seconds=1_790_000_000),
        deletion_timestamp=pb.Time(seconds=1_790_000_001),
        deletion_grace_period_seconds=0,
        labels={"b": "2", "a": "1"},
        annotations={"note": "yes"},
        owner_references=[pb.OwnerReference(kind="K", name="o", uid="v", api_version="v1", controller=False)],
        finalizers=["f"],
        managed_fields=[b"anything"],
    )
    secret = pb.Secret(metadata=meta, data={"z": b"\xff\0", "a": b""}, type="Opaque", immutable=False)
    assert manifest(stored("Secret", secret)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "s",
            "namespace": "default",
            "uid": "u",
            "generation": 2,
            "creationTimestamp": "2026-09-21T14:13:20Z",
            "deletionTimestamp": "2026-09-21T14:13:21Z",
            "deletionGracePeriodSeconds": 0,
            "labels": {"a": "1", "b": "2"},
            "annotations": {"note": "yes"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "v", "controller": False}],
            "finalizers": ["f"],
        },
        "type": "Opaque",
        "immutable": False,
        "data": {"a": "", "z": "/wA="},
    }


def test_a_config_map_with_text_and_bytes() -> None:
    config_map = pb.ConfigMap(
        metadata=pb.ObjectMeta(name="c", deletion_timestamp=pb.Time()), data={"t": "ü"}, binary_data={"b": b"\0"}
    )
    tree = manifest(stored("ConfigMap", config_map))
    assert tree["data"] == {"t": "ü"}
    assert tree["binaryData"] == {"b": "AA=="}
    assert tree["metadata"] == {"name": "c"}


def test_a_custom_resource_is_stored_as_json() -> None:
    panda = {"apiVersion": "awesome.bears.example/v1", "kind": "Panda", "spec": {"big": 9007199254740993}}
    assert manifest(json.dumps(panda).encode()) == panda


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (stored("Deployment", b"anything", "apps/v1"), "protobuf of apps/v1 Deployment"),
        (stored("Secret", pb.Secret(), more=b"\x48\x01"), "wrote field 9 of Secret"),
        (
            stored("Secret", pb.Secret(metadata=pb.ObjectMeta(name="x")), more=b"\x0a\x03\x98\x06\x01"),
            "wrote field 99 of ObjectMeta",
        ),
        (stored("Secret", b"\xff\xff"), "cannot be decoded"),
        (stored("Secret", pb.Secret(), content_encoding="gzip"), "in an unknown encoding"),
        (stored("ConfigMap", b"\x12\x08\x0a\x01a\x12\x03\xff\xff\xff"), "cannot be decoded"),
        (
            stored("Secret", pb.Secret(metadata=pb.ObjectMeta(creation_timestamp=pb.Time(seconds=2**62)))),
            "cannot be decoded",
        ),
        (b"k8s\0\xff", "cannot be decoded"),
        (b"{", "JSON that cannot be decoded"),
        (b"{" + b'"a":{' * 100_000, "JSON that cannot be decoded"),
        (b'{"a":"\\ud800"}', "JSON that cannot be decoded"),
        (b"", "neither JSON nor protobuf"),
        (b"\x00\x01", "neither JSON nor protobuf"),
    ],
    ids=range(13),
)
def test_what_cannot_be_decoded_whole_is_kept_as_it_is_stored(content: bytes, text: str) -> None:
    assert text in reason(content)


def test_yaml_is_read_back_alike_by_both_versions_of_it() -> None:
    doubtful = [
        "yes", "No", "on", "off", "true", "NULL", "~", "", " ", "1", "1.0", "0x1f", "0600", "1e3", "1_000", "12:30",
        "-", "2026-01-01", "a: b", "a #b", "- a", "{}", "[a]", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "'", '"',
        "\\", "line\nline\n", "\ttab", "\u2028", "\x07", "é", "😀", "=", "<<", ".inf", "y", "plain", "a.b/c-d_e",
        "x" * 300,
    ]  # fmt: skip
    tree: dict[str, Any] = {"values": doubtful, **{text: index for index, text in enumerate(doubtful)}, "none": None}
    text = to_yaml(tree)
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(text) == tree, version
    assert "plain\n" in text
    assert '"yes"' in text
