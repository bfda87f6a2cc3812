"""The status document: its form, which other releases read, and that reading it gives back what was written."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

from keystead.operate import admin
from keystead.operate.nodes import of_document
from keystead.server import status
from support.nodes import STANDING, THEN, document, endpoint, key


def test_the_document_has_a_version_and_names_as_the_configuration_spells_them() -> None:
    made = document(endpoint(key("a"), key("b", "decrypt", credential_expiry=THEN + 60)))
    assert (made["apiVersion"], made["kind"]) == ("status.keystead.dev/v1alpha1", "Status")
    assert made["startedAt"] == THEN - 4000
    assert made["configuration"] == {
        "source": "/etc/keystead/config.yaml",
        "digest": "ab" * 32,
        "loadedAt": THEN - 3600,
        "problems": [],
        "refusedAt": None,
        "retrying": False,
    }
    (main,) = made["endpoints"]
    assert main["socket"] == "unix:///run/keystead/main.sock"
    assert main["keyID"].startswith("ks1.e1.")
    assert main["record"]["kekID"] == "5c" * 32
    assert main["record"]["wraps"] == [{"scheme": "local", "ref": "a", "version": "1", "role": "online"}]
    assert main["keys"][1]["credentialExpiry"] == THEN + 60
    assert {"lastSuccess", "provenAt", "soakLeft", "observedVersion"} <= main["keys"][0].keys()


def test_every_fact_of_a_report_is_in_the_document() -> None:
    report = endpoint(key("a"))
    (main,) = document(report)["endpoints"]
    assert {status.camel(name) for name in asdict(report)} <= main.keys()
    assert {status.camel(name) for name in asdict(report.keys[0])} == main["keys"][0].keys()


def test_a_refused_file_is_in_the_document() -> None:
    standing = replace(STANDING, problems=("a", "b"), refused_at=datetime.fromtimestamp(THEN, UTC), retrying=True)
    made = document(endpoint(key("a")), standing=standing)
    assert made["configuration"]["problems"] == ["a", "b"]
    assert (made["configuration"]["refusedAt"], made["configuration"]["retrying"]) == (THEN, True)


def test_what_is_written_is_what_is_read() -> None:
    report = endpoint(key("a"), key("b", "decrypt", soak_left=12.5, error="key b: away", up=False), epoch=4)
    node = of_document(document(report), "x", THEN + 2)
    assert (node.name, node.age, node.cluster) == ("cp-1", 2.0, "prod")
    read = node.endpoints["main"]
    assert (read.configured_epoch, read.epoch_in_use, read.key_id_hash) == (4, 4, report.key_id_hash)
    assert (read.keys["b"].soak_left, read.keys["b"].error, read.keys["b"].proven) == (12.5, "key b: away", False)
    assert read.keys["a"].proven


def test_both_sides_mean_the_same_version() -> None:
    assert status.API_VERSION == admin.API_VERSION
