"""Any provider against a real KMS, with the keys and the credentials of whoever runs it.

`KEYSTEAD_REAL_KEYS` names a file with a list of entries of `keys:`, or a whole configuration, of which only those are
used. The conformance suite runs over each, and a whole `keystead serve`. Nothing is made, changed or deleted there:
some hundreds of calls of Encrypt and Decrypt are all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from keystead import registry
from keystead.provider import Provider
from keystead.testing import ProviderSuite
from support.process import serving
from support.serving import Client, short_directory

FILE = os.environ.get("KEYSTEAD_REAL_KEYS")
if FILE is None:
    pytest.skip("NOT TESTED against a real KMS: KEYSTEAD_REAL_KEYS names no file of keys", allow_module_level=True)

SEED = bytes(range(32))
PATIENCE = 60.0
"""Seconds that a cloud may take until the first local KEK is there."""


def entries() -> list[dict[str, Any]]:
    """The keys of the file."""
    found = YAML(typ="safe").load(Path(str(FILE)).read_text())
    keys: list[dict[str, Any]] = found["keys"] if isinstance(found, dict) else found
    assert keys, f"{FILE} has no keys"
    return keys


@pytest.fixture(params=entries(), ids=lambda entry: f"{entry['provider']}-{entry['name']}")
def entry(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One key of the file."""
    chosen: dict[str, Any] = request.param
    return chosen


class TestRealKms(ProviderSuite):
    """The rules that need neither a fault nor the right to administer the key."""

    @pytest.fixture
    def provider(self, entry: dict[str, Any]) -> Provider[Any]:
        cls = registry.provider_class(entry["provider"])
        return cls(cls.config_type.model_validate(entry))


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_what_a_whole_plugin_wrote_is_read_after_its_restart(entry: dict[str, Any], directory: Path) -> None:
    if registry.provider_class(entry["provider"]).capabilities.authenticated_wrap is False:
        pytest.skip("NOT TESTED: a key for recovery is no key to run on")
    endpoint = {
        "name": "main",
        "socket": f"unix://{directory}/kms.sock",
        "epoch": 1,
        "members": [{"key": entry["name"], "stage": "active"}],
    }
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": os.environ.get("KEYSTEAD_REAL_CLUSTER", "keystead-test"),
        "stateDir": str(directory / "state"),
        "keys": [entry],
        "endpoints": [endpoint],
        "observability": {"http": {"address": ""}, "logging": {"format": "json"}},
    }
    (directory / "config.yaml").write_text(json.dumps(document, default=str))
    arguments, socket, log = (
        ["--config", str(directory / "config.yaml")],
        f"unix:{directory}/kms.sock",
        directory / "log",
    )
    with serving(arguments, socket, log) as process:
        key_id = process.until_ok(PATIENCE)
        sealed = process.client.seal(SEED)
        assert process.stop() == 0
    with serving(arguments, socket, log) as process:
        assert process.until_ok(PATIENCE) == key_id
        client = Client(socket)
        try:
            assert client.decrypt(sealed) == SEED
        finally:
            client.close()
        assert process.stop() == 0
