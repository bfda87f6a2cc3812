"""The provider `local` keeps the rules of Bronze; it has no network and no remote to be drilled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keystead.providers.local import LocalConfig, LocalProvider
from keystead.testing import ProviderSuite


class TestLocal(ProviderSuite):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> LocalProvider:
        files = {}
        for version in ("1", "2"):
            files[version] = tmp_path / f"key.{version}"
            files[version].touch(mode=0o600)
            files[version].write_bytes(os.urandom(32))
        return LocalProvider(LocalConfig(name="k", provider="local", keyFiles=files))
