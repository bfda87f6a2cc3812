"""Commands of `keystead generate` that print what runs the plugin, and what tells kube-apiserver of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from keystead.config import Configuration
    from keystead.operate.deploy.place import Place

INVALID = 2
Command = Callable[..., None]


def _fitting(command: Command) -> Command:
    """Options of what runs the plugin."""
    for add in (
        click.option("--user", type=click.IntRange(0, 2**31), default=0, show_default=True, help="User to run as."),
        click.option("--image", help="Image of the plugin.  [default: keystead: and this version]"),
        _config,
    ):
        command = add(command)
    return command


_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration whose files, directories and port it is to fit; without it, those of the documentation.",
)


@click.command("static-pod")
@_fitting
def static_pod(*, config_path: Path | None, image: str | None, user: int) -> None:
    """Print a static pod for control-plane nodes: the usual way to run it.

    Place it where kubelet looks for static pods. It needs no API server, and nothing of the cluster.
    """
    from keystead.operate.deploy.pods import static_pod as text

    click.echo(text(_place(config_path, image, user)), nl=False)


@click.command("daemonset")
@_fitting
def daemonset(*, config_path: Path | None, image: str | None, user: int) -> None:
    """Print a DaemonSet for control-plane nodes. It does not survive a cold start of all of them: see its comment."""
    from keystead.operate.deploy.pods import daemon_set

    click.echo(daemon_set(_place(config_path, image, user)), nl=False)


@click.command()
@click.option("--image", help="Image of the plugin.  [default: keystead: and this version]")
def sidecar(*, image: str | None) -> None:
    """Print a patch that puts the plugin beside a kube-apiserver which is a pod of another cluster."""
    from keystead.operate.deploy.pods import sidecar as text

    click.echo(text(_place(None, image, 0)), nl=False)


@click.command()
@_config
@click.option("--program", default="/opt/keystead/bin/keystead", show_default=True, help="Where keystead is.")
@click.option("--user", type=click.IntRange(0, 2**31), default=0, show_default=True, help="User to run as.")
def systemd(*, config_path: Path | None, program: str, user: int) -> None:
    """Print a unit of systemd, for k3s, RKE2, and wherever the plugin has to be there before any pod."""
    from keystead.operate.deploy.unit import service

    click.echo(service(_place(config_path, None, user), program), nl=False)


@click.command()
@_config
def kubeadm(*, config_path: Path | None) -> None:
    """Print the part of kubeadm's ClusterConfiguration that tells kube-apiserver of the plugin."""
    from keystead.operate.deploy.cluster import kubeadm as text

    click.echo(text(str(_place(config_path, None, 0).sockets[0])), nl=False)


@click.command("encryption-config")
@click.option(
    "--stage",
    type=click.IntRange(1, 3),
    required=True,
    help="1: Keystead can be read. 2: Keystead writes. 3: plaintext is refused.",
)
@click.option("--resources", default="secrets", show_default=True, help="Comma-separated: secrets,configmaps.")
@click.option("--name", default="keystead", show_default=True, help="Name of the provider. Never change it later.")
@_config
@click.option("--endpoint", help="Endpoint of the configuration; not needed if there is one only.")
def encryption_config(*, stage: int, resources: str, name: str, config_path: Path | None, endpoint: str | None) -> None:
    """Print kube-apiserver's EncryptionConfiguration for a stage of enabling encryption.

    No API server may get a stage before all others have the one before. docs/operate/enable.md has the steps.
    """
    from keystead.operate.deploy.cluster import encryption_config as text

    wanted = [one.strip() for one in resources.split(",")]
    if not all(wanted) or any("*" in one for one in wanted):
        raise click.BadParameter(
            "name resources; with * an API server whose plugin is late ends", param_hint="--resources"
        )
    if not name or ":" in name:
        raise click.BadParameter("should be a name without ':'", param_hint="--name")
    socket = "unix:///run/keystead/kms.sock"
    if config_path is not None:
        endpoints = _read(config_path).endpoints
        chosen = [one for one in endpoints if endpoint in (None, one.name)]
        if len(chosen) != 1:
            names = ", ".join(one.name for one in endpoints)
            raise click.UsageError(f"choose one endpoint with --endpoint: {names}")
        socket = chosen[0].socket.uri
    elif endpoint is not None:
        raise click.UsageError("--endpoint needs --config, which has it")
    click.echo(text(stage, wanted, name, socket), nl=False)


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="KEYSTEAD_CONFIG",
    required=True,
    help="Configuration with the keys.",
)
@click.option("--key", "chosen", help="One key only.")
def policy(*, config_path: Path, chosen: str | None) -> None:
    """Print the smallest rights that each key needs, in the language of its KMS."""
    from keystead.registry import provider_class

    config = _read(config_path)
    keys = [key for key in config.keys if chosen in (None, key.name)]
    if not keys:
        raise click.BadParameter(f"is no key of {config_path}", param_hint="--key")
    labels = [config.cluster, *config.accept_clusters]
    for number, key in enumerate(keys):
        text = provider_class(key.provider)(key).policy(labels)
        said = text if text is not None else f"# Key {key.name}: the provider {key.provider} has no policies.\n"
        click.echo(("\n" if number else "") + said, nl=False)


@click.command()
@click.option(
    "--form",
    type=click.Choice(["plain", "operator"]),
    default="plain",
    show_default=True,
    help="plain: a file of rules; operator: a PrometheusRule.",
)
@click.option("--job", default="keystead", show_default=True, help="Name of the scrape job.")
@click.option(
    "--runbooks", default="docs/alerts/", show_default=True, help="What stands before a page's name in runbook_url."
)
def alerts(*, form: str, job: str, runbooks: str) -> None:
    """Print alerts for Prometheus. docs/alerts has a page for each."""
    from keystead.operate.monitoring.alerts import prometheus_rule, rules

    if not re.fullmatch(r"[A-Za-z0-9_./-]+", job):
        raise click.BadParameter("should be a name without quotes and spaces", param_hint="--job")
    if not re.fullmatch(r"[!-~]+", runbooks):
        raise click.BadParameter("should be an address or a path without spaces", param_hint="--runbooks")
    click.echo((rules if form == "plain" else prometheus_rule)(job, runbooks), nl=False)


@click.command()
def dashboard() -> None:
    """Print a dashboard to be imported by Grafana."""
    from keystead.operate.monitoring.dashboard import dashboard as text

    click.echo(text(), nl=False)


COMMANDS = (static_pod, systemd, sidecar, daemonset, kubeadm, encryption_config, policy, alerts, dashboard)


def _place(config_path: Path | None, image: str | None, user: int) -> Place:
    from keystead.operate.deploy.place import IMAGE, Place, of

    if config_path is None:
        return Place(image=image or IMAGE, user=user)
    place = of(_read(config_path), config_path.absolute(), image or IMAGE, user)
    if not place.sockets:
        raise click.UsageError(f"{config_path} has no socket that is a file, which another container could see")
    return place


def _read(path: Path) -> Configuration:
    from keystead.config import ConfigInvalid, load

    try:
        return load(path)
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(f"keystead: {problem}", err=True)
        sys.exit(INVALID)
