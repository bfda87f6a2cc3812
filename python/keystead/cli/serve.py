"""`keystead serve`: the plugin process, from a file, from flags, or with a throw-away key."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keystead.server.tuning import prepare_environment

if TYPE_CHECKING:
    from keystead.config import Configuration
    from keystead.server.reload import Source

EX_CONFIG = 78
"""sysexits(3): the unit file has RestartPreventExitStatus=78, for a restart would not help."""
DEFAULT_CONFIG = Path("/etc/keystead/config.yaml")


class _Words(click.types.StringParamType):
    """Text, several of them in a variable as a shell would split them, so that a path may have a space in it."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        try:
            return shlex.split(rv)
        except ValueError as exc:
            raise click.UsageError(f"KEYSTEAD_KEY: {exc}") from exc


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    help=f"Configuration file.  [default: {DEFAULT_CONFIG}]",
)
@click.option("--dev", is_flag=True, help="Serve with a throw-away local key; needs no configuration.")
@click.option("--take-over", is_flag=True, help="Replace a process that listens on the socket already, without a gap.")
@click.option(
    "--socket", envvar="KEYSTEAD_SOCKET", help="Without a file: the one socket, unix:///path or unix:///@name."
)
@click.option("--provider", envvar="KEYSTEAD_PROVIDER", help="Without a file: the provider of the one key.")
@click.option(
    "--set",
    "key_fields",
    type=_Words(),
    multiple=True,
    metavar="FIELD=VALUE",
    envvar="KEYSTEAD_KEY",
    help="Without a file: a field of the key, such as keyFile=/etc/keystead/lab.key. Never a secret: paths only.",
)
@click.option("--cluster", envvar="KEYSTEAD_CLUSTER", default="", help="Without a file: the cluster's label.")
@click.option("--epoch", envvar="KEYSTEAD_EPOCH", type=int, default=1, help="Without a file: the epoch.  [default: 1]")
@click.option("--state-dir", envvar="KEYSTEAD_STATE_DIR", help="Without a file: where to keep wrapped KEKs.")
@click.option(
    "--kms-version",
    "kms_versions",
    multiple=True,
    type=click.Choice(["v2", "v1beta1"]),
    default=["v2"],
    show_default=True,
    help="Without a file: API to serve; may be given twice.",
)
@click.option("--http", "http_address", envvar="KEYSTEAD_HTTP", default="", help="Without a file: address of /metrics.")
def serve(
    *,
    config_path: Path | None,
    dev: bool,
    take_over: bool,
    socket: str | None,
    provider: str | None,
    key_fields: tuple[str, ...],
    cluster: str,
    epoch: int,
    state_dir: str | None,
    kms_versions: tuple[str, ...],
    http_address: str,
) -> None:
    """Serve KMS to kube-apiserver until SIGTERM. SIGHUP reads the configuration again."""
    # grpcio reads this once, when it is first imported, which the imports below do.
    prepare_environment()

    fileless = socket is not None or provider is not None
    if dev + fileless + (config_path is not None) > 1:
        raise click.UsageError("give one of --config, --dev, or --socket with --provider")
    if fileless and (socket is None or provider is None):
        raise click.UsageError("--socket and --provider belong together")

    from keystead.server.reload import Source

    if dev:
        source = Source.fixed("--dev", _dev)
    elif socket is not None and provider is not None:
        fields = _fields(key_fields)

        def of_flags() -> Configuration:
            from keystead.config import single

            return single(
                socket=socket,
                key={"name": "main", "provider": provider, **fields},
                cluster=cluster,
                epoch=epoch,
                stateDir=state_dir,
                kmsVersions=list(kms_versions),
                http=http_address,
            )

        source = Source.fixed("flags", of_flags)
    elif config_path is None and (inline := os.environ.get("KEYSTEAD_CONFIG_INLINE")) is not None:
        from keystead.config import load_text

        source = Source.fixed("KEYSTEAD_CONFIG_INLINE", lambda: load_text(inline, "KEYSTEAD_CONFIG_INLINE"))
    else:
        source = Source.file(config_path or DEFAULT_CONFIG)
    sys.exit(_run(source, take_over=take_over, dev=dev))


def _run(source: Source, *, take_over: bool, dev: bool) -> int:
    from keystead.config import ConfigInvalid
    from keystead.errors import ConfigError
    from keystead.server import logs
    from keystead.server.app import Application
    from keystead.server.sockets import SocketRefused

    try:
        config = source.load()
        logs.configure(config.observability.logging.format, config.observability.logging.verbosity)
        application = Application(config, source, take_over=take_over)
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(f"keystead: {problem}", err=True)
        return EX_CONFIG
    except ConfigError as exc:
        click.echo(f"keystead: {exc}", err=True)
        return EX_CONFIG

    def announce() -> None:
        if dev:
            click.echo(f"serving {config.endpoints[0].socket.uri}  (throw-away local key: NOT for production)")

    try:
        application.run(announce)
    except SocketRefused as exc:
        click.echo(f"keystead: {exc}", err=True)
        return 1
    # The interpreter would wait for every thread at its end, so also for one that hangs in a provider's SDK.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _fields(pairs: tuple[str, ...]) -> dict[str, str]:
    fields = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: write FIELD=VALUE")
        fields[name] = value
    return fields


def _dev() -> Configuration:
    """One endpoint over a fresh local key, in a directory that only this user may enter."""
    from keystead.config import single

    directory = Path(os.environ.get("KEYSTEAD_DEV_DIR") or tempfile.mkdtemp(prefix="keystead-dev-"))
    key_file = directory / "dev.key"
    if not key_file.exists():
        descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(32))
    return single(
        socket=f"unix://{directory}/kms.sock",
        key={"name": "dev", "provider": "local", "keyFile": str(key_file)},
        cluster="dev",
        stateDir=str(directory / "state"),
        kmsVersions=["v2", "v1beta1"],
        http="",
    )
