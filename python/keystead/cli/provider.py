"""`keystead provider`: which providers are installed, what they can do, and a package for a new one."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystead.cli.terminal import printable

if TYPE_CHECKING:
    from keystead.registry import Installed
    from keystead.testing.quality import Quality

CHECK_FAILED = 1
REFUSED = 4
WIDTH = 100


@click.group("provider")
def provider_group() -> None:
    """List the providers of remote KMSs, describe one, and make a package for a new one."""


@provider_group.command("list")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def list_providers(*, output: str) -> None:
    """List the installed providers. Imports none of them."""
    from keystead import registry

    found = registry.names()
    rows: list[dict[str, str | None]] = [
        {"name": one.name, "distribution": one.distribution, "version": one.version, "tier": _claim(one)}
        for one in found
    ]
    if output == "json":
        click.echo(json.dumps(rows))
        return
    titles: dict[str, str | None] = {
        "name": "NAME",
        "distribution": "DISTRIBUTION",
        "version": "VERSION",
        "tier": "TIER",
    }
    widths = {key: max(len(str(row[key])) for row in [titles, *rows]) for key in titles}
    for row in [titles, *rows]:
        click.echo("  ".join(printable(str(row[key] or "-")).ljust(widths[key]) for key in titles).rstrip())


@provider_group.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def info(*, name: str, output: str) -> None:
    """Describe a provider: where it comes from, what it can do, its fields, and the tier that it claims.

    Imports it, but not its SDK. Exit code 1 if it is not installed or does not fit this Keystead; the message says
    what to install.
    """
    from keystead import __version__, registry
    from keystead.config.outline import outline
    from keystead.config.schema import schema
    from keystead.errors import ConfigError
    from keystead.testing import quality

    try:
        kind = registry.provider_class(name)
        said = quality.of_class(kind, name)
    except (ConfigError, quality.QualityInvalid) as exc:
        click.echo(f"keystead: {printable(str(exc))}", err=True)
        sys.exit(CHECK_FAILED)
    origin = next(one for one in registry.names() if one.name == name)
    about: dict[str, Any] = {
        "name": name,
        "distribution": origin.distribution,
        "version": origin.version,
        "class": origin.target,
        "api": kind.api,
        "speaks": list(registry.SUPPORTED_APIS),
        "capabilities": {slot: getattr(kind.capabilities, slot) for slot in type(kind.capabilities).__slots__},
        "tier": said.tier.label if said.tier else None,
        "exempt": dict(said.exempt),
        "documentation": said.documentation or None,
        "schema": kind.config_type.model_json_schema(),
    }
    if output == "json":
        click.echo(json.dumps(about))
        return
    fields = [entry for entry in outline(schema({name: kind})) if entry.parent == f"keys.{name}"]
    capabilities = ", ".join(f"{key} {_word(value)}" for key, value in about["capabilities"].items())
    lines = {
        "distribution": f"{origin.distribution} {origin.version} ({origin.target})",
        "api": f"{kind.api}; this Keystead {__version__} speaks {_list(about['speaks'])}",
        "capabilities": capabilities,
        "tier": _tier(said),
        "documentation": said.documentation or "none named",
    }
    summary = (kind.__doc__ or "").strip().split("\n")[0]
    click.echo(f"{name}: {printable(summary)}" if summary else name)
    for label, text in lines.items():
        head = f"  {label:<14} "
        click.echo(textwrap.fill(printable(text), WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))
    click.echo("  fields")
    for entry in fields:
        kind_of = "required" if entry.required else "optional"
        head = f"    {entry.name:<12} "
        text = f"{kind_of}. {entry.description}"
        click.echo(textwrap.fill(printable(text), WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))


@provider_group.command()
@click.argument("name")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to write it.  [default: keystead-NAME in this folder]"
)
def new(*, name: str, directory: Path | None) -> None:
    """Write a package for a provider NAME: adapter, conformance tests, CI, a page for operators.

    Its tests pass as it is, against a stand-in for your SDK.
    """
    from keystead.testing import scaffold

    place = directory or Path(f"keystead-{name}")
    try:
        made = scaffold.create(name, place)
    except (scaffold.ScaffoldError, OSError) as exc:
        raise click.UsageError(str(exc)) from None
    for path in made:
        click.echo(f"{place / path}")
    click.echo(f"\ncd {place} && pip install -e '.[test]' && pytest")


@provider_group.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
def update(*, directory: Path) -> None:
    """Bring a package that `provider new` made to the template of this release.

    A file that you changed is kept, and the new one is laid beside it as FILE.new.
    """
    from keystead.testing import scaffold

    try:
        changes = scaffold.update(directory)
    except (scaffold.ScaffoldError, OSError) as exc:
        raise click.UsageError(str(exc)) from None
    for change in changes:
        click.echo(f"{change.path}: {change.what}")
    if not changes:
        click.echo("nothing new")


@provider_group.command()
@click.argument("rule_id", metavar="[ID]", default="")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def rules(*, rule_id: str, output: str) -> None:
    """List the conformance rules, or explain one: what it holds, why, and how to keep it."""
    from keystead.testing.books import books

    known = [rule for book in books() for rule in book.rules]
    chosen = [rule for rule in known if rule_id.upper() in ("", rule.id)]
    if not chosen:
        raise click.UsageError(f"no rule {rule_id!r}; `keystead provider rules` lists them")
    if output == "json":
        keys = ("id", "title", "why", "fix", "needs")
        click.echo(
            json.dumps([{key: getattr(rule, key) for key in keys} | {"tier": rule.tier.label} for rule in chosen])
        )
        return
    for rule in chosen:
        click.echo(f"{rule.id}  {rule.tier.label:<6}  {rule.title}")
        if rule_id:
            for label, text in {"why": rule.why, "fix": rule.fix, "needs": rule.needs or "nothing besides"}.items():
                head = f"  {label:<6} "
                click.echo(textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))


def _claim(one: Installed) -> str | None:
    """The tier that the quality file beside a provider claims; found without importing it."""
    from keystead.testing import quality

    try:
        path = quality.beside(one.target.partition(":")[0])
        said = quality.read(path, one.name) if path is not None else None
    except quality.QualityInvalid:
        return "invalid"
    return said.tier.label if said is not None and said.tier is not None else None


def _tier(said: Quality) -> str:
    if said.tier is None:
        return "none claimed"
    rules = f", exempt from {', '.join(said.exempt)}" if said.exempt else ""
    return f"{said.tier.label}, as its authors claim in quality.yaml{rules}"


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _list(numbers: Any) -> str:
    return " and ".join(str(number) for number in numbers)
