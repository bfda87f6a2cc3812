from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_azure import AzureSandbox, FakeAzure
from keystead_azure import AzureProvider, KeyVaultProvider, ManagedHsmProvider

KINDS = {"oct-HSM": ManagedHsmProvider, "RSA": KeyVaultProvider}


def build(azure: FakeAzure, sandbox: AzureSandbox, address: str = "", **fields: object) -> AzureProvider:
    """Make a provider for a fake, which reaches it at `address`."""
    provider_type = KINDS[azure.keys["kek"].kind]
    address = address or f"http://{azure.address}"
    auth = {"method": "clientSecret", "tenantID": "lab", "clientID": "node", "secretFile": str(sandbox.file)}
    given = {
        "name": "k",
        "provider": provider_type.config_type.model_fields["provider"].annotation.__args__[0],
        "vault": "Lab",
        "keyName": "kek",
        "address": address,
        "auth": auth | {"address": f"http://{azure.address}"},
    }
    return provider_type(provider_type.config_type.model_validate(given | fields))


@pytest.fixture(params=KINDS)
def azure(request: pytest.FixtureRequest) -> Iterator[FakeAzure]:
    """A fake with one kind of keys, and then with the other."""
    with FakeAzure(request.param).serve() as azure:
        yield azure


@pytest.fixture
def sandbox(azure: FakeAzure, tmp_path: Path) -> AzureSandbox:
    return AzureSandbox(azure, tmp_path / "secret")
