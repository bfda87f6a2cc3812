"""KS-R001 to 009: what the class says of itself, before anything is opened."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from keystead import registry
from keystead.errors import ConfigError
from keystead.provider import ProviderConfig
from keystead.testing.audit import watching
from keystead.testing.case import Case, attempt
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, NotApplicable, NotShown, Tier

MAX_BLOB = 4096
_SECRET_FIELD = re.compile(r"(token|password|passphrase|secret|credentials?|pin|private_?key|api_?key)$", re.IGNORECASE)
_IMPORT_LIMIT = 60

_LIST_IMPORTS = """
import json, sys
import keystead.provider, keystead.errors
before = set(sys.modules)
import importlib
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


@BOOK.rule(
    1,
    Tier.BRONZE,
    "The class follows the interface, in a version of it that this Keystead speaks.",
    why="Keystead refuses the configuration at start, so kube-apiserver gets no plugin at all.",
    fix="Set `api`, `config_type` and `capabilities` on the class, and implement every abstract method.",
    unwraps=False,
)
def follows_the_interface(case: Case) -> None:
    kind = case.provider_type
    who = registry.Installed(case.config.provider, "this class", "as it is", f"{kind.__module__}:{kind.__qualname__}")
    try:
        registry.check_class(kind, who)
    except ConfigError as exc:
        raise Broken("a class that the registry accepts", str(exc)) from None


@BOOK.rule(
    2,
    Tier.BRONZE,
    "The class is installed under one entry point, whose name its configuration has as `provider`.",
    why="A configuration finds a provider by its entry point only. A second offer of the same name is refused.",
    fix='Add it to [project.entry-points."keystead.providers"] in pyproject.toml, install the package again, and '
    "give the configuration model `provider: Literal[...]` with the same name.",
    unwraps=False,
)
def is_published(case: Case) -> None:
    if not case.sandbox.published:
        raise NotApplicable("the sandbox says that this provider is not published")
    wanted = f"{case.provider_type.__module__}:{case.provider_type.__qualname__}"
    found = [one for one in registry.names() if one.name == case.config.provider]
    if len(found) != 1:
        raise Broken(f"one entry point {case.config.provider!r}", f"{len(found)}: {', '.join(map(str, found)) or '-'}")
    loaded = registry.provider_class(found[0].name)
    if loaded is not case.provider_type:
        raise Broken(f"the entry point {found[0].name!r} to lead to {wanted}", found[0].target)
    literal = get_args(case.provider_type.config_type.model_fields["provider"].annotation)
    if literal and literal != (found[0].name,):
        raise Broken(f"provider: Literal[{found[0].name!r}]", f"Literal{list(literal)}")


@BOOK.rule(
    3,
    Tier.BRONZE,
    "The capabilities are of the declared types, and `max_blob` is 1 to 4096.",
    why="The host sizes records by them: a wrap over 4096 bytes fits in no record, and none is written.",
    fix="Declare booleans, and the largest wrap in bytes that the provider makes.",
    unwraps=False,
)
def capabilities_are_sound(case: Case) -> None:
    for name in ("binds_context", "has_versions", "authenticated_wrap", "unwraps"):
        if type(getattr(case.capabilities, name)) is not bool:
            raise Broken(f"capabilities.{name} is a bool", repr(getattr(case.capabilities, name)))
    limit: object = case.capabilities.max_blob
    if type(limit) is not int or not 1 <= limit <= MAX_BLOB:
        raise Broken(f"capabilities.max_blob from 1 to {MAX_BLOB}", repr(limit))


@BOOK.rule(
    4,
    Tier.BRONZE,
    "The configuration model refuses unknown fields and does not change once it is made.",
    why="With a misspelt field that is ignored, a plugin runs with a default that nobody chose, such as no CA file.",
    fix='Derive from ProviderConfig, and leave its model_config (extra="forbid", frozen=True) as it is.',
    unwraps=False,
)
def configuration_is_strict(case: Case) -> None:
    given = case.config.model_dump(mode="python", by_alias=True, exclude_unset=True)
    done = attempt(lambda: type(case.config).model_validate({**given, "noSuchField": 1}))
    if not isinstance(done.error, ValidationError):
        raise Broken("an unknown field to be refused", str(done))
    if not type(case.config).model_config.get("frozen"):
        raise Broken("a frozen model", "one whose fields can be set")


@BOOK.rule(
    5,
    Tier.BRONZE,
    "Every field of the configuration has a description and a place in the JSON Schema.",
    why="`keystead config explain` and editors show descriptions; without them operators guess.",
    fix='Write `Field(description="...")` for each field, and use types that JSON Schema knows.',
    unwraps=False,
)
def fields_are_described(case: Case) -> None:
    config = case.provider_type.config_type
    done = attempt(lambda: json.dumps(config.model_json_schema()))
    if done.error is not None:
        raise Broken("a JSON Schema of the configuration", str(done))
    if bare := [
        name
        for name, info in config.model_fields.items()
        if not info.description and name not in ProviderConfig.model_fields
    ]:
        raise Broken("a description for every field", f"none for {', '.join(bare)}")


@BOOK.rule(
    6,
    Tier.BRONZE,
    "No field of the configuration takes a secret; secrets are paths of files.",
    why="The configuration is in ConfigMaps, in version control and in support bundles, and so would the secret be.",
    fix="Take a file instead: `tokenFile: Path` for `token: str`.",
    unwraps=False,
)
def secrets_are_files(case: Case) -> None:
    for name, info in case.provider_type.config_type.model_fields.items():
        if _SECRET_FIELD.search(name) and info.annotation is str:
            raise Broken("a field with the path of a file", f"the field {name}, which takes the secret itself")


@BOOK.rule(
    7,
    Tier.BRONZE,
    "Importing the module imports nothing but the standard library and the adapter's own package.",
    why="Every `config lint` imports it, and so does `serve` before its first answer; an SDK costs a second and tens "
    "of megabytes there, and an error of its import hides every other problem of the file.",
    fix="Import the SDK inside `open`.",
    unwraps=False,
)
def import_is_light(case: Case) -> None:
    module = case.provider_type.__module__
    if not case.sandbox.published:
        raise NotApplicable("the sandbox says that this provider is not published")
    ran = subprocess.run(  # noqa: S603  the module under test, by this interpreter
        [sys.executable, "-c", _LIST_IMPORTS, module],
        capture_output=True,
        text=True,
        timeout=_IMPORT_LIMIT,
        check=False,
    )
    if ran.returncode != 0:
        raise Broken(f"{module} to import in a fresh process", ran.stderr.strip().splitlines()[-1])
    own = {module.partition(".")[0], "keystead"}
    heavy = set(json.loads(ran.stdout)) - own - set(sys.stdlib_module_names)
    if foreign := sorted(name for name in heavy if not name.startswith("_")):
        raise Broken("no import of an SDK", f"imports of {', '.join(foreign[:8])}")


@BOOK.rule(
    8,
    Tier.BRONZE,
    "Making an instance touches no file, no network and no process.",
    why="Instances are made at every start and reload, before anything is known to work; what fails or blocks here "
    "keeps a socket from answering for keys that are fine.",
    fix="Let `__init__` keep the configuration only, and do the rest in `open`.",
    unwraps=False,
)
def making_does_nothing(case: Case) -> None:
    with watching() as seen:
        done = attempt(case.new)
    if done.error is not None:
        raise Broken("an instance from the configuration alone", str(done))
    if seen:
        raise Broken("nothing to be touched", "; ".join(seen[:5]))


@BOOK.rule(
    9,
    Tier.GOLD,
    "A page for operators names every field of the configuration.",
    why="At three in the morning the page is what the operator has.",
    fix="Write the page, and name it in quality.yaml: `documentation: docs/acme-kms.md`.",
    needs="`documentation` in the quality file",
    unwraps=False,
)
def is_documented(case: Case) -> None:
    name, file = case.quality.documentation, case.quality.file
    if not name or file is None:
        raise NotShown("the quality file names no `documentation`")
    page = next((folder / name for folder in file.parents if (folder / name).is_file()), None)
    if page is None:
        raise Broken(f"a page {name} beside the quality file or above it", "no such file")
    if missing := _undocumented(case, page):
        raise Broken(f"{name} to name every field", f"nothing about {', '.join(missing)}")


def _undocumented(case: Case, page: Path) -> list[str]:
    text = page.read_text()
    fields = case.provider_type.config_type.model_fields
    names = {name: info.alias or name for name, info in fields.items() if name not in ProviderConfig.model_fields}
    return sorted(name for name in names.values() if not re.search(rf"\b{re.escape(name)}\b", text))
