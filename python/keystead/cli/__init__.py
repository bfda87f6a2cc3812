"""The command `keystead`. Each command's module is imported when the command runs, so `version` stays quick."""

from __future__ import annotations

from importlib import import_module

import click

from keystead import __version__

_COMMANDS = {
    "serve": "keystead.cli.serve:serve",
    "config": "keystead.cli.config:config_group",
    "status": "keystead.cli.status:status",
    "rotate": "keystead.cli.rotate:rotate",
    "kek": "keystead.cli.kek:kek",
    "doctor": "keystead.cli.doctor:doctor",
    "self-test": "keystead.cli.self_test:self_test",
    "inspect": "keystead.cli.inspect:inspect",
    "inventory": "keystead.cli.inventory:inventory",
    "key": "keystead.cli.key:key",
    "recover": "keystead.cli.recover:recover",
    "backup": "keystead.cli.backup:backup",
    "generate": "keystead.cli.generate:generate",
    "conformance": "keystead.cli.conformance:conformance",
    "provider": "keystead.cli.provider:provider_group",
    "version": "keystead.cli.version:version",
    "completion": "keystead.cli.completion:completion",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 a check failed, 2 usage or invalid configuration, 3 could not find out, "
    "4 refused as unsafe; serve: 78 invalid configuration.",
)
@click.version_option(__version__, prog_name="keystead")
def main() -> None:
    """Keystead encrypts what Kubernetes stores, behind one or several remote KMSs."""
