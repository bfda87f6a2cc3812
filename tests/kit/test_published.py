"""The rules about installed distributions, and what pytest says and reports, on packages that a test installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from keystead.testing.provider_rules import BOOK

ADAPTER = """
import os
{imports}
from typing import Literal
from keystead.provider import KEK_SIZE, Capabilities, InvalidCiphertext, Provider, ProviderConfig, Wrapped

class Config(ProviderConfig):
    provider: Literal["toy"]

class Toy(Provider[Config]):
    '''Wraps by adding a constant, which binds nothing and authenticates with a checksum.'''

    api = 1
    config_type = Config
    capabilities = Capabilities(binds_context=False, has_versions=False, authenticated_wrap=False, max_blob=64)

    def open(self, deadline): return "toy-key"
    def current_version(self, deadline): return ""
    def wrap(self, kek, context, version, deadline):
        import hashlib
        hidden = bytes((one + 77) % 256 for one in kek)
        return Wrapped(hidden + hashlib.sha256(b"toy" + hidden).digest(), "")
    def unwrap(self, blob, context, version, deadline):
        import hashlib
        if {check}:
            raise InvalidCiphertext("the checksum does not match")
        return bytes((one - 77) % 256 for one in blob[:KEK_SIZE])
    def close(self): pass
"""
CHECK = 'hashlib.sha256(b"toy" + blob[:KEK_SIZE]).digest() != blob[KEK_SIZE:]'
TEST = """
import pytest
from keystead.testing import ProviderSuite
from keystead_toy import Config, Toy

class TestToy(ProviderSuite):
    @pytest.fixture
    def provider(self):
        return Toy(Config(name="k", provider="toy"))
"""


class Package:
    """A distribution on the path, and a directory to run its tests in."""

    def __init__(self, site: Path) -> None:
        self.site = site
        (site / "keystead_toy").mkdir()
        self.write()
        self.publish("toy = keystead_toy:Toy")
        (site / "test_toy.py").write_text(TEST)

    def write(self, imports: str = "", check: str = CHECK) -> None:
        (self.site / "keystead_toy/__init__.py").write_text(ADAPTER.format(imports=imports, check=check))

    def publish(self, line: str) -> None:
        info = self.site / "keystead_toy-0.1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: keystead-toy\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[keystead.providers]\n{line}\n")

    def quality(self, text: str) -> None:
        (self.site / "keystead_toy/quality.yaml").write_text(text)

    def test(self, *arguments: str, what: str = "test_toy.py") -> subprocess.CompletedProcess[str]:
        # Other plugins of this environment are left out, since they take most of the time of such a short run.
        plugins = ["-p", "keystead.testing.pytest_plugin", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *plugins, what, *arguments]
        environment = os.environ | {
            "PYTHONPATH": str(self.site),
            "COLUMNS": "160",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        return subprocess.run(command, cwd=self.site, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


def test_a_test_file_of_eight_lines_shows_bronze_and_says_what_silver_needs(package: Package) -> None:
    ran = package.test("--keystead-report", "report.json", "--junitxml", "junit.xml")
    assert ran.returncode == 0, ran.stdout
    assert "toy: Bronze (" in ran.stdout
    assert "for Silver: KS-R014" in ran.stdout
    (report,) = json.loads((package.site / "report.json").read_text())
    assert report["tier"] == "Bronze"
    assert report["complete"] is True
    assert report["counts"]["not applicable"] >= 5, "binds_context, has_versions and authenticated_wrap are off"
    assert len(report["rules"]) == len(BOOK.rules)
    cases = ET.parse(package.site / "junit.xml").findall(".//testcase")
    properties = [{one.get("name"): one.get("value") for one in case.iter("property")} for case in cases]
    assert len(properties) == len(BOOK.rules)
    assert {one["keystead.verdict"] for one in properties} == {"passed", "not applicable", "not shown"}


def test_a_broken_rule_says_what_to_do_and_how_to_see_it_again(package: Package) -> None:
    package.write(check="len(blob) != 64")
    ran = package.test("-k", "KS-R030")
    assert ran.returncode == 1
    message = ran.stdout[ran.stdout.index("KS-R030 broken") :]
    for line in (
        "KS-R030 broken: A blob with any bit flipped is refused as InvalidCiphertext.",
        "  provider   toy (keystead_toy.Toy, api 1)",
        "  expected   unwrap with bit 0 of byte 0 flipped raises InvalidCiphertext",
        "  got        an answer (32 bytes, bytes)",
        "  why        kube-apiserver keeps whatever Decrypt returns",
        "  fix        Map what the SDK raises",
        "  docs       docs/vendors/rules.md#ks-r030, or: keystead provider rules KS-R030",
        "  reproduce  pytest 'test_toy.py::TestToy::test_rule[KS-R030-flipped-blob]'",
    ):
        assert line in message, ran.stdout
    assert "Traceback" not in ran.stdout
    assert f"no tier, for 1 of {len(BOOK.rules)} rules ran" in ran.stdout
    node = message.partition("reproduce  pytest '")[2].partition("'")[0]
    assert "1 failed" in package.test(what=node).stdout


def test_ks_r002_catches_an_entry_point_that_is_missing_misnamed_or_leads_elsewhere(package: Package) -> None:
    for line, got in (
        ("other = keystead_toy:Toy", "0: -"),
        ("toy = keystead_toy:Config", "is not a subclass"),
    ):
        package.publish(line)
        ran = package.test("-k", "KS-R002")
        assert ran.returncode == 1, line
        assert got in ran.stdout, ran.stdout


def test_ks_r007_catches_an_sdk_that_is_imported_at_the_top(package: Package) -> None:
    assert package.test("-k", "KS-R007").returncode == 0
    package.write(imports="import hypothesis")
    ran = package.test("-k", "KS-R007")
    assert ran.returncode == 1
    assert "imports of" in ran.stdout
    assert "hypothesis" in ran.stdout


def test_a_claim_that_a_whole_run_did_not_show_fails_the_run(package: Package) -> None:
    package.quality("kit: 1\nproviders:\n  toy: {tier: silver}\n")
    ran = package.test()
    assert ran.returncode == 1, "although each test passed or was skipped"
    assert "failed" not in ran.stdout.splitlines()[-1]
    assert "the quality file claims Silver: this run has not shown it" in ran.stdout
    assert package.test("-k", "KS-R020").returncode == 0, "a part of the rules judges no claim"


def test_an_exemption_needs_a_reason_and_a_rule_above_bronze(package: Package) -> None:
    package.quality("kit: 1\nproviders:\n  toy:\n    exempt: {KS-R060: there is no remote that could throttle}\n")
    ran = package.test("-k", "KS-R060", "-rs")
    assert ran.returncode == 0
    assert "KS-R060 exempt: there is no remote that could throttle" in ran.stdout
    package.quality("kit: 1\nproviders:\n  toy:\n    exempt: {KS-R060: no}\n")
    assert "at least 12 characters" in package.test("-k", "KS-R060").stdout
    package.quality("kit: 1\nproviders:\n  toy:\n    exempt: {KS-R020: it is only wrong now and then}\n")
    assert "KS-R020 is a rule of Bronze, which has no exemptions" in package.test("-k", "KS-R020").stdout
    package.quality("kit: 1\nproviders:\n  other: {tier: gold}\n")
    assert "has nothing for 'toy'; it has other" in package.test("-k", "KS-R020").stdout


def test_ks_r009_and_r095_hold_the_quality_file_to_its_word(package: Package) -> None:
    package.quality("kit: 1\nproviders:\n  toy: {documentation: toy.md, signed: '   '}\n")
    assert "no such file" in package.test("-k", "KS-R009").stdout
    (package.site / "toy.md").write_text("# toy\n")
    ran = package.test("-k", "KS-R009")
    assert ran.returncode == 0, ran.stdout
    source = (package.site / "keystead_toy/__init__.py").read_text()
    field = '    provider: Literal["toy"]\n    region: str = "eu"\n'
    (package.site / "keystead_toy/__init__.py").write_text(source.replace('    provider: Literal["toy"]\n', field))
    assert "nothing about region" in package.test("-k", "KS-R009").stdout
    assert "not shown" in package.test("-k", "KS-R095", "-rs").stdout
    package.quality("kit: 1\nproviders:\n  toy: {signed: 'minisign -Vm keystead_toy.whl'}\n")
    assert "1 passed" in package.test("-k", "KS-R095").stdout


def test_a_suite_without_a_fixture_says_so(package: Package) -> None:
    test = (package.site / "test_toy.py").read_text()
    (package.site / "test_toy.py").write_text(test.partition("    @pytest.fixture")[0] + "    pass\n")
    ran = package.test("-k", "KS-R020")
    assert "TestToy has no fixture `provider`" in ran.stdout
