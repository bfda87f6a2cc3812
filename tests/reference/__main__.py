"""Writes the pages and files that say what the program says: `make reference`."""

from __future__ import annotations

from reference.book import PAGES, ROOT, written
from reference.deploy import EXAMPLES, printed


def main() -> None:
    """Write each page anew below its mark, and each file of deploy/."""
    for name in PAGES:
        (ROOT / name).write_text(written(name))
        print(name)
    for name, words in EXAMPLES.items():
        (ROOT / "deploy" / name).write_text(printed(words))
        print(f"deploy/{name}")


if __name__ == "__main__":
    main()
