"""The files of deploy/: what `keystead generate` prints, for those who have no keystead at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner

from keystead.cli import main

ROOT = Path(__file__).parents[2]
EXAMPLES: dict[str, Sequence[str]] = {
    "static-pod.yaml": ["static-pod"],
    "static-pod-non-root.yaml": ["static-pod", "--user", "65532"],
    "daemonset.yaml": ["daemonset"],
    "sidecar.yaml": ["sidecar"],
    "keystead.service": ["systemd"],
    "kubeadm.yaml": ["kubeadm"],
    "alerts.yaml": ["alerts"],
    "prometheus-rule.yaml": ["alerts", "--form", "operator"],
    "dashboard.json": ["dashboard"],
    "encryption-config-1.yaml": ["encryption-config", "--stage", "1"],
    "encryption-config-2.yaml": ["encryption-config", "--stage", "2"],
    "encryption-config-3.yaml": ["encryption-config", "--stage", "3"],
}
"""File to the words after `keystead generate`."""


def printed(words: Sequence[str]) -> str:
    """What `keystead generate WORDS` prints."""
    outcome = CliRunner().invoke(main, ["generate", *words], env={"KEYSTEAD_CONFIG": None})
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout
