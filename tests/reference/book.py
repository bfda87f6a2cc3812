"""What the program says of itself, as pages: everything below a mark in a page is made here, and nothing above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from keystead.cli import main
from keystead.config.outline import Entry, outline
from keystead.config.schema import schema
from keystead.operate.doctor.book import CHAPTERS
from keystead.operate.monitoring.alerts import alerts
from keystead.providers.local import LocalProvider
from keystead.server.metrics import Metrics
from keystead.server.reload import Standing

ROOT = Path(__file__).parents[2]
MARK = "<!-- From here on written by `make reference`. -->\n"


def doctor() -> Iterator[str]:
    """Every check, a heading for each, so that a finding can link to it."""
    for chapter in CHAPTERS:
        yield f"\n### {chapter.title}\n"
        for check in chapter.checks:
            yield f"\n#### {check.id}\n\n**{check.title}.** Expected: {check.expected}.\n"
            yield f"\n- If not: {check.why}\n- Do: {check.fix}\n"


def commands() -> Iterator[str]:
    """Every command with its options, as --help has them."""
    for name, command in _commands(main, "keystead"):
        yield f"\n## {name}\n\n{_paragraphs(command.help or '')}\n"
        usage = " ".join(
            command.collect_usage_pieces(click.Context(command, info_name=name, help_option_names=["-h", "--help"]))
        )
        yield f"\n    {name} {usage}\n"
        options = [one for one in command.params if isinstance(one, click.Option)]
        if options:
            yield "\n| option | environment | meaning |\n|---|---|---|\n"
            yield from map(_option, options)


def configuration() -> Iterator[str]:
    """Every field, as `config explain` has it. The fields of a key are on the page of its provider."""
    yield "\n| field | type | default | meaning |\n|---|---|---|---|\n"
    for entry in outline(schema({"local": LocalProvider})):
        if not entry.path.startswith("keys.local."):
            yield f"| `{entry.path}` | {_cell(entry.type)} | {_default(entry)} | {_cell(entry.description)} |\n"


def alert_list() -> Iterator[str]:
    """Every alert with its expression, and a link to its page."""
    for severity in ("page", "warning"):
        yield f"\n## {severity}\n\n| alert | expression | for |\n|---|---|---|\n"
        for one in alerts():
            if one.severity == severity:
                yield f"| [{one.name}]({one.name}.md) | `{_cell(one.expression)}` | {one.lasting} |\n"


def metrics() -> Iterator[str]:
    """Every metric with its kind, its labels and its help, as a scrape shows them."""
    made = Metrics()
    made.watch(dict, lambda: Standing("config.yaml", "", datetime.now(UTC)))
    yield "\n| metric | kind | meaning |\n|---|---|---|\n"
    for family in sorted(made.registry.collect(), key=lambda one: one.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        yield f"| `{name}` | {family.type} | {_cell(family.documentation)} |\n"


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "docs/operate/doctor.md": doctor,
    "docs/reference/commands.md": commands,
    "docs/reference/configuration.md": configuration,
    "docs/reference/metrics.md": metrics,
    "docs/alerts/README.md": alert_list,
}


def written(name: str) -> str:
    """A page as it should be."""
    above, mark, _ = (ROOT / name).read_text().partition(MARK)
    assert mark, f"{name} has no line {MARK}"
    return f"{above}{MARK}{''.join(PAGES[name]())}"


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _commands(found, f"{name} {child}")
    else:
        yield name, command


def _option(one: click.Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in one.opts)
    if not one.is_flag:
        flags += f" {_cell(one.make_metavar(click.Context(click.Command('x'))))}"
    several = " May be given several times." if one.multiple else ""
    variable = f"`{one.envvar}`" if one.envvar else ""
    return f"| {flags} | {variable} | {_cell(one.help or '')}{several} |\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")).replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _default(entry: Entry) -> str:
    if entry.required:
        return "required"
    return f"`{entry.default}`" if entry.default is not None else "not set"
