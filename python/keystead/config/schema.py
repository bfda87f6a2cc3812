"""The JSON Schema of the whole file, composed from the models of the installed providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from keystead import registry
from keystead.config.models import Configuration
from keystead.errors import ConfigError
from keystead.provider import Provider, ProviderConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"

ProviderClasses = Mapping[str, type[Provider[Any]]]


def usable_providers() -> tuple[dict[str, type[Provider[Any]]], list[str]]:
    """Import every installed provider; return the classes by name, and why each of the others cannot be used."""
    classes: dict[str, type[Provider[Any]]] = {}
    failures: dict[str, str] = {}
    for installed in registry.names():
        try:
            classes[installed.name] = registry.provider_class(installed.name)
        except ConfigError as exc:
            failures[installed.name] = str(exc)
    return classes, list(failures.values())


def schema(providers: ProviderClasses | None = None) -> dict[str, Any]:
    """Return the schema, draft 2020-12, with an alternative of `keys` for each of `providers`, or all that work."""
    classes = usable_providers()[0] if providers is None else providers
    whole = Configuration.model_json_schema(schema_generator=_Generator)
    definitions = whole.setdefault("$defs", {})
    alternatives = []
    for name, provider in sorted(classes.items()):
        definitions |= _provider_definitions(name, provider)
        alternatives.append({"$ref": f"#/$defs/{name}"})
    whole["properties"]["keys"]["items"] = {"oneOf": alternatives} if alternatives else False
    return {"$schema": DIALECT, **whole}


def _provider_definitions(name: str, provider: type[Provider[Any]]) -> dict[str, Any]:
    """A provider's model under its name, and what the model refers to under names that no other provider has."""
    own = provider.config_type.model_json_schema(schema_generator=_Generator, ref_template=f"#/$defs/{name}.{{model}}")
    inner = {f"{name}.{model}": definition for model, definition in own.pop("$defs", {}).items()}
    own["properties"]["provider"] = {
        "const": name,
        "description": ProviderConfig.model_fields["provider"].description,
        "type": "string",
    }
    return {name: own, **inner}


class _Generator(GenerateJsonSchema):
    """Without titles made from names, and without null, which a field never has."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # a signature of pydantic's
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described
