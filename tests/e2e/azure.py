"""The project's FAKE of Azure behind `keystead-azure`: a vault whose RSA key another plugin had before us, over TLS."""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from keystead.testing import FaultProxy
from support.adapters import ADAPTERS, installed

ADAPTER = ADAPTERS / "keystead-azure"


class Azure:
    """The key `kek` of the vault `lab`. `environment` is what a program needs that is to have the provider."""

    name = "azure-key-vault"

    def __init__(self, directory: Path) -> None:
        """Serve it. There is a newer version by now, as its page asks for, which the other plugin does not know."""
        self.stack = ExitStack()
        """Ends what was started."""
        self.fake = self.stack.enter_context(_fakes().FakeAzure("RSA").serve())
        kek = self.fake.keys["kek"]
        self.old_version: str = kek.current
        kek.add(int(time.time()))
        line = FaultProxy()
        self.stack.callback(line.close)
        line.to(self.fake.address, tls=True)
        secret_file = directory / "azure-secret"
        secret_file.touch(mode=0o600)
        secret_file.write_text(self.fake.secret)
        self.key: dict[str, Any] = {
            "name": self.name,
            "provider": self.name,
            "vault": "lab",
            "keyName": "kek",
            "address": f"https://{line.address}",
            "caFile": str(line.ca_file),
            "auth": {
                "method": "clientSecret",
                "tenantID": "lab",
                "clientID": "node",
                "secretFile": str(secret_file),
                "address": f"https://{line.address}",
            },
        }
        self.environment = [f"PYTHONPATH={installed(ADAPTER, directory / 'site')}"]


def _fakes() -> Any:
    """The fake of the adapter's own tests. It needs the adapter, which nothing has installed for these tests."""
    places = [str(ADAPTER / "src"), str(ADAPTER / "tests"), *sys.path]
    with mock.patch.object(sys, "path", places):
        return importlib.import_module("fake_azure")
