"""kube-apiserver's EncryptionConfiguration against the plugin's: every mistake with its line, and no false alarm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from keystead.cli import main
from keystead.config import ConfigInvalid, Configuration, load_text
from keystead.config.encryption import judge

GOOD = """\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms:
      apiVersion: v2
      name: keystead
      endpoint: unix:///run/keystead/kms.sock
      timeout: 3s
"""

OURS = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
keys: [{name: a, provider: local, keyFile: /etc/keystead/a.key}]
endpoints:
- {name: main, socket: 'unix:///run/keystead/kms.sock', epoch: 1, members: [{key: a, stage: active}]}
"""


@pytest.fixture
def ours() -> Configuration:
    return load_text(OURS, "config.yaml")


def test_a_file_that_fits_has_nothing_to_say(ours: Configuration) -> None:
    judged = judge(GOOD, "e.yaml", ours)
    assert (judged.problems, judged.warnings) == ([], [])
    assert judge(GOOD.replace("unix:///run", "unix:/run"), "e.yaml", ours).warnings == []
    assert judge(GOOD.replace("      timeout: 3s\n", ""), "e.yaml", ours).problems == []


PROBLEMS = [
    ("unix:///run/keystead", "unix://run/keystead", "9:17", "takes the first segment, 'run', for a host name"),
    ("unix:///run/keystead", "unix:run/keystead", "9:17", "should begin with unix:///"),
    ("unix:///run/keystead/kms.sock", "tcp://1.2.3.4:5", "9:17", "should begin with unix:///"),
    ("name: keystead", "name: key:stead", "8:13", "has a ':'"),
    ("name: keystead", 'name: ""', "8:13", "should be a name"),
    ("timeout: 3s", "timeout: 0s", "10:16", "should be more than 0"),
    ("timeout: 3s", "timeout: 3", "10:16", "should be a duration"),
    ("timeout: 3s", "cachesize: 100", "10:18", "is refused with v2"),
    ("timeout: 3s", "timeuot: 3s", "10:7", "unknown field (did you mean 'timeout'?)"),
    ("apiVersion: v2", "apiVersion: v3", "7:19", "should be v2"),
    ("apiVersion: v2", "apiVersion: v1", "9:17", "the endpoint main does not serve KMS v1: its kmsVersions are v2"),
    ("- kms:", "- kmss:", "6:5", "unknown field (did you mean 'kms'?)"),
    ("kind: EncryptionConfiguration", "kind: EncryptionConfig", "2:7", "should be EncryptionConfiguration"),
    ("config.k8s.io/v1", "config.k8s.io/v2", "1:13", "should be apiserver.config.k8s.io/v1"),
    ("resources: [secrets]", "resources: []", "4:14", "should be a list such as [secrets]"),
    ("- resources: [secrets]", "- resource: [secrets]", "4:3", "unknown field"),
]


@pytest.mark.parametrize(("old", "new", "place", "message"), PROBLEMS)
def test_what_cannot_work_is_named_with_its_line(
    ours: Configuration, old: str, new: str, place: str, message: str
) -> None:
    assert old in GOOD
    texts = [str(problem) for problem in judge(GOOD.replace(old, new), "e.yaml", ours).problems]
    assert any(text.startswith(f"e.yaml:{place}: ") and message in text for text in texts), texts


WARNINGS = [
    ("[secrets]", "['*.*']", "4:15", "ends and starts anew"),
    ("[secrets]", "[secrets, '*.']", "4:24", "ends and starts anew"),
    ("timeout: 3s", "timeout: 1s", "10:16", "answers within 2.5 s"),
    ("  - kms:", "  - identity: {}\n  - kms:", "6:5", "new objects are written in plaintext"),
    ("  - kms:", "  - aescbc: {keys: [{name: k, secret: c2VjcmV0}]}\n  - kms:", "6:5", "written with aescbc"),
    ("timeout: 3s\n", "timeout: 3s\n  - identity: {}\n", "11:5", "is left, so plaintext"),
    ("/kms.sock", "/kmz.sock", "9:17", "did you mean '/run/keystead/kms.sock'?"),
    ("/kms.sock", "/kmz.sock", "1:1", "no entry uses the endpoint main"),
    ("      apiVersion: v2\n", "", "7:7", "is not set, and that means KMS v1"),
]


@pytest.mark.parametrize(("old", "new", "place", "message"), WARNINGS)
def test_what_deserves_a_second_look_is_a_warning_with_its_line(
    ours: Configuration, old: str, new: str, place: str, message: str
) -> None:
    assert old in GOOD
    texts = [str(warning) for warning in judge(GOOD.replace(old, new), "e.yaml", ours).warnings]
    assert any(text.startswith(f"e.yaml:{place}: ") and message in text for text in texts), texts
    assert "c2VjcmV0" not in str(texts)


def test_one_name_cannot_stand_for_two_providers(ours: Configuration) -> None:
    second = GOOD.partition("resources:\n")[2].replace("secrets", "configmaps")
    (problem,) = judge(GOOD + second, "e.yaml", ours).problems
    assert "'keystead' is the name of another kms provider too" in str(problem)
    assert problem.line == 15
    assert judge(GOOD + second.replace("keystead\n", "other\n"), "e.yaml", ours).problems == []


def test_v1_beside_v2_is_right_for_an_endpoint_that_serves_both() -> None:
    both = load_text(OURS.replace("epoch: 1,", "epoch: 1, kmsVersions: [v2, v1beta1],"), "config.yaml")
    first = "  - kms: {apiVersion: v1, name: old, endpoint: 'unix:///run/keystead/kms.sock', cachesize: -1}\n"
    judged = judge(GOOD + first, "e.yaml", both)
    assert judged.problems == []
    assert [warning.message for warning in judged.warnings if "feature-gates=KMSv1=true" in warning.message]
    assert judge(GOOD + first.replace("-1", "0"), "e.yaml", both).problems


def test_an_abstract_socket_is_found_by_its_name() -> None:
    ours = load_text(OURS.replace("unix:///run/keystead/kms.sock", "unix:///@k"), "config.yaml")
    assert judge(GOOD.replace("unix:///run/keystead/kms.sock", "unix:///@k"), "e.yaml", ours).warnings == []


def test_without_a_configuration_the_file_is_checked_alone() -> None:
    judged = judge(GOOD.replace("/kms.sock", "/other.sock"), "e.yaml", None)
    assert (judged.problems, judged.warnings) == ([], [])


HOSTILE = [
    "[]", "1", "resources: 1", "resources: [1]", "resources: [{providers: 1}]", "resources: [{providers: [1]}]",
    "resources: [{providers: [{kms: 1}]}]", "resources: [{providers: [{kms: {endpoint: [], name: {}, timeout: {}}}]}]",
    "resources: [{providers: [{kms: {apiVersion: []}}]}]", "resources: [{resources: [[], {}], providers: [{}]}]",
    "resources: [{providers: [{kms: {}, identity: {}}]}]", "kms: {1: 2}",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_any_shape_is_a_problem_and_no_crash(ours: Configuration, text: str) -> None:
    assert judge(text, "e.yaml", ours).problems


@pytest.mark.parametrize("text", ["", "{", "a: &x 1", "\x00"])
def test_what_is_not_yaml_is_refused_as_the_configuration_is(ours: Configuration, text: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"e\.yaml"):
        judge(text, "e.yaml", ours)


def test_lint_reports_both_files(tmp_path: Path) -> None:
    config, encryption = tmp_path / "config.yaml", tmp_path / "encryption.yaml"
    config.write_text(OURS)
    encryption.write_text(GOOD)
    lint = ["config", "lint", "--config", str(config), "--encryption-config", str(encryption)]
    result = CliRunner().invoke(main, lint)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith(f"{config} and {encryption}: valid, ")
    encryption.write_text(GOOD.replace("unix:///", "unix://"))
    result = CliRunner().invoke(main, lint)
    assert result.exit_code == 2
    assert f"{encryption}:9:17: resources[0].providers[0].kms.endpoint: kube-apiserver takes" in result.output
    encryption.unlink()
    result = CliRunner().invoke(main, [*lint, "-o", "json"])
    assert result.exit_code == 2
    (error,) = [one for one in json.loads(result.output)["findings"] if one["severity"] == "error"]
    assert error["source"] == str(encryption)
    config.write_text("{")
    encryption.write_text(GOOD.replace("timeout: 3s", "timeout: 0s"))
    result = CliRunner().invoke(main, lint)
    assert [line for line in result.output.splitlines() if line.startswith(f"{encryption}:10:16")]
    assert [line for line in result.output.splitlines() if line.startswith(str(config))]
