"""The configuration's fields as a flat list of paths, for `keystead config explain`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One field. `path` is `endpoints.localKEK.maxAge`; a provider's fields are under `keys.PROVIDER`."""

    path: str
    type: str
    required: bool
    default: str | None
    description: str

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def parent(self) -> str:
        return self.path.rpartition(".")[0]


def outline(schema: dict[str, Any]) -> list[Entry]:
    """List every field of a schema made by `keystead.config.schema`, each before its children."""
    merged: dict[str, Entry] = {}
    for entry in _Walk(schema["$defs"]).children(schema, ""):
        known = merged.get(entry.path)
        # Alternatives of a provider's part share a field, such as the one that tells them apart.
        merged[entry.path] = entry if known is None else replace(known, type=f"{known.type} | {entry.type}")
    return list(merged.values())


def find(entries: list[Entry], path: str) -> Entry | None:
    """Return the entry at a path; `endpoints[0].name` and `endpoints[].name` are `endpoints.name`."""
    wanted = re.sub(r"\[[0-9]*\]", "", path).strip(".")
    return next((entry for entry in entries if entry.path == wanted), None)


def closest(entries: list[Entry], path: str) -> str | None:
    """Return the path that was probably meant: one that ends in the same field, or else a similar one."""
    last = path.rpartition(".")[2].lower()
    same_end = [entry.path for entry in entries if entry.name.lower() == last]
    close = get_close_matches(path[:200], same_end or [entry.path for entry in entries], n=1, cutoff=0.5)
    return close[0] if close else next(iter(same_end), None)


class _Walk:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self.definitions = definitions

    def children(self, node: dict[str, Any], path: str) -> Iterator[Entry]:
        for name, declared in node.get("properties", {}).items():
            inner = self._resolve(declared)
            here = f"{path}.{name}" if path else name
            default = json.dumps(declared["default"]) if "default" in declared else None
            described = declared.get("description") or inner.get("description", "")
            yield Entry(here, self._type(declared), name in node.get("required", ()), default, described)
            yield from self._below(inner, here)

    def _below(self, node: dict[str, Any], path: str) -> Iterator[Entry]:
        if isinstance(items := node.get("items"), dict):
            node = self._resolve(items)
        for alternative in node.get("oneOf", node.get("anyOf", ())):
            branch = self._resolve(alternative)
            provider = branch.get("properties", {}).get("provider", {}).get("const") if path == "keys" else None
            if provider is None:
                yield from self._below(branch, path)
            else:
                here = f"{path}.{provider}"
                yield Entry(here, "mapping", False, None, branch.get("description", ""))
                yield from self.children(branch, here)
        yield from self.children(node, path)

    def _type(self, declared: dict[str, Any]) -> str:
        node = self._resolve(declared)
        if "const" in node:
            return str(node["const"])
        if "enum" in node:
            return " | ".join(map(str, node["enum"]))
        if alternatives := node.get("anyOf", node.get("oneOf")):
            return " or ".join(dict.fromkeys(self._type(one) for one in alternatives))
        match node.get("type"):
            case "array":
                items = node.get("items")
                return f"list of {self._type(items)}" if isinstance(items, dict) else "list"
            case "object":
                values = node.get("additionalProperties") or next(
                    iter(node.get("patternProperties", {}).values()), None
                )
                return f"mapping of text to {self._type(values)}" if isinstance(values, dict) else "mapping"
            case "string":
                return {"path": "path", "duration": "duration"}.get(node.get("format", ""), "text")
            case "integer":
                return "whole number"
            case other:
                return str(other or "value")

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = self.definitions[node["$ref"].removeprefix("#/$defs/")]
        return node
