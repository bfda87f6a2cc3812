"""The packages of adapters/, which count as installed where a test needs one, as `pip install -e` would have it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

ADAPTERS = Path(__file__).parents[2] / "adapters"


def installed(adapter: Path, site: Path) -> str:
    """Write into the new directory `site` what pip would, and return the PYTHONPATH with which the package is found."""
    project = tomllib.loads((adapter / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {target}\n" for entry, target in project["entry-points"]["keystead.providers"].items()]
    (info / "entry_points.txt").write_text("[keystead.providers]\n" + "".join(lines))
    return os.pathsep.join(map(str, (site, adapter / "src")))
