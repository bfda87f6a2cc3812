"""The pages of the providers have one shape, and the calls that they count are those that are made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from keystead import registry
from support.fakes import FakeProvider, members_of, rig_of, target_of

PAGES = Path(__file__).parents[2] / "docs/providers"
SHAPE = ["Configuration", "Environment", "Credentials", "Rights", "Example", "Rotation", "Cost", "Properties", "Errors"]
REMOTE = ["aws-kms", "gcp-kms", "vault-transit"]
PROBES_A_DAY = 24 * 60


@pytest.mark.parametrize("name", REMOTE)
def test_a_page_has_the_parts_of_every_page_in_their_order(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    heads = [head for head in re.findall(r"^## (.+)$", text, re.MULTILINE) if head in SHAPE]
    assert heads == SHAPE
    for head in SHAPE:
        assert len(text.partition(f"\n## {head}\n")[2].partition("\n## ")[0].split()) > 15, head


def test_every_provider_of_ours_has_a_page_with_its_fields_and_errors() -> None:
    ours = {one.name for one in registry.names() if one.distribution == "keystead"}
    assert ours == {page.stem for page in PAGES.glob("*.md")} >= {*REMOTE, "local", "age-x25519"}
    for name in ours:
        text = (PAGES / f"{name}.md").read_text()
        assert "\n## Configuration\n" in text
        assert "\n## Errors\n" in text


def calls_a_day() -> dict[str, int]:
    """What a day of probes costs an active key and one that decrypts."""
    active, old = FakeProvider("a"), FakeProvider("b")
    rig = rig_of(target_of(members_of(active, decrypt=(old,))))
    try:
        rig.tend()
        for _ in range(3):  # what a start does once is over
            rig.pass_time(60.0)
        for key in (active, old):
            key.calls.clear()
        for _ in range(10):
            rig.pass_time(60.0)
    finally:
        rig.endpoint.stop()
    scale = PROBES_A_DAY // 10
    return {
        "active": (active.calls["wrap"] + active.calls["unwrap"]) * scale,
        "`decrypt`": (old.calls["wrap"] + old.calls["unwrap"]) * scale,
    }


@pytest.mark.parametrize("name", REMOTE)
def test_a_page_counts_the_calls_of_a_node_and_a_day_as_they_are_made(name: str) -> None:
    cost = (PAGES / f"{name}.md").read_text().partition("\n## Cost\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (active|`decrypt`) \| ([0-9]+) \|", cost, re.MULTILINE)
    assert {key: int(count) for key, count in rows} == calls_a_day()


POLICIES = {
    "vault-transit": ("```hcl\n", "```"),
    "aws-kms": ("The smallest policy of the role or user for the cluster `prod-eu-1`:\n\n```json\n", "```"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_policy_on_the_page_is_what_the_provider_says(name: str) -> None:
    start, end = POLICIES[name]
    text = (PAGES / f"{name}.md").read_text()
    shown = text.partition(start)[2].partition(end)[0]
    every: dict[str, dict[str, Any]] = {
        "vault-transit": {
            "address": "https://vault.example:8200",
            "transitKey": "k8s",
            "auth": {"method": "token", "tokenFile": "/t"},
        },
        "aws-kms": {"keyID": "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
    }
    provider = registry.provider_class(name)
    said = provider(provider.config_type.model_validate({"name": "k", "provider": name, **every[name]})).policy(
        ["prod-eu-1"]
    )
    assert said is not None
    if name == "aws-kms":
        printed, on_page = json.loads(said), json.loads(shown)
        for statement in printed["Statement"]:
            condition = statement.get("Condition", {}).get("StringEquals", {})
            condition.update({key: value[0] for key, value in condition.items()})
        assert printed == on_page
    else:
        assert "".join(line for line in said.splitlines(keepends=True) if not line.startswith("#")) == shown
