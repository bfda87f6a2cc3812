from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pkcs11", reason="NOT TESTED: no python-pkcs11; pip install -e '.[test]'")

from keystead_pkcs11 import Pkcs11Config, Pkcs11Provider
from softhsm import HsmSandbox, SoftHsm, module


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    module()
    return SoftHsm.at(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture
def sandbox(hsm: SoftHsm, tmp_path: Path) -> HsmSandbox:
    return hsm.token(tmp_path / "pin")


@pytest.fixture
def make(sandbox: HsmSandbox) -> Iterator[Callable[..., Pkcs11Provider]]:
    """Build a provider for the token, closed at the end; other fields are the configuration's."""
    made: list[Pkcs11Provider] = []

    def build(**fields: Any) -> Pkcs11Provider:
        given: dict[str, Any] = {
            "name": "k",
            "provider": "pkcs11",
            "module": module(),
            "tokenLabel": sandbox.label,
            "keyLabel": "kek",
            "pinFile": sandbox.pin_file,
        }
        made.append(Pkcs11Provider(Pkcs11Config(**(given | fields))))
        return made[-1]

    yield build
    for provider in made:
        provider.close()
