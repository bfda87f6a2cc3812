"""`keystead config`: answers and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keystead import registry
from keystead.cli.config import config_group
from keystead.errors import ConfigError
from keystead.provider import Provider


class Installed:
    """The registry of the tests: two providers that work, one that does not."""

    def __init__(self, providers: dict[str, type[Provider[Any]]]) -> None:
        self.providers = providers

    def names(self) -> list[registry.Installed]:
        return [registry.Installed(name, "keystead-toys", "1.0", "toys:Toy") for name in [*self.providers, "broken"]]

    def provider_class(self, name: str) -> type[Provider[Any]]:
        if name not in self.providers:
            raise ConfigError(f"provider {name} (keystead-toys 1.0): toys does not import: No module named 'sdk'")
        return self.providers[name]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, providers: dict[str, type[Provider[Any]]]) -> None:
    installed = Installed(providers)
    monkeypatch.setattr(registry, "names", installed.names)
    monkeypatch.setattr(registry, "provider_class", installed.provider_class)
    monkeypatch.delenv("KEYSTEAD_CONFIG", raising=False)
    monkeypatch.delenv("KEYSTEAD_CONFIG_INLINE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(config_group, arguments, env=env)


@pytest.fixture
def clean(minimal: str) -> str:
    text = minimal.replace("kind:", "stateDir: /s\ncluster: c\nkind:")
    local = "provider: local, keyFile: /etc/keystead/lab.key"
    assert local in text
    return text.replace(local, "provider: acmekms, address: a, auth: {method: token, tokenFile: /t}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_lint_of_a_clean_file_exits_0(file: Path, clean: str) -> None:
    file.write_text(clean)
    result = run("lint", "--config", str(file), "--strict")
    assert (result.exit_code, result.output) == (0, f"{file}: valid, 0 warnings\n")


def test_lint_prints_every_problem_and_exits_2(file: Path, clean: str) -> None:
    file.write_text(clean.replace("epoch: 1", "epoch: 0\n  epoc: 1"))
    result = run("lint", "--config", str(file))
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"{file}:10:10: endpoints[0].epoch: should be greater than or equal to 1",
        f"{file}:11:3: endpoints[0].epoc: unknown field (did you mean 'epoch'?)",
        f"{file}: 2 problems",
    ]


def test_lint_exits_1_for_warnings_with_strict_only(file: Path, clean: str) -> None:
    file.write_text(clean.replace("/run/keystead", "/tmp"))
    result = run("lint", "--config", str(file))
    first, second = result.output.splitlines()
    assert result.exit_code == 0
    assert first.startswith(f"{file}:9:11: warning: endpoints[0].socket: is in a directory where every user")
    assert second == f"{file}: valid, 1 warning"
    assert run("lint", "--strict", "--config", str(file)).exit_code == 1


def test_lint_answers_in_json(file: Path, clean: str) -> None:
    file.write_text(clean.replace("epoch: 1", "epoch: 0"))
    result = run("lint", "-o", "json", "--config", str(file))
    assert result.exit_code == 2
    assert json.loads(result.output) == {
        "valid": False,
        "findings": [
            {
                "severity": "error",
                "message": "should be greater than or equal to 1",
                "path": "endpoints[0].epoch",
                "source": str(file),
                "line": 10,
                "column": 10,
            }
        ],
    }
    file.write_text(clean.replace("/run/keystead", "/tmp"))
    answer = json.loads(run("lint", "-o", "json", "--config", str(file)).output)
    assert answer["valid"] is True
    assert [(one["severity"], one["path"]) for one in answer["findings"]] == [("warning", "endpoints[0].socket")]


def test_lint_takes_flag_then_file_then_inline_text_then_the_default(file: Path, clean: str) -> None:
    file.write_text(clean)
    flag, environment, inline = str(file), {"KEYSTEAD_CONFIG": str(file)}, {"KEYSTEAD_CONFIG_INLINE": "a: 1"}
    assert run("lint", "--config", flag, env={"KEYSTEAD_CONFIG": "/no", **inline}).exit_code == 0
    assert run("lint", env=environment | inline).exit_code == 0
    result = run("lint", env=inline)
    assert result.exit_code == 2
    assert result.output.startswith("KEYSTEAD_CONFIG_INLINE:1:1: ")
    assert run("lint").output.startswith("/etc/keystead/config.yaml")


def test_lint_reports_a_provider_that_does_not_import(file: Path, clean: str) -> None:
    file.write_text(clean.replace("acmekms", "broken"))
    result = run("lint", "--config", str(file))
    assert result.exit_code == 2
    assert "keys[0].provider: provider broken (keystead-toys 1.0): toys does not import" in result.output


def test_schema_is_json_and_a_broken_provider_is_left_out_aloud() -> None:
    result = run("schema")
    assert result.exit_code == 0
    alternatives = json.loads(result.stdout)["properties"]["keys"]["items"]["oneOf"]
    assert alternatives == [{"$ref": "#/$defs/acmekms"}, {"$ref": "#/$defs/local"}]
    assert result.stderr == (
        "keystead: left out: provider broken (keystead-toys 1.0): toys does not import: No module named 'sdk'\n"
    )


def test_explain_describes_one_field() -> None:
    result = run("explain", "endpoints.localKEK.maxAge")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:4] == [
        "FIELD: endpoints.localKEK.maxAge <duration>",
        'Default: "720h"',
        "",
        "  Duration, at least 1h. Make a new local KEK when the one in use is older, give",
    ]
    assert run("explain", "endpoints[0].localKEK.maxAge").stdout == result.stdout


def test_explain_lists_the_fields_below_one() -> None:
    lines = run("explain", "keys.local").stdout.splitlines()
    assert lines[:4] == ["FIELD: keys.local <mapping>", "Optional.", "", "  A file."]
    assert [line for line in lines if line.startswith("  ") and "<" in line] == [
        "  name <text> required",
        "  provider <local> required",
        "  version <text>",
        "  limits <mapping>",
        "  keyFile <path> required",
    ]


def test_explain_without_a_path_shows_the_whole_tree() -> None:
    lines = run("explain").stdout.splitlines()
    assert lines[0] == "apiVersion <config.keystead.dev/v1alpha1> required"
    assert '    maxAge <duration> default "720h"' in lines
    assert "      tokenFile <path> required" in lines
    assert len(lines) == 60


def test_explain_of_an_unknown_path_exits_2_with_a_suggestion() -> None:
    result = run("explain", "endpoints.maxAge")
    assert result.exit_code == 2
    assert "no field 'endpoints.maxAge' (did you mean 'endpoints.localKEK.maxAge'?)" in result.stderr
    assert "did you mean" not in run("explain", "zzzzzz").stderr
