"""Every provider that Keystead publishes has a suite here, and says in the quality file what it has shown."""

from __future__ import annotations

import ast
from pathlib import Path

from ruamel.yaml import YAML

from keystead import registry
from keystead.testing import quality

HERE = Path(__file__).parent


def published() -> set[str]:
    return {one.name for one in registry.names() if one.distribution == "keystead"}


def suites() -> dict[str, set[str]]:
    """Names of providers to the classes that test them: `test_aws_kms.py` has the suites of `aws-kms`."""
    found = {}
    for path in HERE.glob("test_*.py"):
        if path != Path(__file__):
            classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
            tests = {node.name for node in classes if node.name.startswith("Test")}
            found[path.stem.removeprefix("test_").replace("_", "-")] = tests
    return found


def test_every_entry_point_of_ours_has_a_suite_of_its_own() -> None:
    assert len(published()) >= 4
    assert suites().keys() == published(), "a provider without a suite, or a suite without a provider"
    assert all(suites().values())


def test_every_entry_point_of_ours_claims_a_tier_and_names_its_page() -> None:
    path = quality.beside("keystead.providers.local")
    assert path is not None
    assert YAML(typ="safe").load(path.read_text())["providers"].keys() == published()
    for name in published():
        said = quality.of_class(registry.provider_class(name), name)
        assert said.tier is not None, name
        assert said.documentation == f"docs/providers/{name}.md"
