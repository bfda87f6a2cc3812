"""The driver that kills a process at each step of writing a state file: `state_writer ROOT OLD NEW HOW`.

OLD and NEW are files in hexadecimal digits; OLD may be empty.
"""

from __future__ import annotations

import sys
from pathlib import Path

from keystead._core import StateFile
from keystead.host.state import StateDir
from support.killed import for_each_call


def main(root: Path, old: str, new: str, how: str) -> None:
    """Write OLD once, and let each child replace a copy of it."""
    template = root / "template"
    template.mkdir()
    if old:
        StateDir(template / "main").write(StateFile.parse(bytes.fromhex(old)))
    replacement = StateFile.parse(bytes.fromhex(new))
    for_each_call(lambda directory: StateDir(directory / "main").write(replacement), root, how, template)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
