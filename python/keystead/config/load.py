"""From a file, a text or single values to a `Configuration`, or to all that is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keystead import registry
from keystead.config import advice, relations, translate
from keystead.config.document import MAX_BYTES, Document, read
from keystead.config.models import API_VERSION, KIND, Configuration, EndpointConfig, ProviderLookup
from keystead.config.problems import ConfigInvalid, Problem


def load(path: Path, *, lookup: ProviderLookup | None = None) -> Configuration:
    """Read the file and build a configuration. Raises `ConfigInvalid` with every problem."""
    return load_text(read_file(path), str(path), lookup=lookup)


def load_text(text: str, name: str, *, lookup: ProviderLookup | None = None) -> Configuration:
    """Build a configuration from YAML; `name` stands before each problem. Raises `ConfigInvalid` with all of them."""
    return build(read(text, name), hashlib.sha256(text.encode()).hexdigest(), lookup)


def lint_text(text: str, name: str, *, lookup: ProviderLookup | None = None) -> list[Problem]:
    """Return the warnings about a configuration that can be used. Raises `ConfigInvalid` for one that cannot."""
    document = read(text, name)
    lookup = lookup or registry.provider_class
    configuration = build(document, "", lookup)
    return [document.problem(where, message) for where, message in advice.findings(configuration, lookup)]


def single(
    *,
    socket: str,
    key: Mapping[str, object],
    cluster: str = "",
    http: str | None = None,
    lookup: ProviderLookup | None = None,
    **options: object,
) -> Configuration:
    """Build the configuration of one endpoint with one key, without a file.

    `key` is an entry of `keys`; its name is that of its provider if it has none. `options` are fields of an endpoint
    or of the configuration by their names in YAML, such as `kmsVersions` and `stateDir`; None stands for the default.
    Raises `ConfigInvalid`, whose problems have paths and no lines.
    """
    entry = {"name": key.get("provider"), **key}
    endpoint: dict[str, Any] = {"name": "main", "socket": socket, "epoch": 1}
    endpoint["members"] = [{"key": entry["name"], "stage": "active"}]
    tree: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND, "cluster": cluster, "keys": [entry]}
    tree["endpoints"] = [endpoint]
    if http is not None:
        tree["observability"] = {"http": {"address": http}}
    endpoint_fields = {info.alias for info in EndpointConfig.model_fields.values()}
    for field, value in options.items():
        if value is not None:
            (endpoint if field in endpoint_fields else tree)[field] = value
    canonical = json.dumps(tree, sort_keys=True, default=str)
    return build(Document("", tree), hashlib.sha256(canonical.encode()).hexdigest(), lookup)


def build(document: Document, digest: str, lookup: ProviderLookup | None = None) -> Configuration:
    """Check a parsed document against the fields and their relations. Without `lookup`, providers are the installed."""
    lookup = lookup or registry.provider_class
    problems = [document.problem(where, message) for where, message in relations.findings(document.tree)]
    try:
        configuration = Configuration.model_validate(document.tree, context={"provider_class": lookup})
    except ValidationError as exc:
        problems += translate.problems(exc, document, lookup)
        raise ConfigInvalid(problems) from None
    if not problems:
        problems = [document.problem(where, text) for where, text in relations.public_wraps(configuration, lookup)]
    if problems:
        raise ConfigInvalid(problems)
    configuration._digest = digest  # noqa: SLF001  # a private attribute, since a file may not set it
    return configuration


def read_file(path: Path) -> str:
    """Return the text of a configuration file. Raises `ConfigInvalid` if there is none to be had."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigInvalid([Problem(f"cannot be read: {exc.strerror}", source=str(path))]) from exc
    if len(data) > MAX_BYTES:
        raise ConfigInvalid([Problem(f"is larger than {MAX_BYTES} bytes", source=str(path))])
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - data.rfind(b"\n", 0, exc.start)
        raise ConfigInvalid([Problem("is not UTF-8", source=str(path), line=line, column=column)]) from exc
