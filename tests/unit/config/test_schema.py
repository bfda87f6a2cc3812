"""The JSON Schema and the outline that `explain` reads: nothing of the models is missing in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from keystead.config.models import Configuration
from keystead.config.outline import Entry, closest, find, outline
from keystead.config.schema import schema
from keystead.provider import Provider

Providers = dict[str, type[Provider[Any]]]


@pytest.fixture
def whole(providers: Providers) -> dict[str, Any]:
    return schema(providers)


@pytest.fixture
def entries(whole: dict[str, Any]) -> list[Entry]:
    return outline(whole)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def resolve(whole: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        found: dict[str, Any] = whole["$defs"][node["$ref"].removeprefix("#/$defs/")]
        return found
    return node


def test_the_schema_names_its_dialect_and_refuses_unknown_fields_everywhere(whole: dict[str, Any]) -> None:
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    mappings = [node for node in nodes(whole) if "properties" in node and node.get("type") == "object"]
    assert len(mappings) == 15  # nine of ours, two providers with the limits of each, and the two parts of one of them
    assert [node.get("title") for node in mappings if node.get("additionalProperties") is not False] == []


def test_the_schema_has_the_shape_of_the_file(whole: dict[str, Any]) -> None:
    assert set(whole["properties"]) == {
        "apiVersion",
        "kind",
        "cluster",
        "acceptClusters",
        "stateDir",
        "keys",
        "endpoints",
        "health",
        "unwrapTimeout",
        "observability",
    }
    assert set(whole["required"]) == {"apiVersion", "kind", "keys", "endpoints"}
    endpoint = resolve(whole, whole["properties"]["endpoints"]["items"])
    assert set(endpoint["properties"]) == {
        "name",
        "socket",
        "socketMode",
        "socketGroup",
        "kmsVersions",
        "statusVersion",
        "epoch",
        "soak",
        "versionDelay",
        "onRevoked",
        "members",
        "localKEK",
    }
    assert set(endpoint["required"]) == {"name", "socket", "epoch", "members"}
    assert endpoint["properties"]["epoch"] | {"description": ""} == {
        "type": "integer",
        "minimum": 1,
        "maximum": 2**32 - 1,
        "description": "",
    }
    assert endpoint["properties"]["kmsVersions"]["items"]["enum"] == ["v2", "v1beta1"]
    member = resolve(whole, endpoint["properties"]["members"]["items"])
    assert member["properties"]["stage"]["enum"] == ["active", "decrypt"]
    assert resolve(whole, endpoint["properties"]["localKEK"])["properties"]["maxAge"]["default"] == "720h"


def test_keys_are_told_apart_by_their_provider(whole: dict[str, Any]) -> None:
    alternatives = [resolve(whole, one) for one in whole["properties"]["keys"]["items"]["oneOf"]]
    assert [one["properties"]["provider"]["const"] for one in alternatives] == ["acmekms", "local"]
    acme, local = alternatives
    assert set(local["required"]) == {"name", "provider", "keyFile"}
    assert set(acme["required"]) == {"name", "provider", "address", "auth"}


def test_every_reference_of_the_schema_leads_somewhere(whole: dict[str, Any]) -> None:
    references = [node["$ref"] for node in nodes(whole) if "$ref" in node]
    assert len(references) >= 11
    for reference in references:
        assert reference.removeprefix("#/$defs/") in whole["$defs"], reference
    assert set(whole["$defs"]) >= {"acmekms", "acmekms.TokenAuth", "acmekms.CertAuth", "local"}


def test_patterns_of_the_schema_accept_the_defaults_and_never_null(whole: dict[str, Any]) -> None:
    checked = 0
    for node in nodes(whole):
        assert node.get("type") != "null"
        if "pattern" in node and "default" in node:
            assert re.search(node["pattern"], node["default"]), node
            checked += 1
    assert checked == 8  # socketMode, maxAge, soak, versionDelay, grace, probeInterval, unwrapTimeout, cluster


def test_a_schema_without_providers_allows_no_key() -> None:
    assert schema({})["properties"]["keys"]["items"] is False


def models_below(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    seen.add(model)
    for info in model.model_fields.values():
        for inner in re.findall(r"keystead\.config\.models\.(\w+)", repr(info.annotation)):
            found = getattr(__import__("keystead.config.models", fromlist=[inner]), inner)
            if found not in seen:
                models_below(found, seen)
    return seen


def test_every_field_has_a_description_that_is_a_sentence() -> None:
    models = models_below(Configuration, set())
    assert len(models) == 9
    for model in models:
        assert model.__doc__
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            assert info.description.endswith("."), f"{model.__name__}.{name}"


def test_the_outline_has_every_field_of_the_design_and_of_the_providers(entries: list[Entry]) -> None:
    paths = [entry.path for entry in entries]
    assert len(paths) == len(set(paths)) == 60
    assert {
        "cluster",
        "keys.local.keyFile",
        "keys.acmekms.auth.tokenFile",
        "keys.acmekms.auth.certFile",
        "endpoints.socket",
        "endpoints.members.stage",
        "endpoints.localKEK.maxAge",
        "health.probeInterval",
        "observability.http.address",
        "observability.logging.verbosity",
    } <= set(paths)


def test_an_entry_tells_type_default_and_necessity(entries: list[Entry]) -> None:
    def told(path: str) -> tuple[str, bool, str | None]:
        entry = find(entries, path)
        assert entry is not None, path
        return entry.type, entry.required, entry.default

    assert told("endpoints.localKEK.maxAge") == ("duration", False, '"720h"')
    assert told("endpoints.kmsVersions") == ("list of v2 | v1beta1", False, '["v2"]')
    assert told("endpoints.members") == ("list of mapping", True, None)
    assert told("endpoints.members.stage") == ("active | decrypt", True, None)
    assert told("endpoints.socketGroup") == ("text or whole number", False, None)
    assert told("endpoints.epoch") == ("whole number", True, None)
    assert told("stateDir") == ("path", False, None)
    assert told("keys") == ("list of mapping", True, None)
    assert told("keys.local") == ("mapping", False, None)
    assert told("keys.local.provider") == ("local", True, None)
    assert told("keys.acmekms.auth.method") == ("token | cert", True, None)
    assert told("keys.acmekms.auth") == ("mapping", True, None)


def test_a_path_may_carry_indices(entries: list[Entry]) -> None:
    plain = find(entries, "endpoints.members.stage")
    assert plain is not None
    assert find(entries, "endpoints[0].members[12].stage") is plain
    assert find(entries, "endpoints[].members[].stage") is plain
    assert find(entries, ".endpoints.members.stage") is plain
    assert find(entries, "endpoints.member") is None


def test_an_unknown_path_finds_the_one_that_was_meant(entries: list[Entry]) -> None:
    assert closest(entries, "maxAge") == "endpoints.localKEK.maxAge"
    assert closest(entries, "endpoint.localkek.maxage") == "endpoints.localKEK.maxAge"
    assert closest(entries, "keyFile") == "keys.local.keyFile"
    assert closest(entries, "observabilty") == "observability"
    assert closest(entries, "zzzzzz") is None
