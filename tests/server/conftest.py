from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import Served, served, short_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture(scope="module")
def plugin() -> Iterator[Served]:
    """One served endpoint for all tests of a module that leave it as it was."""
    with short_directory() as path, served(path) as plugin:
        yield plugin
