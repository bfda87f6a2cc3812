"""pydantic's errors in the words of the person who wrote the file.

A message never repeats a value that pydantic refused, except for numbers and choices: someone may have pasted a
secret where a path belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from keystead.config.document import Document
from keystead.config.models import Configuration, ProviderLookup
from keystead.config.problems import Location, Problem
from keystead.errors import ConfigError
from keystead.suggest import did_you_mean

MOST = 100
"""Problems that are reported. More come from a file that is something else altogether."""


def problems(exc: ValidationError, document: Document, lookup: ProviderLookup) -> Iterator[Problem]:
    """Yield each error of `exc` as a problem with its place in `document`."""
    for error in exc.errors(include_url=False)[:MOST]:
        kind = error["type"]
        if kind == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]:
            continue  # The list is long enough; pydantic counts the items that passed, and the others are reported.
        if error["input"] is None:
            continue  # `relations` reports every field without a value, also where a model would take None.
        location = _location(error["loc"], document.tree, keep_last=kind == "missing")
        if kind == "extra_forbidden":
            choices = _fields(location[:-1], document.tree, lookup)
            message = f"unknown field{did_you_mean(str(location[-1]), choices)}"
            yield document.problem(location, message, at_key=True)
        else:
            yield document.problem(location, _message(kind, error, document.scalars.get(location)))


def _message(kind: str, error: Any, spelled: str | None) -> str:
    context = error.get("ctx", {})
    value = error["input"]
    if kind == "missing":
        return "required field is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        guess = did_you_mean(value, choices) if isinstance(value, str) and len(choices) > 1 else ""
        return f"should be {context['expected']}{guess}"
    if kind == "string_type":
        return f'should be text; write "{spelled}" in quotes' if spelled else "should be text"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "should be a mapping of fields"
    if kind in ("tuple_type", "list_type"):
        return "should be a list"
    if kind == "int_type":
        return "should be a whole number, without quotes"
    if kind == "too_short":
        return f"should have at least {context['min_length']} item" + ("s" if context["min_length"] > 1 else "")
    if kind == "too_long":
        return f"should have at most {context['max_length']} items"
    return re.sub(r"^(Input|String|Value) ", "", str(error["msg"]))


def _location(loc: tuple[int | str, ...], tree: Any, *, keep_last: bool) -> Location:
    """Drop from pydantic's way what is no part of the file, such as the names of a union's branches."""
    location: list[int | str] = []
    for part in loc:
        if isinstance(part, int):
            if isinstance(tree, list) and part < len(tree):
                location.append(part)
                tree = tree[part]
        elif isinstance(tree, dict) and part in tree:
            location.append(part)
            tree = tree[part]
    if keep_last and loc and location[-1:] != [loc[-1]]:
        location.append(loc[-1])
    return tuple(location)


def _fields(location: Location, tree: Any, lookup: ProviderLookup) -> set[str]:
    """Names of the fields that are allowed at a place, of every alternative there."""
    models: set[type[BaseModel]] = {Configuration}
    for depth, part in enumerate(location):
        tree = tree[part]
        if isinstance(part, str):
            models = {inner for model in models for inner in _inner_models(model, part)}
        elif location[:1] == ("keys",) and depth == 1:
            models = _key_models(tree, lookup)
    return {name for model in models for name in _names(model)}


def _key_models(key: Any, lookup: ProviderLookup) -> set[type[BaseModel]]:
    try:
        return {lookup(key["provider"]).config_type}
    except (ConfigError, KeyError, TypeError):
        return set()


def _names(model: type[BaseModel]) -> Iterable[str]:
    return (info.alias or name for name, info in model.model_fields.items())


def _inner_models(model: type[BaseModel], part: str) -> set[type[BaseModel]]:
    return {
        inner
        for name, info in model.model_fields.items()
        if part in (info.alias, name)
        for inner in _models_in(info.annotation)
    }


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {inner for argument in get_args(annotation) for inner in _models_in(argument)}
