"""`keystead generate migration` for each release of Kubernetes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from keystead.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["generate", "migration", *arguments])


def objects(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return [one for one in YAML(typ="safe").load_all(result.stdout) if one]


@pytest.mark.parametrize(
    ("release", "api", "resource"),
    [
        ("1.38", "v1", {"group": "apps", "resource": "deployments"}),
        ("v1.37.2", "v1", {"group": "apps", "resource": "deployments"}),
        ("v1.36.3", "v1beta1", {"group": "apps", "resource": "deployments"}),
        ("1.35", "v1beta1", {"group": "apps", "resource": "deployments"}),
        ("1.34", "v1alpha1", {"group": "apps", "version": "v1", "resource": "deployments"}),
        ("1.30", "v1alpha1", {"group": "apps", "version": "v1", "resource": "deployments"}),
    ],
)
def test_each_release_gets_the_objects_of_its_own_api(release: str, api: str, resource: dict[str, str]) -> None:
    made = objects("--resources", "secrets,deployments.apps", "--kubernetes", release, "--method", "objects")
    assert [one["apiVersion"] for one in made] == [f"storagemigration.k8s.io/{api}"] * 2
    assert [one["kind"] for one in made] == ["StorageVersionMigration"] * 2
    assert [one["metadata"]["generateName"] for one in made] == ["secrets-", "deployments.apps-"]
    assert made[1]["spec"]["resource"] == resource
    assert made[0]["spec"]["resource"]["group"] == ""
    assert len({one["metadata"]["labels"]["keystead.dev/migration"] for one in made}) == 1
    hint = run("--resources", "secrets", "--kubernetes", release, "--method", "objects").stdout
    assert ("feature gate StorageVersionMigrator" in hint) == (api != "v1")


def test_the_version_of_a_custom_resource_can_be_given_for_the_first_api() -> None:
    (made,) = objects("--resources", "pandas.v1beta1.bears.example", "--kubernetes", "1.30", "--method", "objects")
    assert made["spec"]["resource"] == {"group": "bears.example", "version": "v1beta1", "resource": "pandas"}


@pytest.mark.parametrize("arguments", [("--kubernetes", "1.36"), ("--kubernetes", "1.29"), ("--method", "loop")])
def test_where_the_api_is_off_a_loop_of_kubectl_is_printed(arguments: tuple[str, ...], tmp_path: Path) -> None:
    script = run("--resources", "secrets,pandas.bears.example", *arguments).stdout
    assert "for resource in secrets pandas.bears.example; do" in script
    (tmp_path / "loop.sh").write_text(script)
    subprocess.run(["sh", "-n", tmp_path / "loop.sh"], check=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--resources", "secrets;reboot"), "is no resource"),
        (("--resources", "secrets,"), "is no resource"),
        (("--resources", "$(reboot)"), "is no resource"),
        (("--resources", "secrets", "--kubernetes", "2"), "is no version of Kubernetes"),
        (("--resources", "secrets", "--kubernetes", "1.29", "--method", "objects"), "take --method loop"),
        ((), "Missing option"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.output
