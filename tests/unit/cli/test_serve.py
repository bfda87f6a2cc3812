"""`keystead serve`: which of its forms was meant, and what a wrong mixture is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from keystead.cli import main
from keystead.cli import serve as command
from keystead.config import Configuration
from keystead.server.reload import Source


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """What `serve` would have served, as it loads it."""
    seen: list[Configuration] = []

    def stop_here(source: Source, **_: object) -> int:
        seen.append(source.load())
        return 0

    monkeypatch.setattr(command, "_run", stop_here)
    return seen


FILELESS = ["--socket", "unix:///run/k/s", "--provider", "local", "--set", "keyFile=/etc/k/lab.key"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dev", "--config", "x.yaml"], "give one of --config, --dev, or --socket with --provider"),
        (["--dev", *FILELESS], "give one of"),
        (["--config", "x.yaml", *FILELESS], "give one of"),
        (["--socket", "unix:///run/k/s"], "belong together"),
        (["--provider", "local"], "belong together"),
        ([*FILELESS, "--set", "keyFile"], "write FIELD=VALUE"),
        ([*FILELESS, "--kms-version", "v3"], "'v3' is not one of"),
        ([*FILELESS, "--epoch", "two"], "not a valid integer"),
        (["surplus"], "unexpected extra argument"),
    ],
)
def test_a_wrong_mixture_is_a_usage_error(arguments: list[str], message: str) -> None:
    outcome = CliRunner().invoke(main, ["serve", *arguments])
    assert outcome.exit_code == 2
    assert message in outcome.output


def test_flags_make_a_configuration_without_a_file(loaded: list[Configuration]) -> None:
    extra = ["--cluster", "c1", "--epoch", "3", "--state-dir", "/var/lib/k", "--http", "127.0.0.1:9999"]
    versions = ["--kms-version", "v1beta1", "--kms-version", "v2"]
    outcome = CliRunner().invoke(main, ["serve", *FILELESS, *extra, *versions])
    assert outcome.exit_code == 0, outcome.output
    (config,) = loaded
    (endpoint,) = config.endpoints
    assert endpoint.socket.path == Path("/run/k/s")
    assert endpoint.epoch == 3
    assert endpoint.kms_versions == ("v1beta1", "v2")
    assert config.cluster == "c1"
    assert config.state_dir == Path("/var/lib/k")
    assert config.observability.http.address == "127.0.0.1:9999"
    assert config.keys[0].provider == "local"


def test_the_environment_makes_the_same_configuration(loaded: list[Configuration]) -> None:
    environment = {
        "KEYSTEAD_SOCKET": "unix:///@k",
        "KEYSTEAD_PROVIDER": "local",
        "KEYSTEAD_KEY": "keyFile=/etc/k/lab.key",
        "KEYSTEAD_CLUSTER": "c1",
        "KEYSTEAD_EPOCH": "4",
        "KEYSTEAD_STATE_DIR": "/var/lib/k",
        "KEYSTEAD_HTTP": "127.0.0.1:9998",
    }
    outcome = CliRunner().invoke(main, ["serve"], env=environment)
    assert outcome.exit_code == 0, outcome.output
    (config,) = loaded
    assert config.endpoints[0].socket.abstract == "k"
    assert config.endpoints[0].epoch == 4
    assert config.endpoints[0].kms_versions == ("v2",)
    assert (config.cluster, config.state_dir) == ("c1", Path("/var/lib/k"))
    assert config.observability.http.address == "127.0.0.1:9998"


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("keyFile='/etc/my keys/lab.key'", "/etc/my keys/lab.key"),
        ('"keyFile=/etc/my keys/lab.key" name=k', "/etc/my keys/lab.key"),
        (r"keyFile=/etc/my\ keys/lab.key", "/etc/my keys/lab.key"),
    ],
)
def test_a_path_in_the_variable_may_have_spaces_as_in_a_shell(
    loaded: list[Configuration], variable: str, path: str
) -> None:
    environment = {"KEYSTEAD_SOCKET": "unix:///@k", "KEYSTEAD_PROVIDER": "local", "KEYSTEAD_KEY": variable}
    outcome = CliRunner().invoke(main, ["serve"], env=environment)
    assert outcome.exit_code == 0, outcome.output
    assert str(loaded[0].keys[0].model_dump()["keyFile"]) == path


def test_a_quote_that_is_left_open_is_a_usage_error(loaded: list[Configuration]) -> None:
    environment = {"KEYSTEAD_SOCKET": "unix:///@k", "KEYSTEAD_PROVIDER": "local", "KEYSTEAD_KEY": "keyFile='/etc"}
    outcome = CliRunner().invoke(main, ["serve"], env=environment)
    assert outcome.exit_code == 2
    assert "KEYSTEAD_KEY: No closing quotation" in outcome.output


def test_without_a_file_there_is_no_http_unless_asked_for(loaded: list[Configuration]) -> None:
    assert CliRunner().invoke(main, ["serve", *FILELESS]).exit_code == 0
    assert loaded[0].observability.http.address == ""


def test_the_file_comes_from_the_flag_the_environment_or_inline(loaded: list[Configuration], tmp_path: Path) -> None:
    text = (
        "apiVersion: config.keystead.dev/v1alpha1\nkind: KeysteadConfiguration\ncluster: NAME\n"
        "keys: [{name: lab, provider: local, keyFile: /etc/k/lab.key}]\n"
        "endpoints: [{name: main, socket: 'unix:///run/k/s', epoch: 1, members: [{key: lab, stage: active}]}]\n"
    )
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("NAME", "file"))
    inline = {"KEYSTEAD_CONFIG_INLINE": text.replace("NAME", "inline")}
    runner = CliRunner()
    for arguments, environment in (
        (["--config", str(file)], {}),
        ([], {"KEYSTEAD_CONFIG": str(file)}),
        ([], inline),
        (["--config", str(file)], inline),
    ):
        outcome = runner.invoke(main, ["serve", *arguments], env=environment)
        assert outcome.exit_code == 0, outcome.output
    assert [config.cluster for config in loaded] == ["file", "file", "inline", "file"]


def test_dev_makes_a_key_that_only_the_user_can_read_and_keeps_it(loaded: list[Configuration], tmp_path: Path) -> None:
    for _ in range(2):
        outcome = CliRunner().invoke(main, ["serve", "--dev"], env={"KEYSTEAD_DEV_DIR": str(tmp_path)})
        assert outcome.exit_code == 0, outcome.output
    key_file = tmp_path / "dev.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert len(key_file.read_bytes()) == 32
    assert [config.endpoints[0].kms_versions for config in loaded] == [("v2", "v1beta1")] * 2
    assert loaded[0].endpoints[0].socket.uri == f"unix://{tmp_path}/kms.sock"
