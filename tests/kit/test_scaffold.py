"""`keystead provider new` makes a package whose tests pass, and `update` brings fixes without losing work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from keystead.cli import main
from keystead.testing import scaffold

RULES_ABOVE_SILVER = {"KS-R095"}


def keystead(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["provider", *arguments])
    return result.exit_code, result.output


def installed(package: Path, name: str) -> dict[str, str]:
    """The environment in which a package counts as installed, as `pip install -e` would have it."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = package / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    entry = project["entry-points"]["keystead.providers"][name]
    (info / "entry_points.txt").write_text(f"[keystead.providers]\n{name} = {entry}\n")
    return os.environ | {"PYTHONPATH": str(package / "src")}


def made(name: str, package: Path) -> dict[str, str]:
    """Make a package, and return the environment in which it counts as installed."""
    code, said = keystead("new", name, "--directory", str(package))
    assert code == 0, said
    assert "pip install -e '.[test]' && pytest" in said
    return installed(package, name)


def report_of(package: Path, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Run its tests, as they are, and return the report."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--keystead-report", "report.json", *arguments]
    ran = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    (report,) = json.loads((package / "report.json").read_text())
    return dict(report)


@pytest.mark.parametrize("name", ["acme", "umbrella-kms2"])
def test_a_new_package_keeps_the_rules_as_it_is(name: str, tmp_path: Path) -> None:
    """Those of the declaration, of wrapping and of damaged wraps. All of them, which takes longer, are tried below."""
    environment = made(name, tmp_path / "made")
    report = report_of(tmp_path / "made", environment, "-k", "KS-R00 or KS-R01 or KS-R02 or KS-R03")
    assert report["provider"] == name
    assert {one["verdict"] for one in report["rules"]} == {"passed"}
    assert len(report["rules"]) > 30
    info = [str(Path(sys.executable).with_name("keystead")), "provider", "info", name]
    told = subprocess.run(info, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"keystead-{name} 0.1.0" in told
    assert "Silver, as its authors claim" in told
    assert "tokenFile" in told


@pytest.mark.slow
def test_a_new_package_shows_silver_as_it_is(tmp_path: Path) -> None:
    report = report_of(tmp_path / "made", made("acme", tmp_path / "made"))
    assert (report["provider"], report["tier"], report["claimed"]) == ("acme", "Silver", "Silver")
    assert {one["rule"] for one in report["rules"] if one["verdict"] == "not shown"} == RULES_ABOVE_SILVER


def test_no_name_of_the_template_is_left_over(tmp_path: Path) -> None:
    for path, content in scaffold.render("umbrella-kms2"):
        assert "acme" not in (path + content).lower(), path
    assert dict(scaffold.render("acme"))["src/keystead_acme/__init__.py"].startswith('"""Acme KMS')


@pytest.mark.parametrize("name", ["", "Acme", "acme-", "a" * 33, "../x", "1acme", "acme_kms", "acme kms"])
def test_a_name_that_no_record_could_carry_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(scaffold.ScaffoldError, match="cannot be a provider's name"):
        scaffold.create(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_is_written_into_a_directory_that_has_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    code, said = keystead("new", "acme", "--directory", str(tmp_path))
    assert code == 2
    assert "is not an empty directory" in said
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_update_replaces_what_was_not_touched_and_lays_the_rest_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made"
    scaffold.create("acme", package)
    assert scaffold.update(package) == []
    changed = package / "src/keystead_acme/__init__.py"
    changed.write_text("# mine\n")
    (package / "CHANGELOG.md").unlink()
    original = dict(scaffold.render("acme"))
    newer = {path: content + "# a fix\n" for path, content in original.items()} | {"SECURITY.md": "new\n"}
    monkeypatch.setattr(scaffold, "render", lambda _: iter(newer.items()))

    said = {change.path: change.what for change in scaffold.update(package)}

    assert said["src/keystead_acme/__init__.py"] == "kept, as you changed it; the new one is __init__.py.new"
    assert said["CHANGELOG.md"] == "left out, as you removed it"
    assert said["SECURITY.md"] == "added"
    assert said["pyproject.toml"] == "replaced"
    assert changed.read_text() == "# mine\n"
    assert changed.with_name("__init__.py.new").read_text() == newer["src/keystead_acme/__init__.py"]
    assert not (package / "CHANGELOG.md").exists()
    assert (package / "pyproject.toml").read_text().endswith("# a fix\n")
    assert scaffold.update(package) == [], "what was said once is not said again"


def test_only_what_was_made_here_is_updated(tmp_path: Path) -> None:
    code, said = keystead("update", str(tmp_path))
    assert code == 2
    assert "can be updated" in said
    (tmp_path / scaffold.RECORD).write_text('{"name": "../x", "files": {}}')
    assert "has no name of a provider" in keystead("update", str(tmp_path))[1]


def test_list_and_info_say_where_a_provider_comes_from(tmp_path: Path) -> None:
    code, said = keystead("list", "-o", "json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(said)}
    assert rows["vault-transit"] == {
        "name": "vault-transit",
        "distribution": "keystead",
        "version": rows["local"]["version"],
        "tier": "Silver",
    }
    code, said = keystead("info", "local", "-o", "json")
    about = json.loads(said)
    assert (code, about["api"], about["speaks"], about["tier"]) == (0, 1, [1], "Bronze")
    assert about["capabilities"]["binds_context"] is True
    assert about["schema"]["properties"]["keyFile"]
    code, said = keystead("info", "acme")
    assert code == 1
    assert re.search(
        r"no provider 'acme' is installed; installed: .*local.*; install the package .*keystead-acme", said
    )


def test_rules_are_listed_and_explained() -> None:
    code, said = keystead("rules")
    assert code == 0
    assert len(said.splitlines()) > 60
    code, said = keystead("rules", "ks-r030")
    assert "why    kube-apiserver keeps" in said
    assert "fix    Map what the SDK raises" in said
    assert keystead("rules", "KS-R999")[0] == 2
